"""A worker's log: each event is one line, whatever strangers put into it (ASVS 16.4.1)."""

from __future__ import annotations

import logging
import sys

import pytest

from sessionsweep_workers.logs import Fields

FORGED = "\n[2030-01-01 00:00:00,000: CRITICAL/MainProcess] forged"


def formatted(message: str, *args: object, extra: dict[str, object] | None = None, exc: bool = False) -> str:
    record = logging.getLogger("x").makeRecord(
        "x", logging.WARNING, __file__, 1, message, args, sys.exc_info() if exc else None, extra=extra
    )
    return Fields("[%(levelname)s] %(message)s").format(record)


@pytest.mark.parametrize("cut", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1e", "\x85", "\u2028", "\u2029"])
def test_nothing_in_a_message_or_a_field_begins_a_line(cut: str) -> None:
    line = formatted("task %s", f"id{cut}FORGED", extra={"user": f"ana{cut}FORGED"})
    assert len(line.splitlines()) == 1
    assert line.startswith("[WARNING] task id")
    assert line.count("FORGED") == 2


def test_a_terminal_is_not_steered() -> None:
    assert "\x1b" not in formatted("\x1b[2J%s", "\x9b2J", extra={"agent": "\x1b]0;x\x07"})


@pytest.mark.parametrize("steer", ["\x1b[2J", "\r", "\x85", "\u202e", "\u2066"])
def test_neither_by_an_errors_text(steer: str) -> None:
    try:
        getattr(steer, f"{steer}FORGED")
    except AttributeError:
        text = formatted(f"failed {steer}", exc=True)
    assert steer not in text
    assert "FORGED" in text.splitlines()[-1]
    assert text.splitlines()[-1].startswith("    AttributeError")


def test_an_errors_text_is_told_apart_from_the_log() -> None:
    try:
        int(FORGED)
    except ValueError:
        first, *rest = formatted("failed", exc=True).splitlines()
    assert first == "[WARNING] failed"
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_fields_stand_behind_the_message() -> None:
    assert formatted("held", extra={"volume": "a", "why": "x y"}) == "[WARNING] held volume=a why=x y"
