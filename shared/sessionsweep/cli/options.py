"""Options and arguments that several commands share, checked where they are read."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sessionsweep.cli.output import note, printable
from sessionsweep.errors import ConfigurationError
from sessionsweep.model.ids import is_session_id
from sessionsweep.settings import Settings
from sessionsweep.units import parse_duration

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def volume_names(incomplete: str) -> list[str]:
    """For a shell's completion: names of this node's volumes. Of the environment alone: no store is asked on a Tab."""
    try:
        known = Settings.from_env().volumes
    except ConfigurationError:
        return []
    return [spec.name for spec in known if spec.name.startswith(incomplete)]


def session_id(text: str | None) -> str | None:
    """A session's id, or wrong usage. Whatever else it is may be a token, so it isn't repeated."""
    if text is not None and not is_session_id(text):
        hint = " A token is secret: give only the part before the dot." if "." in text else ""
        raise typer.BadParameter(f"that is no session id (20 lower-case letters and digits).{hint}")
    return text


def duration(text: str | None) -> float | None:
    """Seconds from `900`, `15m` or `1h30m`, or wrong usage."""
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} must be over 0")
    return seconds


def confirm(question: str, yes: bool) -> None:
    """Asks before something is ended, dropped, adopted or lifted: what can't be undone.

    Raises:
        typer.BadParameter: there is nobody to ask; typer.Exit(1): the answer is no.
    """
    if yes:
        return
    question = printable(question)
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Nobody is here to ask: say --yes.")
    if not typer.confirm(question, err=True):
        note("Nothing was done.")
        raise typer.Exit(1)
