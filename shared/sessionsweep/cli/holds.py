"""`holds`: what stops destruction, and lifting it."""

from __future__ import annotations

from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json, Yes, confirm
from sessionsweep.cli.output import brief, print_json, print_pairs, say
from sessionsweep.cli.watching import Watch, Watchable, watched
from sessionsweep.model.holds import Hold
from sessionsweep.operator import fields, holds, nodes
from sessionsweep.operator.advice import advice

app = typer.Typer(no_args_is_help=True, help="What stops destruction, because the state can't be trusted.")


@app.command("list", cls=Watchable)
def list_(watch: Watch = None, as_json: Json = False) -> None:
    """List the holds: what happened, what each stops, what to do, and when it ends."""
    watched(watch, as_json, lambda: _list(as_json))


def _list(as_json: bool) -> None:
    with deployment() as here:
        standing, now = here.run(holds.listed())
        seen = {node.name: node for node in here.run(nodes.listed(here.core))}
    if as_json:
        print_json([fields.of_hold(hold, now) for hold in standing])
        return
    for number, hold in enumerate(standing):
        if number:
            say("")
        print_pairs(_pairs(hold, now, seen.get(hold.node)))
    if not standing:
        say("No holds.")


def _pairs(hold: Hold, now: int, node: nodes.Node | None) -> list[tuple[str, object]]:
    told = advice(hold)
    ends = f"by itself in {brief((hold.until - now) / 1000)}" if hold.until else told.ends
    seen_by = hold.node or "-"
    if hold.node and (node is None or not node.alive):
        silent = "not seen for a week" if node is None else f"silent for {brief(node.seen_seconds_ago)}"
        seen_by = f"{hold.node}, whose worker is {silent} now"
    return [
        ("scope", hold.scope),
        ("reason", f"{hold.reason}, {brief((now - hold.since) / 1000)} ago"),
        ("seen by", seen_by),
        ("what", hold.text),
        ("stopped", told.stops),
        ("do", told.remedy),
        ("ends", ends),
    ]


@app.command()
def lift(
    scope: Annotated[str, typer.Argument(help="A hold's scope: all, idle, volume:ID, orphans:ID or mount:NODE/NAME.")],
    yes: Yes = False,
) -> None:
    """Lift a hold: destruction goes on. Your word that the store is to be trusted."""
    confirm(f"Lift the hold on {scope}, so that deleting goes on?", yes)
    with deployment() as here:
        hold = here.run(holds.lift(here.core, scope))
    say(f"Lifted the hold on {hold.scope} ({hold.reason}).")
    if hold.reason == "rolled-back":
        say("Tokens logged out since the snapshot may live again; to end all: sessionsweep users end --all")
