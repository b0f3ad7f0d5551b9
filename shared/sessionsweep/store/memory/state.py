"""What the in-memory store holds: sessions, what they own, and the partitions' wheels, queues and books."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from sessionsweep.model.ids import random_text
from sessionsweep.model.receipts import ReceiptPlace
from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.states import ResourceState
from sessionsweep.store.memory.clock import MemoryClock
from sessionsweep.store.memory.events import EventLog
from sessionsweep.store.memory.nudges import Nudges
from sessionsweep.store.memory.timed import TimedSet, Wheel

#: Later than everything: no absolute end, a queue entry that never comes due, a confirmed place in a book.
FAR = 10**15
STRIPES = 4096  # a power of two


class More:
    """What only some sessions have; all others share `NOTHING_MORE`."""

    __slots__ = (
        "agent", "alias", "bytes_used", "data", "flags", "ip", "keep", "node", "resources", "streams", "user",
    )  # fmt: skip

    def __init__(self) -> None:
        self.keep = 0
        self.flags = 0
        self.resources = 0
        self.streams = 0
        self.bytes_used = 0
        self.user: str | None = None
        self.alias = ""
        self.ip: str | None = None
        self.agent: str | None = None
        self.node = ""
        self.data: dict[str, bytes] = {}  # replaced, never changed: replies may still hold it


NOTHING_MORE = More()


class Session:
    """A live session. Eight slots, because every further one costs 8 bytes a session.

    `seal` is the secret's hash, 16 bytes, and the fingerprints of both address families, 3 bytes each:
    together they fit the block that the hash alone would take.
    """

    __slots__ = ("created", "filed", "idle", "last", "max", "more", "requests", "seal")

    def __init__(self, seal: bytes, now: int, idle: int, longest: int, filed: int, more: More) -> None:
        self.seal = seal
        self.created = now
        self.last = now
        self.idle = idle
        self.max = longest
        self.filed = filed
        self.requests = 1
        self.more = more

    def own_more(self) -> More:
        """Its own `More`, to be changed."""
        if self.more is NOTHING_MORE:
            self.more = More()
        return self.more

    def idle_end(self) -> int:
        """When it is idle too long; a keep-alive defers that."""
        return max(self.last + self.idle, self.more.keep)

    def absolute_end(self) -> int:
        """When it is too old; nothing defers that."""
        return self.created + self.max if self.max > 0 else FAR

    def due(self) -> int:
        """The earlier of both."""
        return min(self.idle_end(), self.absolute_end())


class Resource:
    """One resource's record, changed in place; replies get copies."""

    __slots__ = ("created", "error", "kind", "location", "purpose", "size", "state", "till", "tries", "used")

    def __init__(
        self, state: ResourceState, kind: str, location: str, size: int, now: int, till: int, purpose: str
    ) -> None:
        self.state = state
        self.kind = kind
        self.location = location
        self.size = size
        self.created = now
        self.used = now
        self.till = till
        self.tries = 0
        self.purpose = purpose
        self.error = ""

    def copy_out(self, resource_id: str) -> ResourceRecord:
        """The record as replies carry it."""
        return ResourceRecord(
            resource_id, self.state, self.kind, self.location, self.size, self.created, self.used, self.till,
            self.tries, self.purpose, self.error,
        )  # fmt: skip


class Holdings:
    """What one session owns or defers: records, every location it ever used, (token, until, resource)."""

    __slots__ = ("deferrals", "places", "records")

    def __init__(self) -> None:
        self.records: dict[str, Resource] = {}
        self.places: dict[str, None] = {}
        self.deferrals: list[tuple[str, int, str]] = []


class Grave:
    """An ended session's tombstone. `base` is when its resources are due, `due` the same with keep-alives.

    `owned`, `owned_bytes`: what it had; `places`: location → what became of it there. `expires` is 0 while it owes
    anything; then the tombstone is a receipt, and it is forgotten at that time.
    """

    __slots__ = (
        "base", "created", "due", "ended", "expires", "owned", "owned_bytes", "places", "reason", "user",
    )  # fmt: skip

    def __init__(self, reason: str, ended: int, created: int, user: str | None, base: int, due: int) -> None:
        self.reason = reason
        self.ended = ended
        self.created = created
        self.user = user
        self.base = base
        self.due = due
        self.owned = 0
        self.owned_bytes = 0
        self.places: dict[str, ReceiptPlace] = {}
        self.expires = 0

    def note(self, location: str, now: int, more: Counter[str], error: str | None = None) -> None:
        """Adds to what became, at one location, of what the session had; `more` counts by the receipt's words."""
        was = self.places.get(location, ReceiptPlace(location))
        left = more["deleted"] + more["gone"] + more["promoted"] + more["forgotten"] > 0
        self.places[location] = ReceiptPlace(
            location,
            was.deleted + more["deleted"],
            was.bytes_deleted + more["bytes"],
            was.gone + more["gone"],
            was.promoted + more["promoted"],
            was.forgotten + more["forgotten"],
            now if left else was.last,
            was.failures + more["failed"],
            now if more["failed"] else was.failed_at,
            max(0, was.dead_letters + more["dead"]),
            was.error if error is None else error,
        )


class Batch:
    """The session ids of one lease, and when it lapses."""

    __slots__ = ("expires", "ids")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.expires = 0


class Sightings:
    """When orphan candidates were first seen, and when the list is forgotten."""

    __slots__ = ("expires", "first")

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        self.expires = 0


class Partition:
    """Everything of one partition but its live sessions. Read and written under `lock` only."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.wheel = Wheel()
        self.holdings: dict[str, Holdings] = {}
        self.graves: dict[str, Grave] = {}
        self.receipts: TimedSet[str] = TimedSet()
        self.bare: TimedSet[str] = TimedSet()  # ended, owing nothing: until what was reserved for them is over
        self.intents: TimedSet[tuple[str, str]] = TimedSet()
        self.queues: dict[str, TimedSet[str]] = {}  # a location that was ever used stays, but for dead processes
        self.batches: dict[tuple[str, str], Batch] = {}
        self.dead: TimedSet[tuple[str, str]] = TimedSet()
        self.outbox: deque[bytes] = deque()
        self.aliases: dict[str, str] = {}
        self.counters: Counter[str] = Counter()
        self.run_id: str | None = None
        self.run_since = 0  # when another run than this was last noticed to be over
        self.held_until = 0
        self.latest = 0  # the last time that mending noted, and since when the clock has not gone back
        self.steady_since = 0
        self.sightings: dict[tuple[str, str], Sightings] = {}
        self.scans: dict[int, list[str]] = {}
        self.events = EventLog()  # it has a lock of its own

    def grave(self, session_id: str, now: int) -> Grave | None:
        """The tombstone or receipt of an ended session, if it isn't forgotten."""
        self.forget(now)
        return self.graves.get(session_id)

    def had(self, session_id: str, now: int) -> bool:
        """Whether a session of that id has ended, as far as that is still known."""
        return self.grave(session_id, now) is not None or session_id in self.bare.times

    def forget(self, now: int) -> None:
        """Drops the receipts whose retention is over, and what ended without one."""
        while (session_id := self.receipts.take_until(now)) is not None:
            self.graves.pop(session_id, None)
        while self.bare.take_until(now) is not None:
            pass

    def own(self, session_id: str) -> Holdings:
        """A session's holdings, made if there are none."""
        held = self.holdings.get(session_id)
        if held is None:
            held = self.holdings[session_id] = Holdings()
        return held

    def queue(self, location: str) -> TimedSet[str]:
        """A location's queue, made if there is none."""
        queue = self.queues.get(location)
        if queue is None:
            queue = self.queues[location] = TimedSet()
        return queue


class State:
    """All of it, and the locks.

    Order of locks: a partition's, then one stripe; no step holds two stripes. A stripe covers the live
    sessions whose ids hash to it, and opening a session takes nothing else: with one lock for all, four
    threads do a fifth of what one does, because whoever is descheduled while it holds the lock stops
    everybody; among 4,096 the next thread runs on.
    """

    def __init__(self, namespace: str, clock: Callable[[], int] | None, run_id: str | None) -> None:
        self.namespace = namespace
        self.clock = MemoryClock(clock)
        self.run_id = run_id or random_text(40)
        self.sessions: dict[str, Session] = {}
        self.stripes = [threading.Lock() for _ in range(STRIPES)]
        self.partitions: dict[str, Partition] = {}
        self.nudges = Nudges()
        self.durations: dict[int, int] = {}
        #: what belongs to no partition: users' books, quotas and the deployment's tables
        self.common = threading.Lock()
        self.books: dict[str | None, dict[str, int]] = {}
        self.quotas: dict[str, dict[str, tuple[int, int]]] = {}  # share → (bytes, deadline)
        self.meta: dict[str, str] = {}
        self.tables: dict[str, dict[str, str]] = {}
        self.leases: dict[str, tuple[str, int]] = {}

    def stripe(self, session_id: str) -> threading.Lock:
        """The lock of a live session."""
        return self.stripes[hash(session_id) & (STRIPES - 1)]

    def partition(self, name: str) -> Partition:
        """The partition of that name."""
        found = self.partitions.get(name)
        # setdefault is one step, so two threads get the same partition
        return found if found is not None else self.partitions.setdefault(name, Partition(name))

    def one_object(self, duration: int) -> int:
        """One int object per timeout: sessions share timeouts, and an int of its own costs each 32 bytes."""
        if len(self.durations) > 1000:
            return duration
        return self.durations.setdefault(duration, duration)
