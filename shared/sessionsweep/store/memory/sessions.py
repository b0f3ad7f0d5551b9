"""Creating, opening, changing and ending sessions."""

from __future__ import annotations

from collections.abc import Iterable
from hmac import compare_digest

from sessionsweep.model import books
from sessionsweep.model.events import EventName
from sessionsweep.model.session import FLAG_USER_BOOK, FLAG_USER_QUOTA
from sessionsweep.model.states import EndReason
from sessionsweep.store.memory.ending import end, held_until, idle_held, is_over, owe_place, reason_due
from sessionsweep.store.memory.replies import opened, record_of, stone, unseal
from sessionsweep.store.memory.state import NOTHING_MORE, STRIPES, More, Partition, Session, State
from sessionsweep.store.memory.steps import Step, session_step
from sessionsweep.store.operations import (
    CreateSession,
    Ended,
    EndSession,
    ExtendSession,
    FindAlias,
    Opened,
    OpenSession,
    OpenStatus,
    Peeked,
    PeekSession,
    RotateSession,
    SaveData,
)

UNSEEN = b"\0\0\0"
MOST_REQUESTS = 2**32 - 1
MOST_AGENT = 512  # characters of a user agent that are kept
PUBLIC_FLAGS = 7
_INVALID = Opened(OpenStatus.INVALID, 0)
_OK, _MISMATCH = OpenStatus.OK, OpenStatus.MISMATCH  # looking a member up costs as much as a lock


def create(state: State, operation: CreateSession) -> Opened:
    """Takes two stripes one after the other, so it isn't a `session_step`."""
    session_id = operation.session_id
    partition = state.partition(session_id[:2])
    with partition.lock:
        now = state.clock.now()
        named = partition.aliases.get(operation.alias) if operation.alias else None
        if named is not None:
            with state.stripe(named):
                session = state.sessions.get(named)
                if session is not None:
                    reason = reason_due(session, now)
                    if reason is EndReason.IDLE and held_until(state, partition, now, operation.hold):
                        reason = None  # a lost write may have forgotten a touch
                    if reason is None:
                        touch(session, now)
                        return opened(OpenStatus.OK, now, named, session)
                    end(state, partition, named, session, now, reason, operation.grace)
        with state.stripe(session_id):
            session = state.sessions.get(session_id)
            if session is not None:
                if not _is_one_of(session.seal[:16], (operation.mac,)):
                    return Opened(OpenStatus.INVALID, now)
                return opened(OpenStatus.OK, now, session_id, session)
            if partition.had(session_id, now):
                return Opened(OpenStatus.INVALID, now)  # ids are never used twice
            if 0 < operation.not_after < now:
                return Opened(OpenStatus.ENDED, now, None, EndReason.LIMIT)
            session = _new_session(state, partition, operation, now)
            return opened(OpenStatus.OK, now, session_id, session)


def _new_session(state: State, partition: Partition, operation: CreateSession, now: int) -> Session:
    due = now + operation.idle
    if operation.max > 0:
        due = min(due, now + operation.max)
    filed = partition.wheel.file(operation.session_id, due, operation.width)
    seal = operation.mac + (operation.fingerprint if operation.family == 4 else UNSEEN)
    seal += operation.fingerprint if operation.family == 6 else UNSEEN
    idle, longest = state.one_object(operation.idle), state.one_object(operation.max)
    session = Session(seal, now, idle, longest, filed, _more_of(operation))
    state.sessions[operation.session_id] = session
    if operation.alias:
        partition.aliases[operation.alias] = operation.session_id
    partition.counters[books.CREATED] += 1
    # the partition's first session: from here on a changed run is noticed, by whoever comes first
    partition.run_id = partition.run_id or state.run_id
    partition.events.add(now, {"e": EventName.SESSION_CREATED, "s": operation.session_id})
    return session


def _more_of(operation: CreateSession) -> More:
    said = (
        operation.flags or operation.user or operation.alias or operation.ip or operation.user_agent
        or operation.node or operation.data
    )  # fmt: skip
    if not said:
        return NOTHING_MORE
    more = More()
    more.flags = operation.flags & PUBLIC_FLAGS
    more.user = operation.user or None
    more.alias = operation.alias
    more.ip = operation.ip or None
    more.agent = (operation.user_agent or "")[:MOST_AGENT] or None
    more.node = operation.node
    more.data = dict(operation.data)
    return more


def _is_one_of(mac: bytes, macs: Iterable[bytes]) -> bool:
    """Whether a secret's hash is among some, in the same time whichever it is, or none (ASVS 11.2.4)."""
    found = False
    for one in macs:
        found |= compare_digest(mac, one)
    return found


def touch(session: Session, now: int) -> None:
    """Counts a request; activity never moves backwards."""
    if now > session.last:
        session.last = now
    if session.requests < MOST_REQUESTS:
        session.requests += 1


def open_session(state: State, operation: OpenSession) -> Opened:
    """The hot path: one stripe, no other lock, unless the session is due."""
    session_id = operation.session_id
    stripe = state.stripes[hash(session_id) & (STRIPES - 1)]
    stripe.acquire()  # `with` costs twice as much
    try:
        session = state.sessions.get(session_id)
        if session is None:
            return _INVALID
        parts = unseal(session.seal)
        if not _is_one_of(parts[0], operation.macs):
            return _INVALID
        now = state.clock.now()
        # `reason_due` without its calls
        if (now < session.last + session.idle or now < session.more.keep) and (
            session.max <= 0 or now < session.created + session.max
        ):
            return _admit(state, operation, session, now, parts)
    finally:
        stripe.release()
    return _open_due(state, operation)


def _admit(
    state: State, operation: OpenSession, session: Session, now: int, parts: tuple[bytes, bytes, bytes]
) -> Opened:
    """Checks the client, then touches. `parts`: the session's seal, unsealed."""
    status = _OK
    family = operation.family
    if family:
        seen = parts[1] if family == 4 else parts[2]
        given = operation.fingerprint
        if seen != given:
            if seen != UNSEEN:
                _tell_move(state, operation, now)
                if operation.enforce:
                    return Opened(OpenStatus.REFUSED, now)
                status = _MISMATCH
            parts = (parts[0], given, parts[2]) if family == 4 else (parts[0], parts[1], given)
            session.seal = b"".join(parts)
    if operation.touch:
        if now > session.last:
            session.last = now
        if session.requests < MOST_REQUESTS:
            session.requests += 1
    return opened(status, now, operation.session_id, session, parts)


def _tell_move(state: State, operation: OpenSession, now: int) -> None:
    log = state.partition(operation.session_id[:2]).events
    if log.once(now, f"{EventName.SESSION_ADDRESS_CHANGED} {operation.session_id}"):
        row = {"e": EventName.SESSION_ADDRESS_CHANGED, "s": operation.session_id}
        log.add(now, row | {"refused": str(int(operation.enforce))})


@session_step
def _open_due(state: State, partition: Partition, operation: OpenSession, now: int) -> Opened:
    """Ends a due session, unless idle ends are held. All is checked again: it was read under fewer locks."""
    session = state.sessions.get(operation.session_id)
    if session is None or not _is_one_of(session.seal[:16], operation.macs):
        return _INVALID
    reason = reason_due(session, now)
    if reason is EndReason.EXPIRED or (
        reason is EndReason.IDLE and not held_until(state, partition, now, operation.hold)
    ):
        end(state, partition, operation.session_id, session, now, reason, operation.grace)
        return Opened(OpenStatus.ENDED, now, None, reason)
    return _admit(state, operation, session, now, unseal(session.seal))


@session_step
def peek(state: State, partition: Partition, operation: PeekSession, now: int) -> Peeked:
    """A session as it is, due or not, or its tombstone."""
    session = state.sessions.get(operation.session_id)
    if session is not None:
        held = reason_due(session, now) is EndReason.IDLE and idle_held(state, partition, now)
        return Peeked(now, record_of(operation.session_id, session), None, held)
    grave = partition.grave(operation.session_id, now)
    if grave is None:
        return Peeked(now, None, None)
    return Peeked(now, None, stone(partition, operation.session_id, grave))


def find_alias(state: State, operation: FindAlias) -> str | None:
    """One look into one dict."""
    return state.partition(operation.partition).aliases.get(operation.alias)


@session_step
def rotate(state: State, partition: Partition, operation: RotateSession, now: int) -> Opened:
    """Replaces the secret; may bind the session to a user."""
    session = state.sessions.get(operation.session_id)
    if session is None or is_over(state, partition, session, now):
        return Opened(OpenStatus.INVALID, now)
    mac = session.seal[:16]
    if _is_one_of(mac, (operation.new_mac,)):
        return opened(OpenStatus.OK, now, operation.session_id, session)
    if operation.old_macs and not _is_one_of(mac, operation.old_macs):
        return Opened(OpenStatus.INVALID, now)
    if 0 < operation.not_after < now:
        return Opened(OpenStatus.ENDED, now, None, EndReason.LIMIT)
    partition.events.add(now, {"e": EventName.SESSION_ROTATED, "s": operation.session_id, "user": operation.user or ""})
    last = max(session.last, now)
    if operation.user is not None and (operation.user or None) != session.more.user:
        last = max(session.last + 1, now)  # no two bindings of a session share a moment
        _bind(partition, operation.session_id, session.own_more(), operation.user, last)
    if operation.flags:
        session.own_more().flags |= operation.flags & PUBLIC_FLAGS
    session.seal = operation.new_mac + session.seal[16:]
    session.last = last
    return opened(OpenStatus.OK, now, operation.session_id, session)


def _bind(partition: Partition, session_id: str, more: More, user: str, moment: int) -> None:
    """Another user: what the session held in the former one's books is given back, unless it has come back by then."""
    was, more.user = more.user, user or None
    if more.flags & FLAG_USER_BOOK:
        owe_place(partition, "user", session_id, was, before=moment)
    if more.flags & FLAG_USER_QUOTA:
        owe_place(partition, "user", session_id, was, "*", before=moment)
    more.flags &= ~FLAG_USER_BOOK


@session_step
def extend(state: State, partition: Partition, operation: ExtendSession, now: int) -> Opened:
    """Touches without counting a request, and sets timeouts."""
    session = state.sessions.get(operation.session_id)
    if session is None or is_over(state, partition, session, now):
        return Opened(OpenStatus.INVALID, now)
    _renew(state, partition, session, operation, now)
    return opened(OpenStatus.OK, now, operation.session_id, session)


def _renew(state: State, partition: Partition, session: Session, by: ExtendSession | SaveData, now: int) -> None:
    session.last = max(session.last, now)
    if by.idle is not None:
        session.idle = state.one_object(by.idle)
    if by.max is not None:
        session.max = state.one_object(by.max)
    file_earlier(partition, by.session_id, session, by.width)


def file_earlier(partition: Partition, session_id: str, session: Session, width: int) -> None:
    """Files a session again if it is due in an earlier slot than its own, whose entry becomes stale."""
    due = session.due()
    if partition.wheel.slot_end(due, width) < session.filed:
        session.filed = partition.wheel.file(session_id, due, width)


@session_step
def save(state: State, partition: Partition, operation: SaveData, now: int) -> Opened:
    """Sets and removes keys of the data; may renew."""
    session = state.sessions.get(operation.session_id)
    if session is None or is_over(state, partition, session, now):
        return Opened(OpenStatus.INVALID, now)
    if operation.mac and not _is_one_of(session.seal[:16], (operation.mac,)):
        return Opened(OpenStatus.INVALID, now)
    data = {**session.more.data}
    for key, value in operation.changes.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
    session.own_more().data = data
    if operation.renew:
        _renew(state, partition, session, operation, now)
    return opened(OpenStatus.OK, now, operation.session_id, session)


@session_step
def end_session(state: State, partition: Partition, operation: EndSession, now: int) -> Ended:
    """Ends a session; with `only_due` only one that is over by itself."""
    session_id = operation.session_id
    session = state.sessions.get(session_id)
    if session is None:
        grave = partition.grave(session_id, now)
        return Ended(False, grave.reason if grave is not None else None, 0, (), now)
    reason: str = operation.reason
    if operation.only_due:
        why = reason_due(session, now, operation.idle_for)
        if why is None or (why is EndReason.IDLE and held_until(state, partition, now, operation.hold)):
            return Ended(False, None, 0, (), now, live=True)
        reason = why
    owed, places = end(state, partition, session_id, session, now, reason, operation.grace)
    return Ended(True, reason, owed, places, now)


STEPS: dict[type, Step] = {
    CreateSession: create,
    OpenSession: open_session,
    PeekSession: peek,
    FindAlias: find_alias,
    RotateSession: rotate,
    ExtendSession: extend,
    SaveData: save,
    EndSession: end_session,
}
