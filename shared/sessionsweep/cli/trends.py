"""`stats --since`: what was done in each minute, hour or day, as a table with bars and a line for each total."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.output import brief, print_json, print_pairs, print_table, say
from sessionsweep.model import books
from sessionsweep.model.snapshots import ENDED_BY, SESSIONS, Step
from sessionsweep.operator.trends import Period, Trends, of_trends, step_for, trends
from sessionsweep.units import format_size, moment

BAR = 8  # characters of the longest bar
LINE = 48  # of a line
_LEVELS = {True: "▁▂▃▄▅▆▇█", False: "_.-:=+*#"}  # whether the terminal's encoding has blocks
_WHEN = {Step.MINUTE: "%H:%M", Step.HOUR: "%m-%d %H:%M", Step.DAY: "%Y-%m-%d"}


def print_trends(seconds: float | None, by: str | None, as_json: bool) -> None:
    """Prints the last `seconds` (None: as long as that step is kept) by minute, hour or day (None: whichever suits).

    Raises:
        typer.BadParameter: there is no such step, or it isn't kept for so long.
    """
    try:
        step = step_for(seconds, by)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with deployment() as here:
        found = trends(here.core, here.store, step, seconds)
    if as_json:
        print_json(of_trends(found))
        return
    if found.whole is None:
        say("Nothing is known yet: a worker, or the in-process sweeper, writes the first snapshot within a minute.")
        return
    print_pairs(_totals(found, found.whole))
    say("")
    most = max(period.done[books.ENDED] for period in found.periods)
    columns = ("FROM", ">CREATED", ">ENDED", "", ">MEAN", ">PEAK", ">RECLAIMED", ">FREED")
    print_table(columns, [_row(period, step, most) for period in found.periods], "")
    if not found.periods[-1].complete:
        say(f"The last {step} still runs.")
    if found.whole.restarted:
        say("? the books had gone back (the store was emptied or restored): what was done then isn't known.")


def _totals(found: Trends, whole: Period) -> list[tuple[str, object]]:
    def line(field: str) -> str:
        return f"{whole.done[field]:>9,}  {spark([period.done[field] for period in found.periods])}"

    reclaimed = [period.reclaimed for period in found.periods]
    mean = whole.mean_duration
    return [
        (
            "period",
            f"{moment(whole.since):%Y-%m-%d %H:%M} to {moment(whole.until):%Y-%m-%d %H:%M} UTC, by {found.step}",
        ),
        ("created", line(books.CREATED)),
        ("ended", line(books.ENDED)),
        *((f"  {reason}", line(field)) for reason, field in ENDED_BY.items() if whole.done[field]),
        ("mean", "-" if mean is None else brief(mean)),
        ("resources", line(books.REGISTERED)),
        ("reclaimed", f"{whole.reclaimed:>9,}  {spark(reclaimed)}"),
        ("freed", format_size(whole.bytes_deleted)),
        ("peak", f"{whole.peaks[SESSIONS]:,} sessions, {format_size(whole.peaks[books.ACTIVE_BYTES])}"),
        ("dead", f"{whole.peaks[books.DEAD]:,} dead letters at most, {whole.stands[books.DEAD]:,} now"),
    ]


def _row(period: Period, step: Step, most: int) -> tuple[object, ...]:
    since = moment(period.since)
    if period.restarted:
        return (f"{since:{_WHEN[step]}}", "?", "?", "", "?", "?", "?", "?")
    mean, ended = period.mean_duration, period.done[books.ENDED]
    return (
        f"{since:{_WHEN[step]}}",
        f"{period.done[books.CREATED]:,}",
        f"{ended:,}",
        bar(ended, most),
        "-" if mean is None else brief(mean),
        f"{period.peaks[SESSIONS]:,}",
        f"{period.reclaimed:,}",
        _about(period.bytes_deleted),
    )


def _about(size: int) -> str:
    """Three digits of it: rows are compared, not added up."""
    return format_size(round(size, 3 - len(str(size))))


def bar(number: int, most: int) -> str:
    """As long as `number` is of `most`; never nothing for something."""
    length = round(BAR * number / most) if most else 0
    return ("█" if _has_blocks() else "#") * max(length, int(number > 0))


def spark(numbers: Sequence[int]) -> str:
    """One character for each number, or for as many together as fit the line; blank for none."""
    together = -(-len(numbers) // LINE) or 1
    sums = [sum(numbers[at : at + together]) for at in range(0, len(numbers), together)]
    levels, most = _LEVELS[_has_blocks()], max(sums, default=0)
    return "".join(levels[-(-n * len(levels) // most) - 1] if n else " " for n in sums).rstrip()


def _has_blocks() -> bool:
    try:
        "█▁".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
