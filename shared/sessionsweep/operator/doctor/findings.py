"""What an examination finds: how grave it is, in words, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How grave a finding is."""

    OK = "ok"
    WARNING = "warning"  # works, but will hurt: see to it in daylight
    FAILURE = "failure"  # something isn't served, cleaned or safe now
    UNKNOWN = "unknown"  # it could not be asked


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix` is empty where there is nothing to do."""

    area: str
    level: Level
    text: str
    fix: str = ""


def ok(area: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(area, Level.OK, text)


def warning(area: str, text: str, fix: str) -> Finding:
    """See to it in daylight."""
    return Finding(area, Level.WARNING, text, fix)


def failure(area: str, text: str, fix: str) -> Finding:
    """See to it now."""
    return Finding(area, Level.FAILURE, text, fix)


def unknown(area: str, text: str, fix: str = "") -> Finding:
    """It could not be asked: that is neither good nor bad."""
    return Finding(area, Level.UNKNOWN, text, fix)
