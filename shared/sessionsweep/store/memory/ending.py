"""When a session ends, and the one step that ends it."""

from __future__ import annotations

from sessionsweep.model import books
from sessionsweep.model.events import EventName
from sessionsweep.model.resource import KINDS
from sessionsweep.model.session import FLAG_TOTAL_BOOK, FLAG_USER_BOOK, FLAG_USER_QUOTA
from sessionsweep.model.states import EndReason, ResourceState
from sessionsweep.store.memory.state import Grave, Partition, Resource, Session, State


def reason_due(session: Session, now: int, idle_for: int = 0) -> EndReason | None:
    """Why it is over by now; None while it isn't. Too old counts before too idle.

    `idle_for` (ms): idle is who was untouched for so long, in place of the session's own timeout; 0: its own.
    """
    if now >= session.absolute_end():
        return EndReason.EXPIRED
    idle_end = max(session.last + idle_for, session.more.keep) if idle_for else session.idle_end()
    return EndReason.IDLE if now >= idle_end else None


def is_over(state: State, partition: Partition, session: Session, now: int) -> bool:
    """Whether every request is refused: too old, or too idle while idle ends aren't held."""
    reason = reason_due(session, now)
    return reason is EndReason.EXPIRED or (reason is EndReason.IDLE and not idle_held(state, partition, now))


def idle_held(state: State, partition: Partition, now: int) -> bool:
    """Whether idle ends are held: another run, be it noted yet or not, may have forgotten touches."""
    return partition.held_until > now or partition.run_id not in (None, state.run_id)


def held_until(state: State, partition: Partition, now: int, hold: int) -> int:
    """Until when idle ends are stopped here; 0: they aren't. A changed run id stops them for `hold` ms."""
    notice_run(state, partition, now, hold)
    return partition.held_until if partition.held_until > now else 0


_DAY = 86_400_000  # ms
RESERVED = 60_001  # ms: a reservation lasts 60 s, its last millisecond included


def notice_run(state: State, partition: Partition, now: int, hold: int) -> int:
    """Since when this run is known (ms); 0: no other was ever seen. Another one stops idle ends for `hold` ms."""
    if partition.held_until > now + max(hold, _DAY):  # further ahead than any hold lasts
        partition.held_until = now + hold
    if partition.run_id != state.run_id:
        if partition.run_id is not None:
            partition.run_since, partition.held_until = now, max(partition.held_until, now + hold)
        partition.run_id = state.run_id
    return partition.run_since


def end(
    state: State, partition: Partition, session_id: str, session: Session, now: int, reason: str, grace: int
) -> tuple[int, tuple[str, ...]]:
    """Ends a live session; answers how much became owed, and the locations whose queues now hold it.

    O(locations): the records stay as they are, and count as owed because their session isn't live. The caller
    holds the partition's lock and the session's stripe.
    """
    more = session.more
    del state.sessions[session_id]
    # An end said ahead of time (a sweep of what is idle for less than its timeout) counts from now.
    base = now
    if reason == EndReason.IDLE:
        base = min(now, session.idle_end()) + grace
    elif reason == EndReason.EXPIRED:
        base = min(now, session.absolute_end()) + grace
    due = max(base, more.keep)
    if more.alias:
        partition.aliases.pop(more.alias, None)

    owed = more.resources + more.streams
    places: tuple[str, ...] = ()
    holdings = partition.holdings.get(session_id)
    if holdings is not None and holdings.records:
        grave = Grave(reason, now, session.created, more.user, base, due)
        grave.owned, grave.owned_bytes = len(holdings.records), more.bytes_used
        partition.graves[session_id] = grave
        places = tuple(holdings.places)
        for place in places:
            # a process's streams are closed at once: the grace is for requests that still read a file
            when = now if place.startswith("p.") else due
            partition.queue(place).put_earlier(session_id, when)
            if when <= now:
                state.nudges.tell(place)
        move_books(partition, -owed, -more.bytes_used, owed, more.bytes_used)
        partition.counters[books.STREAMS] -= more.streams
    else:
        partition.holdings.pop(session_id, None)
        if more.flags & (FLAG_USER_BOOK | FLAG_TOTAL_BOOK) or now - session.created < RESERVED:
            # no tombstone says that it was: a `create` that is sent again must not make it anew without a place
            partition.bare.put(session_id, now + RESERVED)

    count = partition.counters
    count[books.ENDED] += 1
    count[f"{books.ENDED}:{reason}"] += 1
    count[books.LIFETIME] += max(0, now - session.created)
    if more.flags & FLAG_USER_BOOK:
        owe_place(partition, "user", session_id, more.user)
    if more.flags & FLAG_TOTAL_BOOK:
        owe_place(partition, "total", session_id, None)
    if more.flags & FLAG_USER_QUOTA:
        owe_place(partition, "user", session_id, more.user, "*")
    partition.events.add(now, {"e": EventName.SESSION_ENDED, "s": session_id, "reason": str(reason), "owed": str(owed)})
    return owed, places


def move_books(partition: Partition, active: int, active_bytes: int, owed: int, owed_bytes: int) -> None:
    """Adds to the books of what is active and what is owed."""
    count = partition.counters
    count[books.ACTIVE] += active
    count[books.ACTIVE_BYTES] += active_bytes
    count[books.OWED] += owed
    count[books.OWED_BYTES] += owed_bytes


def owe_place(
    partition: Partition, book: str, session_id: str, user: str | None, resource_id: str = "", before: int = 0
) -> None:
    """Puts a place to give back, in a book elsewhere, into the outbox. `before`: as in `OutboxEntry`."""
    what = f"{resource_id}@{before}" if before else resource_id
    partition.outbox.append("\0".join((book, session_id, user or "", what)).encode())


def due_time(resource: Resource, *, live: bool, grave: Grave | None) -> int | None:
    """When a resource may be destroyed; None: not as things are.

    In a live session only what was given up. In an ended one everything but dead letters: what was live or
    not yet committed waits for the grace period and keep-alives, and for its own pin; a stream for nothing.
    """
    if resource.state is ResourceState.OWED:
        return resource.till
    if live or resource.state is ResourceState.DEAD:
        return None
    if resource.kind == KINDS["stream"]:
        return 0
    after_end = grave.due if grave is not None else 0
    return after_end if resource.state is ResourceState.INTENT else max(after_end, resource.till)
