"""Anti-entropy: holding one session's parts against each other, and naming every session there is."""

from __future__ import annotations

from collections.abc import Callable

from sessionsweep.model import books
from sessionsweep.model.events import EventName
from sessionsweep.model.session import Tombstone
from sessionsweep.model.states import EndReason, ResourceState
from sessionsweep.store.memory.backdating import AHEAD, DAY, backdate_grave, backdate_records, is_steady
from sessionsweep.store.memory.ending import move_books
from sessionsweep.store.memory.reclaim import close_debt, requeue
from sessionsweep.store.memory.replies import stone
from sessionsweep.store.memory.resources import STREAM
from sessionsweep.store.memory.state import FAR, Grave, Holdings, Partition, Session, Sightings, State
from sessionsweep.store.memory.steps import Step, partition_step, session_step
from sessionsweep.store.operations import Mend, Mended, Receipts, ScanSessions, Sight

MOST_SCANS = 4  # passes that may be under way at once


@session_step
def mend(state: State, partition: Partition, operation: Mend, now: int) -> Mended:
    """Repairs one session. In memory nothing gets lost, so this finds work only after a fault of ours."""
    session_id = operation.session_id
    session = state.sessions.get(session_id)
    steady = is_steady(partition, now)
    if session is not None:
        return Mended(_mend_live(state, partition, session_id, session, operation, now, steady=steady))
    holdings = partition.holdings.get(session_id)
    grave = partition.grave(session_id, now)
    if holdings is None or not holdings.records:
        partition.holdings.pop(session_id, None)
        if grave is None or grave.expires:
            return Mended("")
        partition.events.add(now, {"e": EventName.SESSION_RECLAIMED, "s": session_id})
        close_debt(partition, session_id, operation.retention, now)
        return Mended("closed")
    if grave is None:
        _bury(partition, session_id, holdings, now, operation.grace)
    put_back = backdate_records(partition, session_id, holdings, now, operation.grace, touched=False)
    if grave is not None:
        put_back = backdate_grave(grave, holdings, now, operation.grace) or put_back
    missing = _queue_again(state, partition, session_id, holdings, now, now + (AHEAD if put_back else DAY))
    if grave is None:
        return Mended("buried")
    return Mended("backdated" if put_back else "requeued" if missing else "")


def _mend_live(
    state: State, partition: Partition, session_id: str, session: Session, operation: Mend, now: int, *, steady: bool
) -> str:
    backdated = steady and session.last > now + AHEAD
    put_back, moved = backdated, False
    holdings = partition.holdings.get(session_id)
    if holdings is not None and (backdated or _is_stranded(partition, session_id, holdings, now)):
        put_back |= backdate_records(partition, session_id, holdings, now, operation.grace, touched=backdated)
        moved = _queue_again(state, partition, session_id, holdings, now, now + (AHEAD if put_back else DAY))
    if backdated:
        # never when it was made: were the clock behind after all, it would have expired when that is right again, and
        # no hold stops that
        session.last = now
    due, width = max(now, session.due()), operation.width
    latest = due + width if backdated else max(due, partition.held_until) + max(width, DAY)
    slot = partition.wheel.slots.get(session.filed)
    refiled = slot is None or not slot.ids or session.filed > latest
    if refiled:
        session.filed = partition.wheel.file(session_id, due, width)
    return "backdated" if put_back else "requeued" if moved else "refiled" if refiled else ""


def _is_stranded(partition: Partition, session_id: str, holdings: Holdings, now: int) -> bool:
    """Whether a queue has it so late that no grace and no back-off can be the reason."""
    queues = (partition.queues[place] for place in holdings.places if place in partition.queues)
    return any(now + DAY < queue.times.get(session_id, FAR) < FAR for queue in queues)


def _queue_again(
    state: State, partition: Partition, session_id: str, holdings: Holdings, now: int, latest: int
) -> bool:
    """Puts a session where it belongs in each queue that has it nowhere or too late; whether it was missing."""
    missing = False
    for place in holdings.places:
        queue = partition.queues.get(place)
        # an entry that never comes due was made for live streams: it is as good as none
        was = queue.times.get(session_id, FAR) if queue is not None else FAR
        if was > latest and requeue(state, partition, session_id, place, now) > 0:
            missing |= was >= FAR or partition.queue(place).times[session_id] < was
    return missing


def _bury(partition: Partition, session_id: str, holdings: Holdings, now: int, grace: int) -> None:
    """The session vanished without an end: what it owned is owed, after a grace."""
    buried = partition.graves[session_id] = Grave(EndReason.LOST, now, 0, None, now + grace, now + grace)
    number = size = 0
    for resource in holdings.records.values():
        if resource.state in (ResourceState.INTENT, ResourceState.LIVE):
            number += 1
            size += 0 if resource.kind == STREAM else resource.size
            partition.counters[books.STREAMS] -= resource.kind == STREAM
            if resource.till < now + grace:
                resource.state, resource.till = ResourceState.OWED, now + grace
    buried.owned, buried.owned_bytes = len(holdings.records), size
    move_books(partition, -number, -size, number, size)
    partition.counters[books.ENDED] += 1
    partition.counters[f"{books.ENDED}:{EndReason.LOST}"] += 1
    row = {"e": EventName.SESSION_ENDED, "s": session_id, "reason": EndReason.LOST, "owed": str(number)}
    partition.events.add(now, row)


@partition_step
def scan_sessions(state: State, partition: Partition, operation: ScanSessions, now: int) -> tuple[int, tuple[str, ...]]:
    """A slice of all ids. The first call notes them all, so that ids that come and go shift nothing.

    The cursor is (number of the scan) × 2³² + place. A cursor of a scan that is forgotten answers the end.
    """
    partition.forget(now)

    def every() -> list[str]:
        live = {sid for sid in list(state.sessions) if sid.startswith(partition.name)}
        return sorted(live | partition.holdings.keys() | partition.graves.keys())

    return _slice(partition, operation.cursor, operation.count, every)


@partition_step
def receipts(state: State, partition: Partition, operation: Receipts, now: int) -> tuple[int, tuple[Tombstone, ...]]:
    """A slice of the tombstones, walked as `scan_sessions` walks."""
    partition.forget(now)
    following, ids = _slice(partition, operation.cursor, operation.count, lambda: sorted(partition.graves))
    return following, tuple(stone(partition, sid, partition.graves[sid]) for sid in ids if sid in partition.graves)


def _slice(
    partition: Partition, cursor: int, count: int, every: Callable[[], list[str]]
) -> tuple[int, tuple[str, ...]]:
    number, place = divmod(cursor, 2**32)
    if cursor == 0:
        ids = every()
        number = max(partition.scans, default=0) + 1
        if len(partition.scans) >= MOST_SCANS:
            del partition.scans[min(partition.scans)]
        partition.scans[number] = ids
    ids = partition.scans.get(number, [])
    following = place + max(1, count)
    if following < len(ids):
        return number * 2**32 + following, tuple(ids[place:following])
    partition.scans.pop(number, None)
    return 0, tuple(ids[place:])


@partition_step
def sight(state: State, partition: Partition, operation: Sight, now: int) -> tuple[bool, ...]:
    """Notes orphan candidates, and says which are old acquaintances."""
    for lapsed in [key for key, seen in partition.sightings.items() if seen.expires <= now]:
        del partition.sightings[lapsed]
    key = (operation.volume, operation.run_id)
    seen = partition.sightings.get(key) or Sightings()
    # what was sighted and never again confirmed (it found its owner, or went) makes room after a while
    seen.first = {name: first for name, first in seen.first.items() if first > now - operation.ttl}
    for name in operation.forget:
        seen.first.pop(name, None)
    known: list[bool] = []
    for name in operation.names:
        first = seen.first.get(name)
        known.append(first is not None and now - first >= operation.age)
        if first is None and len(seen.first) <= operation.cap:
            seen.first[name] = now
    if seen.first:
        seen.expires = max(seen.expires, now + operation.ttl)
        partition.sightings[key] = seen
    else:
        partition.sightings.pop(key, None)
    return tuple(known)


STEPS: dict[type, Step] = {Mend: mend, ScanSessions: scan_sessions, Receipts: receipts, Sight: sight}
