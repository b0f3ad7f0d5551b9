"""`dead-letters`: what could not be reclaimed, tried again or forgotten."""

from __future__ import annotations

from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json, Yes, confirm
from sessionsweep.cli.output import count, note, print_json, print_listing, say
from sessionsweep.cli.watching import Watch, Watchable, watched
from sessionsweep.errors import SessionSweepError
from sessionsweep.operator import causes, dead_letters, fields, naming
from sessionsweep.operator.reached import Deployment
from sessionsweep.store.operations import DeadLetter
from sessionsweep.units import format_size

app = typer.Typer(no_args_is_help=True, help="Resources that could not be reclaimed.")
Id = Annotated[str | None, typer.Argument(metavar="ID", help="The resource's id.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


@app.command("list", cls=Watchable)
def list_(watch: Watch = None, as_json: Json = False) -> None:
    """List what failed too often: where it lies, and why."""
    watched(watch, as_json, lambda: _list(as_json))


def _list(as_json: bool) -> None:
    with deployment() as here:
        letters = here.run(dead_letters.listed(here.core))
        names = here.run(naming.names(here.core))
    if as_json:
        print_json([fields.of_dead_letter(letter, names) for letter in letters])
        return
    rows = []
    for letter in letters:
        r = letter.record
        where = names.path(letter.session_id, r)
        place = f"{names.label(r.location)}: {where}" if where else names.label(r.location)
        row = (r.resource_id, letter.session_id, format_size(r.size), r.tries)
        rows.append((row, [place, causes.explained(r.error)]))
    print_listing(("ID", "SESSION", ">SIZE", ">TRIES"), rows, "No dead letters.")
    if letters:
        note("Once the cause is gone: sessionsweep dead-letters retry --all")


@app.command()
def retry(resource_id: Id = None, every: All = False) -> None:
    """Try again: owed again, due now, with fresh tries."""
    with deployment() as here:
        done = 0
        for letter in _chosen(here, resource_id, every):
            done += here.run(dead_letters.retry(letter))
    _report(done, "is owed again", "are owed again", resource_id)


@app.command()
def drop(resource_id: Id = None, every: All = False, yes: Yes = False) -> None:
    """Forget: the bytes stay where they are, and are nobody's."""
    with deployment() as here:
        letters = _chosen(here, resource_id, every)
        if letters:
            confirm(f"Forget {count(len(letters), 'dead letter')}, and leave the bytes where they are?", yes)
        done = sum(here.run(dead_letters.drop(here.core, letter)) for letter in letters)
    _report(done, "is forgotten", "are forgotten", resource_id)


def _chosen(here: Deployment, resource_id: str | None, every: bool) -> list[DeadLetter]:
    if (resource_id is None) == (not every):
        raise typer.BadParameter("give either a resource's id or --all")
    if resource_id is not None:
        return [here.run(dead_letters.find(here.core, resource_id))]
    return here.run(dead_letters.listed(here.core))


def _report(done: int, one: str, many: str, resource_id: str | None) -> None:
    if resource_id is not None and not done:
        raise SessionSweepError(f"{resource_id} was no dead letter any more; nothing was done.")
    say(f"{count(done, 'resource')} {one if done == 1 else many}.")
