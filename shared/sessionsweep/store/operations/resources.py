"""Operations over what a session owns: register, grow, commit, release, use, list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sessionsweep.model.resource import ResourceRecord
from sessionsweep.store.operations.base import Operation


@dataclass(frozen=True, slots=True)
class Registered:
    """`status`: ok, ended, limit:resources, limit:bytes, limit:streams, lapsed (its share's time is over), unknown
    (grow or commit of an id that is no longer an intent), again (only some of the room was made, because no script may
    take long: the same call once more).
    `evicted`: ids that went owed to make room. `until`: when the intent is overdue."""

    status: str
    evicted: tuple[str, ...] = ()
    until: int = 0


@dataclass(frozen=True, slots=True)
class Register(Operation[Registered]):
    """Registers a resource before its first byte (an intent), or a live one at once (`live`: streams, objects).

    Reserves `size`. At a limit the least recently used go, never an intent, a pinned one or a stream.
    """

    session_id: str
    resource_id: str
    kind: str
    location: str
    size: int
    purpose: str = ""
    live: bool = False
    intent_timeout: int = 900_000
    max_resources: int = 100
    max_bytes: int = 100_000_000
    max_streams: int = 20
    quota: bool = False  # it holds a share of its user's quota
    not_after: int = 0  # deadline of that share's reservation (ms); later nothing is made. 0: none
    user: str = ""  # whose share that is; should the session be another's by now, it has lapsed. Empty: not asked
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Grow(Operation[Registered]):
    """Raises an intent's reservation to `size` (never lowers it) and renews its deadline.

    `tell`: a refusal is told as an event; not where the caller would be content with less, and asks again.
    """

    session_id: str
    resource_id: str
    size: int
    intent_timeout: int = 900_000
    max_bytes: int = 100_000_000
    tell: bool = True
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Commit(Operation[Registered]):
    """Makes an intent live at its true size, which can only lower the reservation. Again = success."""

    session_id: str
    resource_id: str
    size: int
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Release(Operation[bool]):
    """A live resource or intent of a live session becomes owed: its location's queue gets it. False: not there.

    True also for one that is given up already: the answer to the first word may have been lost.
    """

    session_id: str
    resource_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class UseResource(Operation["ResourceRecord | None"]):
    """Marks a live resource as just used (the eviction order) and returns it; None: not live here."""

    session_id: str
    resource_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class LiveResources(Operation[tuple[ResourceRecord, ...]]):
    """All records of a session that is live, whatever their state; none of one that has ended or is due."""

    session_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ListResources(Operation[tuple[ResourceRecord, ...]]):
    """All records of a session, whatever their state, also after its end."""

    session_id: str
    repeatable: ClassVar[bool] = True
