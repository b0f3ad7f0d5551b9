"""Reading sessions for operators: one with all that it owns, whatever its state, and where ended ones' debts wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from sessionsweep.deployment import Core, partitions
from sessionsweep.model.holds import Hold
from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.session import SessionRecord, Tombstone
from sessionsweep.operator import holds
from sessionsweep.sessions.books import stats
from sessionsweep.sessions.view import Stats
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask


class Life(StrEnum):
    """How a session stands."""

    LIVE = "live"
    DUE = "due"  # dead to every request, and ended by the next sweep
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class SessionCase:
    """Everything that the store knows of one session; `now` is the store's time in ms."""

    session_id: str
    life: Life
    now: int
    record: SessionRecord | None
    tombstone: Tombstone | None
    resources: tuple[ResourceRecord, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits at one location: sessions that owe something there, and for how long (s) the oldest has been due."""

    location: str
    sessions: int
    oldest_due_seconds: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The books, the backlog, the holds that stand, how long ago (s) the last sweep ran and a beat was seen (None:
    never), and what workers raised an alarm about: it stops nothing, but somebody should know."""

    stats: Stats
    backlog: tuple[Backlog, ...]
    holds: tuple[Hold, ...] = field(default=())
    last_sweep_seconds_ago: float | None = None
    alarms: tuple[Hold, ...] = field(default=())
    beat_seconds_ago: float | None = None


def show(session_id: str) -> Flow[SessionCase | None]:
    """One session, live or ended. None: it never was, or ended owning nothing, or its receipt's time is over."""
    peeked = yield from ask(op.PeekSession(session_id))
    resources = yield from ask(op.ListResources(session_id))
    record, tombstone = peeked.record, peeked.tombstone
    if record is None and tombstone is None and not resources:
        return None
    life = Life.ENDED
    if record is not None:
        life = Life.DUE if peeked.is_due else Life.LIVE
    return SessionCase(session_id, life, peeked.now, record, tombstone, resources)


def overview(core: Core) -> Flow[Overview]:
    """All that `stats` shows; the cost doesn't grow with the number of sessions."""
    totals = yield from stats(core)
    waiting = yield from backlog(core)
    standing, now = yield from holds.listed()
    meta = yield from ask(op.Meta())
    alarms = tuple(Hold.read(*row) for row in sorted((yield from ask(op.Table("alarms"))).items()))
    return Overview(
        totals, waiting, tuple(standing), _ago(meta.get("last_sweep"), now), alarms, _ago(meta.get("beat_seen"), now)
    )


def _ago(at: str | None, now: int) -> float | None:
    return None if at is None else max(0.0, (now - int(at)) / 1000)


def backlog(core: Core) -> Flow[tuple[Backlog, ...]]:
    """Every location that is owed something, over all partitions."""
    found: dict[str, Backlog] = {}
    for partition in (yield from partitions(core)):
        for queue in (yield from ask(op.Queues(partition))):
            if queue.entries:
                known = found.get(queue.location, Backlog(queue.location, 0, 0.0))
                oldest = max(known.oldest_due_seconds, queue.oldest_due / 1000)
                found[queue.location] = Backlog(queue.location, known.sessions + queue.entries, oldest)
    return tuple(found[location] for location in sorted(found))
