"""`--watch [SECONDS]`: a reading command looks again and again until Ctrl-C; on a terminal, in place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text
from typer.core import TyperCommand

from sessionsweep.cli.options import duration
from sessionsweep.cli.output import complain, drawn, lines_of_json, out, say
from sessionsweep.errors import StoreError
from sessionsweep.units import format_duration

EVERY = "2"  # seconds between two looks, where none are said

Watch = Annotated[
    str | None,
    typer.Option(
        "--watch",
        metavar="[SECONDS]",
        callback=duration,
        help=f"Look again every so often ({EVERY} s) until Ctrl-C; with --json, one line a look.",
    ),
]


class Watchable(TyperCommand):
    """A command whose `--watch` may stand without its seconds; it takes no positional argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Says the seconds where they aren't said."""
        said: list[str] = []
        for word, following in pairwise([*args, "--"]):
            said += [word, EVERY] if word == "--watch" and following.startswith("-") else [word]
        return super().parse_args(ctx, said)


def watched(every: Any, as_json: bool, look: Callable[[], None]) -> None:
    """Calls `look`, which prints, once; or every so many seconds (what `Watch` read) until Ctrl-C, which is no failure.

    A store that is away at the first look is an error; at a later one it is told, and looked for again.
    """
    if every is None:
        look()
        return
    try:
        if as_json:
            with lines_of_json():
                _repeat(every, look, lambda error: complain(str(error)))
        elif out().is_terminal:
            _in_place(every, look)
        else:
            _repeat(every, lambda: _dated(look), lambda error: complain(str(error)))
    except KeyboardInterrupt:
        return


def _repeat(every: float, look: Callable[[], None], tell: Callable[[StoreError], None]) -> None:
    look()
    while True:
        threading.Event().wait(every)
        try:
            look()
        except StoreError as error:  # a server that restarts is why somebody watches
            tell(error)


def _in_place(every: float, look: Callable[[], None]) -> None:
    with Live(console=out(), auto_refresh=False, vertical_overflow="ellipsis") as live:

        def draw(print_it: Callable[[], None]) -> None:
            with drawn() as page:
                print_it()
            head = Text(f"{_now()}, every {format_duration(every)}; Ctrl-C ends it", style="dim")
            live.update(Group(head, Text(), page()), refresh=True)

        _repeat(every, lambda: draw(look), lambda error: draw(lambda: complain(str(error))))


def _dated(look: Callable[[], None]) -> None:
    """Into a file or a pipe: one look after the other, each below its time."""
    say(f"-- {_now()}")
    look()


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
