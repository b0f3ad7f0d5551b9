"""`users end`: ends a user's sessions, or everybody's."""

from __future__ import annotations

from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Yes, confirm, session_id
from sessionsweep.cli.output import count, say, waiting
from sessionsweep.cli.passes import fail_unreadable
from sessionsweep.model.states import EndReason
from sessionsweep.operator.endings import end_all

app = typer.Typer(no_args_is_help=True, help="Users.")


@app.callback()
def group() -> None:
    """Users."""


@app.command()
def end(
    user: Annotated[str | None, typer.Argument(metavar="USER", help="Whose sessions end.")] = None,
    except_id: Annotated[
        str | None, typer.Option("--except", metavar="ID", help="This session lives on.", callback=session_id)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="End every session of the deployment.")] = False,
    yes: Yes = False,
) -> None:
    """End every session of a user (ASVS 7.4.3), or of the whole deployment (after a roll-back)."""
    if (user is None) == (not every):
        raise typer.BadParameter("give either a user or --all")
    if every and except_id is not None:
        raise typer.BadParameter("--except goes with a user, not with --all")
    if user is not None:
        confirm(f"End {'every other session' if except_id else 'every session'} of {user!r}?", yes)
    with deployment() as here:
        if user is not None:
            ended = here.sessions.end_user(user, except_id=except_id, reason=EndReason.ADMIN)
            say(f"Ended {count(ended, 'session')}.")
            return
        alive = here.sessions.stats().active_sessions
        confirm(f"End every session of this deployment ({alive:,} by its books)?", yes)
        with waiting("ending all sessions") as progress:
            task = progress.task_ids[0]
            progress.update(task, total=max(alive, 1))
            done = end_all(here.core, here.store, lambda ended: progress.update(task, completed=ended))
        say(f"Ended {count(done.ended, 'session')}; {count(done.owed, 'resource')} owed.")
        fail_unreadable(done)
