"""`nodes`: whose worker lives, and what each mounts."""

from __future__ import annotations

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json
from sessionsweep.cli.output import brief, print_json, print_listing
from sessionsweep.cli.watching import Watch, Watchable, watched
from sessionsweep.operator import fields, nodes

app = typer.Typer(no_args_is_help=True, help="Nodes, by their workers' heartbeats.")


@app.callback()
def group() -> None:
    """Nodes, by their workers' heartbeats."""


@app.command("list", cls=Watchable)
def list_(watch: Watch = None, as_json: Json = False) -> None:
    """List the nodes that were seen in the last week: whose worker lives, and which volumes it mounts."""
    watched(watch, as_json, lambda: _list(as_json))


def _list(as_json: bool) -> None:
    with deployment() as here:
        found = here.run(nodes.listed(here.core))
    if as_json:
        print_json([fields.of_node(node) for node in found])
        return
    rows = [((node.name, _state(node), _seen(node), _mounts(node)), ()) for node in found]
    print_listing(("NODE", "WORKER", ">SEEN", "VOLUMES"), rows, "No worker was ever seen.")


def _state(node: nodes.Node) -> str:
    if not node.readable:
        return "UNKNOWN"
    return "alive" if node.alive else "SILENT"


def _seen(node: nodes.Node) -> str:
    return f"{brief(node.seen_seconds_ago)} ago" if node.readable else "-"


def _mounts(node: nodes.Node) -> str:
    return " ".join(sorted(node.volumes.values())) or "-"
