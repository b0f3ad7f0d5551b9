"""`explain`: who owns something, in which state it is, why it is (not) deleted, and what happens next."""

from __future__ import annotations

from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json
from sessionsweep.cli.output import print_json, say
from sessionsweep.operator import explain as explaining


def explain(
    what: Annotated[str, typer.Argument(metavar="ID|PATH", help="A session, a resource, SESSION/RESOURCE, or a file.")],
    as_json: Json = False,
) -> None:
    """Say of a session, a resource or a file on disk who owns it, why it is (not) deleted, and what happens when."""
    with deployment() as here:
        found = explaining.explain(here.core, here.store, what)
    if as_json:
        print_json(found)
        return
    say(f"{found.subject}: {found.state}")
    for sentence in found.sentences:
        say(f"  {sentence}")
    for problem in found.problems:
        say(f"  ! {problem}")
