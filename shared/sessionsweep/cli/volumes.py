"""`volumes`: list, make, adopt and forget storage roots."""

from __future__ import annotations

from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment, warn_if_forgetful
from sessionsweep.cli.options import Json, Yes, confirm, volume_names
from sessionsweep.cli.output import count, note, print_json, print_listing, say
from sessionsweep.cli.watching import Watch, Watchable, watched
from sessionsweep.operator import volumes
from sessionsweep.settings import VolumeSpec
from sessionsweep.settings_values import parse_volumes
from sessionsweep.units import format_size

app = typer.Typer(no_args_is_help=True, help="Storage roots.")


@app.command("list", cls=Watchable)
def list_(watch: Watch = None, as_json: Json = False) -> None:
    """List the volumes that the store or a worker knows, and this node's. Makes and opens none."""
    watched(watch, as_json, lambda: _list(as_json))


def _list(as_json: bool) -> None:
    with deployment() as here:
        rows = here.run(volumes.listed(here.core))
        warn_if_forgetful(here)
    if as_json:
        print_json(rows)
    else:
        columns = ("ID", "NAME", "STATE", ">OWING", "HOLD", "NODES")
        print_listing(columns, [(_cells(row), _below(row)) for row in rows], "No volumes.")


def _cells(row: volumes.VolumeRow) -> tuple[object, ...]:
    name = row.name + (" (ephemeral)" if row.ephemeral else "")
    return row.id or "-", name, row.state, f"{row.owing_sessions:,}", row.hold or "-", " ".join(row.nodes) or "-"


def _below(row: volumes.VolumeRow) -> list[str]:
    if not row.path:
        return []
    if row.disk is None:
        return [row.path]
    return [f"{row.path}: disk {row.disk.full:.0%} full, {format_size(row.disk.free)} free"]


def _spec(text: str) -> VolumeSpec:
    try:
        specs = parse_volumes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if len(specs) != 1:
        raise typer.BadParameter(f"{text!r} is not one NAME=/PATH")
    return specs[0]


@app.command()
def init(volume: Annotated[str, typer.Argument(metavar="NAME=/PATH", help="Its name and its empty folder.")]) -> None:
    """Make an empty folder a volume. (A worker does so by itself with the volumes of SESSIONSWEEP_VOLUMES.)"""
    spec = _spec(volume)
    with deployment() as here:
        made, new = here.run(volumes.init(here.core, spec))
        say(f"{'Made' if new else 'It is already'} volume {made.name} ({made.id}) at {made.root}.")
        if spec.name not in {known.name for known in here.settings.volumes}:
            note(f"Node {here.settings.node} doesn't use it yet: add {spec} to SESSIONSWEEP_VOLUMES.")


@app.command()
def adopt(
    name: Annotated[
        str,
        typer.Argument(help="Its name in SESSIONSWEEP_VOLUMES of this node.", autocompletion=volume_names),
    ],
    yes: Yes = False,
) -> None:
    """Take a volume, with its files, into this deployment: after the store was emptied, or with a moved disk."""
    confirm(f"Take volume {name} into this deployment, with all files on it, and lift its holds?", yes)
    with deployment() as here:
        volume = here.run(volumes.adopt(here.core, name))
    say(f"Adopted volume {volume.name} ({volume.id}) at {volume.root}; its holds are lifted.")
    say("Files that no session owns are found by the orphan pass; see: sessionsweep sweep orphans --dry-run")


@app.command()
def forget(
    volume: Annotated[
        str,
        typer.Argument(
            metavar="ID|NAME", help="The volume's id, or its name if only one has it.", autocompletion=volume_names
        ),
    ],
    yes: Yes = False,
) -> None:
    """Close all debts of a volume that is gone for good. Touches no file."""
    confirm(f"Forget volume {volume}, and everything that sessions own on it?", yes)
    with deployment() as here:
        gone = here.run(volumes.forget(here.core, volume))
    say(
        f"Forgot volume {gone.name} ({gone.volume_id}): {count(gone.resources, 'resource')}, {format_size(gone.bytes)} "
        "closed as forgotten."
    )
