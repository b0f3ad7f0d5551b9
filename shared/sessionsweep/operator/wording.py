"""Numbers and durations as people read them; text of strangers made harmless."""

from __future__ import annotations

from sessionsweep.model.session import Tombstone
from sessionsweep.units import format_duration


def brief(seconds: float) -> str:
    """A duration in its two largest units: `3d4h`, `1h2m`, `12s`."""
    if seconds < 1:
        return "0s"
    whole = int(seconds)
    for unit, smaller in ((86400, 3600), (3600, 60)):
        if whole >= unit:
            whole -= whole % smaller
            break
    return format_duration(whole)


def count(number: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def owing(tombstone: Tombstone) -> str:
    """What an ended session still owes: what workers try, and what waits for an operator."""
    dead = tombstone.dead_letters
    waiting = count(tombstone.owed - dead, "resource")
    return f"{waiting} and {count(dead, 'dead letter')}" if dead else waiting


def printable(text: object) -> str:
    """`text` with everything that could steer a terminal or forge a line (control and format characters) escaped.

    User names, user agents and purposes come from strangers (ASVS 16.4.1).
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
