"""What each pass did, in counts, bytes and seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


class Result:
    """A result that can be a task's return value."""

    def as_dict(self) -> dict[str, Any]:
        """Only what isn't zero or empty, and always the seconds."""
        values = asdict(self)  # type: ignore[call-overload]
        return {k: round(v, 3) if k == "seconds" else v for k, v in values.items() if v or k == "seconds"}


@dataclass
class SweepResult(Result):
    """`idle`, `expired`: sessions ended for that reason; `more`: the time budget ran out before the end."""

    idle: int = 0
    expired: int = 0
    refiled: int = 0
    stale: int = 0
    owed: int = 0  # resources that became owed
    intents: int = 0  # overdue ones
    released: int = 0  # places given back
    would_end: int = 0  # observe mode
    idle_held_until: int = 0  # ms
    more: bool = False
    seconds: float = 0.0


@dataclass
class ReclaimResult(Result):
    """Resources by what became of them, over all the locations that were worked on."""

    deleted: int = 0
    gone: int = 0
    busy: int = 0
    failed: int = 0
    dead: int = 0  # became dead letters
    bytes: int = 0
    would_delete: int = 0  # observe mode
    held: list[str] = field(default_factory=list)  # locations where destruction stopped: a hold, or a failing disk
    more: bool = False
    seconds: float = 0.0
    next_due: int = 0  # ms: when the earliest waiting entry is due; 0: nothing waits


@dataclass
class OrphanResult(Result):
    """`files`: looked at; `candidates`: owner-less; `destroyed`: seen twice, removed; `readopted`: registered again."""

    files: int = 0
    candidates: int = 0
    destroyed: int = 0
    readopted: int = 0
    missing: int = 0  # records without bytes, closed as gone
    mended: int = 0  # sessions whose keys were put right
    strangers: int = 0  # names on a volume that are not ours: left alone
    unreadable: int = 0  # could not be looked at: unknown, not gone
    confirm_in: float = 0.0  # seconds after which another pass can confirm what this one sighted first
    would_destroy: int = 0  # observe mode
    held: list[str] = field(default_factory=list)
    bytes: int = 0
    more: bool = False
    seconds: float = 0.0
