"""Operations of the reclaim queues: lease, settle, and the dead letters that failing too often makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.states import Outcome
from sessionsweep.store.operations.base import Operation


@dataclass(frozen=True, slots=True)
class LeasedResource:
    """What a worker needs to destroy one resource. `purpose` helps an app's own reclaimer."""

    resource_id: str
    kind: str
    size: int
    tries: int
    purpose: str


@dataclass(frozen=True, slots=True)
class Leased:
    """`entries`: per session what is due. `next_due`: when the earliest remaining entry is due (0: none)."""

    entries: tuple[tuple[str, tuple[LeasedResource, ...]], ...]
    next_due: int
    now: int


@dataclass(frozen=True, slots=True)
class Lease(Operation[Leased]):
    """Takes due entries of one location for `duration`; they stay queued, so a dead worker costs one lease.

    The same lease id again returns the same batch. `bound` only narrows what is due (ms; 0: now).
    """

    partition: str
    location: str
    lease_id: str
    duration: int
    limit: int = 200
    bound: int = 0
    dead: bool = False  # the location itself is gone (a web process that died): live resources too, whatever their time
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class LeaseHeld(Operation[bool]):
    """Whether that lease still runs (re-read before each destroy batch)."""

    partition: str
    location: str
    lease_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Attempt:
    """What happened to one resource. `delay`: when to try again, from now (busy, failed)."""

    resource_id: str
    outcome: Outcome
    delay: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """`counted`: how many attempts changed the books; `dead`: ids that became dead letters; `left`: resources of
    the session still owed at this location; `size`: bytes that left the books."""

    counted: int
    dead: tuple[str, ...]
    left: int
    size: int


@dataclass(frozen=True, slots=True)
class Settle(Operation[Settled]):
    """Acknowledges attempts by resource id; each counts only if the record was there, late ones are welcome.

    `own`: the caller owns a live resource (its writer discards it, its user promotes it): live records may go too.
    Failed ones back off; after `tries` failures a resource becomes a dead letter.
    """

    session_id: str
    location: str
    attempts: tuple[Attempt, ...]
    tries: int = 8
    retention: int = 86_400_000
    own: bool = False
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """One location's queue: entries, and how long (ms, at least 1) the oldest has been due (0: none is due)."""

    location: str
    entries: int
    oldest_due: int


@dataclass(frozen=True, slots=True)
class Queues(Operation[tuple[QueueDepth, ...]]):
    """Every location of a partition that has owed something."""

    partition: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A resource that failed too often."""

    session_id: str
    record: ResourceRecord


@dataclass(frozen=True, slots=True)
class DeadLetters(Operation[tuple[DeadLetter, ...]]):
    """Dead letters of a partition, oldest first."""

    partition: str
    offset: int = 0
    limit: int = 100
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RetryDead(Operation[bool]):
    """A dead letter becomes owed again, due now. False: it isn't one."""

    session_id: str
    resource_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DropDead(Operation[bool]):
    """A dead letter is forgotten: what it named stays where it is, and is nobody's."""

    session_id: str
    resource_id: str
    retention: int = 86_400_000
    repeatable: ClassVar[bool] = True
