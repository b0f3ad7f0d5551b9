"""What the command line prints: tables that fit 80 columns, JSON, messages; to where they go, or onto a page."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sessionsweep.operator.wording import brief, count, printable

__all__ = [
    "brief", "complain", "count", "drawn", "err", "lines_of_json", "note", "out", "print_json", "print_listing",
    "print_pairs", "print_table", "printable", "quiet_logs", "say", "waiting",
]  # fmt: skip

UNBROKEN = ("ID", "FILE", "SESSION", "SETTING")  # columns to be copied from: they never wrap
_page: ContextVar[Console | None] = ContextVar("page", default=None)  # where all goes while one look is drawn
_indent: ContextVar[int | None] = ContextVar("indent", default=2)  # None: a JSON document is one line


def out() -> Console:
    """Standard output as it is now; no colour when it is no terminal, or NO_COLOR is set."""
    return _page.get() or Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def err() -> Console:
    """Standard error, likewise."""
    return _page.get() or Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


@contextmanager
def drawn() -> Iterator[Callable[[], Text]]:
    """What the block prints goes nowhere; the function that this gives tells it, colours and all."""
    page = io.StringIO()
    like = out()
    # measured before: a page of its own width would fold tables other than the terminal does
    console = Console(
        file=page, width=like.width, force_terminal=like.is_terminal, highlight=False, markup=False, emoji=False
    )
    token = _page.set(console)
    try:
        yield lambda: Text.from_ansi(page.getvalue(), overflow="fold")
    finally:
        _page.reset(token)


@contextmanager
def lines_of_json() -> Iterator[None]:
    """Within the block a JSON document is one line, out as soon as it is whole."""
    token = _indent.set(None)
    try:
        yield
    finally:
        _indent.reset(token)


def say(message: str) -> None:
    """One line of a result for people."""
    out().print(Text(printable(message)), soft_wrap=True)


def note(message: str) -> None:
    """A remark beside the result, on standard error."""
    err().print(Text(printable(message)), soft_wrap=True, style="yellow")


def complain(message: str) -> None:
    """Why it failed, on standard error: each fault on its line, indented so that none looks like another message."""
    told = "\n  ".join(printable(line) for line in message.split("\n"))
    err().print(Text(f"error: {told}"), soft_wrap=True, style="red")


def print_json(value: Any) -> None:
    """One JSON document: dataclasses as objects, times as ISO 8601 with their offset."""
    sys.stdout.write(json.dumps(value, indent=_indent.get(), default=_encode) + "\n")
    sys.stdout.flush()  # whoever watches through a pipe waits for it


def _encode(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table; a column whose name begins with `>` is aligned right. Long text is folded, never cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.lstrip(">"),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=right or column in UNBROKEN,
        )
    count = 0
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
        count += 1
    if count:
        out().print(table)
    else:
        say(empty)


def print_listing(columns: Sequence[str], rows: Iterable[tuple[Sequence[object], Sequence[str]]], empty: str) -> None:
    """A table whose rows have lines of their own below them. Nothing is folded: paths are copied from here."""
    cells = [([printable(cell) for cell in row], lines) for row, lines in rows]
    if not cells:
        say(empty)
        return
    heads = [column.lstrip(">") for column in columns]
    widths = [max(map(len, column)) for column in zip(heads, *(row for row, _ in cells), strict=True)]

    def aligned(row: Sequence[str]) -> str:
        pairs = zip(columns, row, widths, strict=True)
        return "  ".join(c.rjust(w) if name.startswith(">") else c.ljust(w) for name, c, w in pairs).rstrip()

    out().print(Text(aligned(heads), style="bold"), soft_wrap=True)
    for row, lines in cells:
        say(aligned(row))
        for line in lines:
            say(f"    {printable(line)}")


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one to a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(printable(name)), Text(printable(value)))
    out().print(table)


@contextmanager
def waiting(what: str) -> Iterator[Progress]:
    """A progress bar on standard error while something takes its time; nothing where that is no terminal."""
    console = err()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield progress


def quiet_logs() -> None:
    """The library's log lines are for services: a command says by itself what happened."""
    logger = logging.getLogger("sessionsweep")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
