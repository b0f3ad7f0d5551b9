"""`stats --since`: what was done, by the minute, hour or day."""

from __future__ import annotations

import pytest
from command_line import Deployment
from typer.testing import CliRunner

from sessionsweep.cli import trends
from sessionsweep.cli.app import app
from sessionsweep.model import books
from sessionsweep.model.snapshots import Snapshot, Step
from sessionsweep.store import operations as op


def history(cli: Deployment, step: Step, created: list[int]) -> None:
    """Snapshots up to now, of a deployment where so many sessions were created in each step, and ended in the next."""
    now = cli.store.execute(op.Facts()).now
    counts = {books.CREATED: 0, books.ENDED: 0, "ended:idle": 0, books.LIFETIME: 0, books.DELETED_BYTES: 0}
    for at, number in enumerate([*created, 0]):
        moment = now - step.ms * (len(created) - at)
        row = Snapshot.of(moment, counts).encode()
        cli.store.execute(op.TablePut(step.table, str(step.number(moment)), row))
        ended = created[at - 1] if at else 0
        counts[books.CREATED] += number
        counts[books.ENDED] += ended
        counts["ended:idle"] += ended
        counts[books.LIFETIME] += ended * 90_000
        counts[books.DELETED_BYTES] += ended * 1000
    cli.store.execute(op.Count("00", counts))


def test_a_day_by_the_hour(cli: Deployment) -> None:
    history(cli, Step.HOUR, [10, 0, 40, 20])  # each owned 1 kB
    shown = cli("stats", "--since", "24h").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "40 kB" in shown
    lines = shown.splitlines()
    totals = dict(line.split(maxsplit=1) for line in lines[: lines.index("")])
    assert totals["created"].split()[0] == "70"
    assert totals["idle"].startswith("70")
    assert totals["mean"].rstrip() == "1m30s"
    head, *rows = lines[lines.index("") + 1 : -1]
    assert head.split() == ["FROM", "CREATED", "ENDED", "MEAN", "PEAK", "RECLAIMED", "FREED"]
    assert [row.split()[2] for row in rows[:4]] == ["10", "0", "40", "20"]
    assert max(row.count("█") for row in rows) == trends.BAR
    assert lines[-1] == "The last hour still runs."


def test_its_json_adds_up(cli: Deployment) -> None:
    history(cli, Step.DAY, [3, 4, 5])
    told = cli("stats", "--since", "30d", "--json").json()
    assert told["by"] == "day"
    assert [period["sessions_created"] for period in told["periods"]][:3] == [3, 4, 5]
    assert told["total"]["sessions_created"] == 12
    assert told["total"]["ended_by_reason"] == {"idle": 12}
    assert told["total"]["mean_duration_seconds"] == 90
    assert told["periods"][0]["until"] == told["periods"][1]["since"]


def test_only_the_asked_for_time_is_told(cli: Deployment) -> None:
    history(cli, Step.HOUR, [1, 2, 4])
    told = cli("stats", "--since", "90m", "--by", "hour", "--json").json()
    assert told["total"]["sessions_created"] == 6
    whole = cli("stats", "--by", "hour", "--json").json()
    assert whole["total"]["sessions_created"] == 7


def test_before_the_first_snapshot(cli: Deployment) -> None:
    assert "Nothing is known yet" in cli("stats", "--since", "1h").out
    told = cli("stats", "--since", "1h", "--json").json()
    assert (told["periods"], told["total"]) == ([], None)


def test_books_that_went_back_are_told(cli: Deployment) -> None:
    history(cli, Step.HOUR, [5, 5])
    cli.store.execute(op.Count("00", {books.CREATED: -8}))
    shown = cli("stats", "--since", "1d").out
    assert "the books had gone back" in shown
    assert " ?" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--since", "yesterday"), "is not a duration"),
        (("--since", "0"), "must be over 0"),
        (("--since", "5y"), "is not a duration"),
        (("--since", "30d", "--by", "minute"), "minutes are kept for 3h"),
        (("--since", "100w"), "days are kept for 400d"),
        (("--since", "1h", "--by", "week"), "take minute, hour or day"),
        (("--by", "\x1b[31m"), "take minute, hour or day"),
    ],
)
def test_what_is_wrong_is_said(cli: Deployment, words: tuple[str, ...], says: str) -> None:
    answer = cli("stats", *words, status=2)
    assert says in " ".join(answer.err.replace("│", " ").split())
    assert "\x1b[31m" not in answer.err


def test_a_terminal_without_blocks_gets_ascii(cli: Deployment) -> None:
    history(cli, Step.HOUR, [10, 20])
    runner = CliRunner(charset="ascii", env={**cli.environ, "COLUMNS": "80"})
    shown = runner.invoke(app, ["stats", "--since", "24h"])
    assert shown.exit_code == 0, shown.output
    assert "########" in shown.stdout
    assert shown.stdout.isascii()


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ([], ""),
        ([0, 0], ""),
        ([1], "█"),
        ([1, 8], "▁█"),
        ([0, 1000, 1], " █▁"),
        ([1] * 480, "█" * 48),
        ([5, 0, 0], "█"),
    ],
)
def test_a_line_is_no_longer_than_it_may_be(numbers: list[int], line: str) -> None:
    assert trends.spark(numbers) == line


def test_much_fits_a_narrow_terminal(cli: Deployment) -> None:
    history(cli, Step.HOUR, [123_456] * 30)
    lines = cli("stats", "--since", "24h").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.startswith(("FROM", "The", "  ")) or line[2:3] == "-" for line in lines[lines.index("") + 1 :])
