"""Flows over the books of users and of all sessions: exact limits without a lock across servers.

A place is reserved in the book (with a deadline), the session is bound in its own slot, and the place is confirmed.
Nobody is removed from a book unseen: at the limit the book names suspects, and each is looked at in its own slot.
After a crash a reservation may refuse somebody for at most 60 s; it never lets one too many in.
"""

from __future__ import annotations

import logging

from sessionsweep.deployment import Core, partitions
from sessionsweep.errors import LimitReachedError, StoreError
from sessionsweep.model.events import EventName
from sessionsweep.model.ids import partition_of
from sessionsweep.model.session import FLAG_TOTAL_BOOK, FLAG_USER_BOOK, SessionRecord
from sessionsweep.model.states import EndReason
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask
from sessionsweep.store.outbox import drain

log = logging.getLogger(__name__)


def reserve(core: Core, session_id: str, user: str | None) -> Flow[tuple[int, int]]:
    """Reserves what a new session needs: (its flags, the deadline by which it must be bound; 0: none).

    Raises:
        LimitReachedError: MAX_SESSIONS or MAX_SESSIONS_PER_USER is reached by sessions that are alive.
    """
    s = core.settings
    flags, not_after = 0, 0
    if s.max_sessions:
        not_after = yield from _take(core, None, session_id, s.max_sessions)
        flags |= FLAG_TOTAL_BOOK
    if user is not None:
        flags |= FLAG_USER_BOOK
        if s.max_sessions_per_user:
            try:
                deadline = yield from _take_users(core, user, session_id)
            except LimitReachedError:
                if flags & FLAG_TOTAL_BOOK:
                    yield from ask(op.GiveBack(None, session_id))
                raise
            not_after = min(not_after, deadline) if not_after else deadline
    return flags, not_after


def reserve_for_user(core: Core, record: SessionRecord, user: str) -> Flow[tuple[int, int]]:
    """Reserves a place with a user to whom a live session goes over: flags and deadline as `reserve` answers them.

    Where the session comes from another user, it may be coming back, and what it owes for its last time here is still
    to be delivered: then a place is reserved without a limit, too, so that it isn't without one for a moment.

    Raises:
        LimitReachedError: MAX_SESSIONS_PER_USER is reached by sessions that are alive.
    """
    if not core.settings.max_sessions_per_user and record.user is None:
        return FLAG_USER_BOOK, 0
    deadline = yield from _take_users(core, user, record.session_id, record.last_activity + 1)
    return FLAG_USER_BOOK, deadline if core.settings.max_sessions_per_user else 0


def confirm(record: SessionRecord, flags: int) -> Flow[None]:
    """Makes reserved places last; a user without a limit gets a place by this alone (for listing and ending).

    `record` is as it was answered when the session was bound: its last activity was that.
    """
    if flags & FLAG_TOTAL_BOOK:
        yield from ask(op.Confirm(None, record.session_id))
    if flags & FLAG_USER_BOOK and record.user is not None:
        yield from ask(op.Confirm(record.user, record.session_id, record.last_activity))


def give_back(session_id: str, user: str | None) -> Flow[None]:
    """Gives back places that were reserved and not used."""
    yield from ask(op.GiveBack(None, session_id))
    if user is not None:
        yield from ask(op.GiveBack(user, session_id))


def _take_users(core: Core, user: str, session_id: str, bound: int = 0) -> Flow[int]:
    s = core.settings
    return (yield from _take(core, user, session_id, s.max_sessions_per_user, s.on_user_limit == "end-oldest", bound))


def _take(
    core: Core, user: str | None, session_id: str, limit: int, end_oldest: bool = False, bound: int = 0
) -> Flow[int]:
    name = "MAX_SESSIONS" if user is None else "MAX_SESSIONS_PER_USER"
    for _ in range(8):
        reserved = yield from ask(op.Reserve(user, session_id, limit, suspects=min(limit, 1000), bound=bound))
        if reserved.ok:
            return reserved.deadline
        freed = (yield from _free_due(core)) if user is None else 0
        alive: list[str] = []
        for member in reserved.suspects:
            before = yield from look(core, user, member)
            if before is None:
                alive.append(member)
            else:
                freed += yield from ask(op.GiveBack(user, member, before=before))
        if not freed and end_oldest and alive:
            ended = yield from ask(op.EndSession(alive[0], EndReason.LIMIT))
            if ended.done:
                yield from ask(op.GiveBack(user, alive[0]))
                yield from drain(partition_of(alive[0]))
                freed = 1
        if not freed:
            break
    refusal = LimitReachedError(name, limit)
    yield from tell(refusal, user, session_id if bound else "")  # a session that never was has no events
    raise refusal


def tell(refusal: LimitReachedError, user: str | None, session_id: str = "") -> Flow[None]:
    """Tells that a limit of a user's, or of all sessions, refused something: at most once a second for each.

    What can't be told is only logged: it must not hide the refusal.
    """
    fields: dict[str, str | int] = {"limit": refusal.limit, "value": refusal.value, "user": user or ""}
    try:
        yield op.Emit(EventName.LIMIT_REACHED, session_id, fields, once=f"{refusal.limit} {user or ''}")
    except StoreError as error:
        log.warning("%s was reached, and no event tells of it: %s", refusal.limit, error)


def lapsed(core: Core, user: str | None) -> LimitReachedError:
    """For whoever came so late that what was reserved for it may be somebody else's by now."""
    s = core.settings
    name, limit = "MAX_SESSIONS", s.max_sessions
    if user is not None and s.max_sessions_per_user:
        name, limit = "MAX_SESSIONS_PER_USER", s.max_sessions_per_user
    return LimitReachedError(name, limit, f"The place reserved under {name}={limit} lapsed; try again.")


def _free_due(core: Core) -> Flow[int]:
    """Ends what is due but not yet swept, earliest first, so that dead sessions lock nobody out."""
    freed = 0
    for partition in (yield from partitions(core)):
        ids, _, _ = yield from ask(op.ListWheel(partition, limit=200))
        for session_id in ids:
            ended = yield from ask(
                op.EndSession(session_id, EndReason.IDLE, only_due=True, grace=core.grace, hold=core.hold)
            )
            freed += ended.done
        freed += yield from drain(partition, 500)
    return freed


def look(core: Core, user: str | None, member: str) -> Flow[int | None]:
    """Whether a place is free: its session is gone, or due (then it is ended here), or bound to somebody else.

    None: it is bound to its session; otherwise `before` of the GiveBack that may take it away.
    """
    ended = yield from ask(op.EndSession(member, EndReason.IDLE, only_due=True, grace=core.grace, hold=core.hold))
    if ended.done or ended.reason is not None:
        return 0  # nothing can bind it any more
    if not ended.live:
        return unbound(ended.now)
    if user is None:
        return None
    peeked = yield from ask(op.PeekSession(member))
    if peeked.record is not None and peeked.record.user == user:
        yield from ask(op.Confirm(user, member))  # its creator died between binding and confirming
        return None
    return unbound(peeked.now)


def unbound(seen: int) -> int:
    """`before` of a GiveBack for a place whose session was seen, at a time `seen` (ms), not to be bound to it.

    It looks so while a session is being made or logs in, too: what is bound afterwards, be it in the same millisecond,
    stays, and so does a reservation that hadn't lapsed.
    """
    return seen - 1
