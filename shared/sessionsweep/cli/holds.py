"""`holds`: what stops destruction, and lifting it."""

from __future__ import annotations

from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json
from sessionsweep.cli.output import brief, print_json, print_pairs, say
from sessionsweep.operator import holds

app = typer.Typer(no_args_is_help=True, help="What stops destruction, because the state can't be trusted.")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the holds: why, since when, and what lifts each."""
    with deployment() as here:
        standing, now = here.run(holds.listed())
    if as_json:
        print_json(
            [
                {
                    "scope": hold.scope,
                    "reason": hold.reason,
                    "text": hold.text,
                    "node": hold.node,
                    "age_seconds": (now - hold.since) / 1000,
                    "ends_in_seconds": (hold.until - now) / 1000 if hold.until else None,
                }
                for hold in standing
            ]
        )
        return
    for number, hold in enumerate(standing):
        if number:
            say("")
        ends = f"by itself in {brief((hold.until - now) / 1000)}" if hold.until else "when an operator lifts it"
        print_pairs(
            [
                ("scope", hold.scope),
                ("reason", hold.reason),
                ("age", brief((now - hold.since) / 1000)),
                ("ends", ends),
                ("seen by", hold.node or "-"),
                ("what", hold.text),
            ]
        )
    if not standing:
        say("No holds.")


@app.command()
def lift(
    scope: Annotated[str, typer.Argument(help="A hold's scope: all, idle, volume:ID or mount:NODE/NAME.")],
) -> None:
    """Lift a hold: destruction goes on. Your word that the store is to be trusted."""
    with deployment() as here:
        hold = here.run(holds.lift(here.core, scope))
    say(f"Lifted the hold on {hold.scope} ({hold.reason}).")
    if hold.reason == "rolled-back":
        say("Tokens logged out since the snapshot may live again; to end all: sessionsweep users end --all")
