"""All commands under one name, and what becomes of their errors: a message and exit status 1, never a traceback."""

from __future__ import annotations

import contextlib
import io
import sys
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sessionsweep.cli import (
    admin,
    config,
    dead_letters,
    doctor,
    events,
    explain,
    holds,
    nodes,
    owed,
    receipts,
    sessions,
    stats,
    sweep,
    up,
    users,
    volumes,
)
from sessionsweep.cli.output import complain
from sessionsweep.cli.watching import Watchable
from sessionsweep.errors import SessionSweepError

AT_THE_FIRST_TAB = 'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _sessionsweep_completion "$@"; fi\n'


class Commands(TyperGroup):
    """Turns every error of ours into a message on standard error and exit status 1 (click's own wrong usage: 2)."""

    def _main_shell_completion(self, *args: Any, **options: Any) -> None:
        """Typer's script for zsh begins with an empty line, and compinit reads a file's first line alone; loaded by
        it, the script would complete from the second Tab on."""
        with io.StringIO() as script:
            try:
                with contextlib.redirect_stdout(script):
                    super()._main_shell_completion(*args, **options)
            finally:
                text = script.getvalue().lstrip("\n")
                sys.stdout.write(text + (AT_THE_FIRST_TAB if text.startswith("#compdef ") else ""))

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except SessionSweepError as error:
            complain(str(error))
            raise typer.Exit(1) from None


def _say_version(ctx: typer.Context, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:  # a shell that completes a line parses it, too
        typer.echo(f"sessionsweep {metadata.version('sessionsweep')}")
        raise typer.Exit


app = typer.Typer(
    name="sessionsweep",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def sessionsweep(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sessions, and everything a session leaves behind. Settings come from SESSIONSWEEP_… variables."""


app.command("up")(up.up)
sessions.app.command("replay")(events.replay)
app.add_typer(sessions.app, name="sessions")
app.add_typer(users.app, name="users")
app.add_typer(sweep.app, name="sweep")
app.command("stats", cls=Watchable)(stats.stats)
app.add_typer(volumes.app, name="volumes")
app.add_typer(nodes.app, name="nodes")
app.add_typer(holds.app, name="holds")
app.add_typer(owed.app, name="owed")
app.add_typer(receipts.app, name="receipts")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)
app.command("events")(events.events)
app.command("explain")(explain.explain)
app.command("admin")(admin.admin)
