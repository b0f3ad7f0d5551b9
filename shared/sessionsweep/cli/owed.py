"""`owed`: what ended sessions still owe, how often it was tried and why it lies there; and trying it now."""

from __future__ import annotations

from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json, volume_names
from sessionsweep.cli.output import brief, count, note, print_json, print_listing, say, waiting
from sessionsweep.cli.watching import Watch, Watchable, watched
from sessionsweep.errors import SessionSweepError
from sessionsweep.operator import causes, fields, naming, owed
from sessionsweep.operator.naming import Names
from sessionsweep.operator.owed import OwedResource, Standing
from sessionsweep.units import format_size

app = typer.Typer(no_args_is_help=True, help="What ended sessions left, and still lies there.")

_WHY = {
    Standing.IN_USE: "in use when last tried: locked by a process (lsof), or pinned; no try was used",
    Standing.DUE: "due, and no worker has come to it: see sessionsweep stats",
    Standing.WAITING: "not yet: its grace period, a keep-alive, or a worker has it",
}


Volume = Annotated[
    str | None,
    typer.Option(metavar="NAME|ID", help="Only what lies on this volume.", autocompletion=volume_names),
]


@app.command("list", cls=Watchable)
def list_(
    volume: Volume = None,
    failing: Annotated[bool, typer.Option("--failing", help="Only what was tried and failed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on from an earlier list.")] = None,
    watch: Watch = None,
    as_json: Json = False,
) -> None:
    """List what is owed: tries, last error, next attempt, and its path. Dead letters are not among it."""
    watched(watch, as_json, lambda: _list(volume, failing, limit, cursor, as_json))


def _list(volume: str | None, failing: bool, limit: int, cursor: str | None, as_json: bool) -> None:
    with deployment() as here:
        names = here.run(naming.names(here.core))
        places = None if volume is None else names.locations(volume)
        try:
            found = owed.listed(here.core, here.store, places, cursor=cursor, limit=limit, failing=failing)
        except ValueError:
            raise typer.BadParameter(f"{cursor!r} is no cursor of a list; leave it out to begin anew") from None
    if as_json:
        rows = [fields.of_owed(one, names) for one in found.resources]
        print_json({"owed": rows, "next_cursor": found.next_cursor, "looked_at": found.looked_at})
        return
    print_listing(
        ("ID", "SESSION", ">SIZE", ">FOR", ">TRIES", ">NEXT"),
        [(_row(one), _below(one, names)) for one in found.resources],
        "Nothing is owed." if cursor is None and found.next_cursor is None else "None on this page.",
    )
    if found.next_cursor is not None:
        note(f"More: --cursor {found.next_cursor}")


@app.command()
def retry(
    resource_id: Annotated[str | None, typer.Argument(metavar="ID", help="The resource's id.")] = None,
    volume: Volume = None,
    every: Annotated[bool, typer.Option("--all", help="Whatever failed, on every volume.")] = False,
) -> None:
    """Try now what failed and backs off, once you have removed the cause. Its tries stay counted."""
    if (resource_id is not None) + (volume is not None) + every != 1:
        raise typer.BadParameter("give a resource's id, --volume, or --all")
    with deployment() as here:
        places = None if volume is None else here.run(naming.names(here.core)).locations(volume)
        with waiting("looking for what failed"):
            done, found = owed.try_now(here.core, here.store, places, resource_id)
    if resource_id is not None and not found:
        raise SessionSweepError(
            f"Nothing that failed and is owed has the id {resource_id!r}; see: sessionsweep owed list, "
            "sessionsweep dead-letters list"
        )
    due = f"; {found - done:,} were due already" if found > done else ""
    say(f"{count(done, 'resource')} {'is' if done == 1 else 'are'} due now{due}.")


def _row(one: OwedResource) -> tuple[object, ...]:
    r = one.record
    bound = "<" if one.ended is None else ""
    wait = one.next_attempt - one.now
    size, following = format_size(r.size), brief(wait / 1000) if wait > 0 else "now"
    return r.resource_id, one.session_id, size, bound + brief(one.owed_seconds), r.tries, following


def _below(one: OwedResource, names: Names) -> list[str]:
    r = one.record
    where = names.path(one.session_id, r)
    why = causes.explained(r.error) if one.standing is Standing.FAILING else _WHY[one.standing]
    return [f"{names.label(r.location)}: {where}" if where else names.label(r.location), why]
