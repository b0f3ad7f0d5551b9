"""Operations that only operators ask for: looking at what waits, and making it wait no longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sessionsweep.model.session import Tombstone
from sessionsweep.store.operations.base import Operation


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A session that owes something at a location, and when that is looked at next (ms)."""

    session_id: str
    next_attempt: int


@dataclass(frozen=True, slots=True)
class QueuePage(Operation[tuple[QueueEntry, ...]]):
    """At most `limit` entries of one location's queue, the first due on top: from the time `since` (ms) on, without
    the first `skip`. `latest`: the last due instead, the very last on top.

    What nobody moves meanwhile is found by going on at the last entry's time and skipping those that had it; an entry
    that a worker puts off is found again later. Streams of live sessions, which nobody owes, are left out.
    """

    partition: str
    location: str
    since: int = 0
    skip: int = 0
    limit: int = 100
    latest: bool = False
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Receipts(Operation[tuple[int, tuple[Tombstone, ...]]]):
    """A slice of a partition's tombstones and receipts, in no order: (the next cursor, 0: the end; what was found).

    `count`: keys to look at, of any kind. What is there throughout a walk is found at least once. A cursor whose walk
    is forgotten, or that never was one, finds anything or nothing, and leads to the end.
    """

    partition: str
    cursor: int = 0
    count: int = 200
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TryNow(Operation[bool]):
    """An owed resource that failed and backs off is due now; its tries stay counted. False: it doesn't back off."""

    session_id: str
    resource_id: str
    repeatable: ClassVar[bool] = True
