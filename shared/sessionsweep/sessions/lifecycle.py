"""Flows over a session's life: create, open, log in, rotate, extend, save, keep alive, end and find."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from sessionsweep.deployment import Core, ms
from sessionsweep.errors import (
    ClientMismatchError,
    InvalidTokenError,
    RecordUnreadableError,
    ResourceNotFoundError,
    SessionEndedError,
    StoreError,
)
from sessionsweep.model.ids import is_session_id, partition_of
from sessionsweep.model.resource import KINDS
from sessionsweep.model.session import (
    FLAG_USER_BOOK,
    Client,
    SessionRecord,
    check_user,
    new_secret,
    split_token,
)
from sessionsweep.model.states import EndReason
from sessionsweep.observe.meter import metered
from sessionsweep.policy import fingerprint
from sessionsweep.sessions import places
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask
from sessionsweep.store.keys import partition_name
from sessionsweep.store.outbox import drain

log = logging.getLogger(__name__)

Found = tuple[SessionRecord, int]  # a record, and the store's time when it was read (ms)
MAX_DATA = 1_000_000  # bytes of one session's data: it travels with every request


def encode_value(key: str, value: Any) -> bytes:
    """One top-level value as JSON.

    Raises:
        TypeError: it isn't JSON; names the key.
    """
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(f"session data {key!r} must be JSON (text, numbers, lists, dicts): {error}") from error


def encode_data(data: Mapping[str, Any]) -> dict[str, bytes]:
    """All values as JSON. Raises ValueError: together they are over MAX_DATA. TypeError: one isn't JSON."""
    encoded = {str(key): encode_value(str(key), value) for key, value in data.items()}
    if sum(map(len, encoded.values())) > MAX_DATA:
        raise ValueError(f"session data is over {MAX_DATA} bytes; keep large things in a file of the session")
    return encoded


@metered("create")
def create(
    core: Core,
    client: Client,
    user: str | None,
    data: Mapping[str, bytes],
    idle: int | None = None,
    maximum: int | None = None,
    token: str | None = None,
) -> Flow[tuple[Found, str]]:
    """A new session and its token; `data` as encode_data makes it, its own timeouts in ms (None: the settings').

    `token`: the one it is to have, instead of a random one. Two callers at a time that give the same make one session.

    Raises:
        LimitReachedError: a limit on sessions refuses it. SessionEndedError: the id in `token` is taken, with another
            secret or by a session that ended.
    """
    if user is not None:
        check_user(user)
    session_id, secret = (core.new_id(), new_secret()) if token is None else split_token(token)
    family, print_ = fingerprint(client, core.settings.client_binding)
    flags, not_after = yield from places.reserve(core, session_id, user)
    reply = yield from ask(
        op.CreateSession(
            session_id,
            core.macs(session_id, secret)[0],
            core.idle if idle is None else idle,
            core.max if maximum is None else maximum,
            core.width,
            family,
            print_,
            flags,
            user,
            "",
            client.ip,
            client.user_agent,
            core.settings.node,
            data,
            not_after,
        )
    )
    record = _bound(core, reply, session_id, user)
    yield from places.confirm(record, flags)
    return (record, reply.now), f"{session_id}.{secret}"


@metered("open")
def open_session(core: Core, token: str, client: Client, touch: bool = True) -> Flow[Found]:
    """Verifies and touches in one round trip.

    Raises:
        InvalidTokenError: whatever is wrong with it. SessionEndedError: it was due, and is ended now.
        ClientMismatchError: another client, and the binding mode forbids that; the session isn't touched.
    """
    session_id, secret = split_token(token)
    family, print_ = fingerprint(client, core.settings.client_binding)
    reply = yield op.OpenSession(
        session_id,
        core.macs(session_id, secret),
        touch,
        family,
        print_,
        core.enforce_client,
        core.grace,
        core.hold,
    )
    if reply.status is op.OpenStatus.OK or reply.status is op.OpenStatus.MISMATCH:
        return reply.record, reply.now
    if reply.status is op.OpenStatus.REFUSED:
        raise ClientMismatchError(f"session {session_id} belongs to another client; it was not touched")
    if reply.status is op.OpenStatus.ENDED:
        raise SessionEndedError(reply.reason, session_id)
    raise InvalidTokenError


@metered("attach")
def attach(core: Core, session_id: str) -> Flow[Found]:
    """A live session by its id, for trusted server-side code: no token, no touch."""
    _check_id(session_id)
    peeked = yield from ask(op.PeekSession(session_id))
    record = peeked.record
    if record is None or peeked.is_due:
        reason = peeked.tombstone.reason if peeked.tombstone else None
        raise SessionEndedError(reason, session_id)
    return record, peeked.now


@metered("track")
def track(core: Core, key: str, user: str | None, data: Mapping[str, Any]) -> Flow[Found]:
    """The session that the app's own key names, made if there is none. Counts as activity."""
    if user is not None:
        check_user(user)
    partition, alias = alias_of(core, key)
    known = (yield from ask(op.FindAlias(partition, alias))) is not None
    session_id = partition + core.new_id()[2:]
    for expected in (True, False) if known else (False,):
        # for a key that is known no place is reserved; should its session end meanwhile, the deadline that has lapsed
        # keeps another from being made without a place
        flags, not_after = (0, 1) if expected else (yield from places.reserve(core, session_id, user))
        reply = yield from ask(
            op.CreateSession(
                session_id,
                secrets.token_bytes(16),
                core.idle,
                core.max,
                core.width,
                flags=flags,
                user=user,
                alias=alias,
                node=core.settings.node,
                data=encode_data(data),
                not_after=not_after,
                grace=core.grace,
                hold=core.hold,
            )
        )
        if reply.record is not None:
            break
    record = _bound(core, reply, session_id, user)
    if record.session_id == session_id:
        yield from places.confirm(record, flags)
    elif flags:
        yield from places.give_back(session_id, user)
    return record, reply.now


def alias_of(core: Core, key: str) -> tuple[str, str]:
    """(partition, hash) of an app's own key: no raw key is stored, and the partition is the hash's."""
    if not key:
        raise ValueError("the key of a tracked session is empty; give the JWT's sid, the socket's id, …")
    digest = hashlib.blake2b(key.encode(), key=b"sessionsweep alias", digest_size=15).digest()
    partition = partition_name(digest[0] % core.settings.partitions)
    return partition, base64.b32encode(digest).decode().lower()


@metered("rotate")
def rotate(core: Core, record: SessionRecord, user: str | None = None) -> Flow[tuple[Found, str]]:
    """A new token at once, the old one dead; with `user` the session is that user's from now on.

    Its open streams are closed: each was opened with a token that is dead now, perhaps by somebody who had stolen or
    planted it (ASVS 7.2.4). An honest client opens them again with the new one.
    """
    if user is not None:
        check_user(user)
    session_id, secret = record.session_id, new_secret()
    flags, not_after = (0, 0)
    if user is not None and not (user == record.user and record.flags & FLAG_USER_BOOK):
        flags, not_after = yield from places.reserve_for_user(core, record, user)
    reply = yield from ask(
        op.RotateSession(session_id, (record.mac,), core.macs(session_id, secret)[0], user, flags, not_after)
    )
    updated = _bound(core, reply, session_id, user)
    yield from places.confirm(updated, flags)
    if updated.stream_count:
        for resource in (yield from ask(op.LiveResources(session_id))):
            if resource.kind == KINDS["stream"] and resource.created <= reply.now:
                yield from ask(op.Release(session_id, resource.resource_id))
    return (updated, reply.now), f"{session_id}.{secret}"


@metered("extend")
def extend(core: Core, session_id: str, idle: float | None, maximum: float | None) -> Flow[Found]:
    """Counts as activity; sets (never adds to) the timeouts given, in seconds; `maximum` 0: none."""
    if idle is not None and idle <= 0:
        raise ValueError(f"idle={idle} must be over 0 seconds")
    if maximum is not None and maximum < 0:
        raise ValueError(f"max_duration={maximum} must be 0 (none) or more seconds")
    reply = yield from ask(
        op.ExtendSession(
            session_id, None if idle is None else ms(idle), None if maximum is None else ms(maximum), core.width
        )
    )
    return _live(reply, session_id), reply.now


@metered("save")
def save(core: Core, session_id: str, changes: Mapping[str, bytes | None], mac: bytes = b"") -> Flow[Found]:
    """Saves changed top-level keys only; same key: the last one wins. With a `mac`, only while it is its secret's."""
    reply = yield from ask(op.SaveData(session_id, changes, mac))
    return _live(reply, session_id), reply.now


@metered("end")
def end(core: Core, session_id: str, reason: str = EndReason.LOGOUT) -> Flow[op.Ended]:
    """Ends a session; what it owned is owed at once. Ending an ended one says why it had ended."""
    _check_id(session_id)
    if reason not in set(EndReason):
        raise ValueError(f"reason {reason!r} is not one of {', '.join(EndReason)}")
    ended = yield from ask(op.EndSession(session_id, reason))
    yield from drain(partition_of(session_id))
    return ended


def end_named(core: Core, session_id: str | None, key: str | None, reason: str) -> Flow[bool]:
    """Ends the session with this id, or the one that an app's own key names. False: there was none to end."""
    if (session_id is None) == (key is None):
        raise ValueError("give either a session id or key=…")
    if key is not None:
        partition, alias = alias_of(core, key)
        session_id = yield from ask(op.FindAlias(partition, alias))
    if session_id is None:
        return False
    return (yield from end(core, session_id, reason)).done


@metered("end_user")
def end_user(core: Core, user: str, except_id: str | None, reason: str) -> Flow[int]:
    """Ends every session that was bound to a user before the call. Resumable: calling again ends the rest."""
    check_user(user)
    ended, since, after = 0, 0, ""
    while page := (yield from ask(op.BookPage(user, since, after))):
        since, after = page[-1].at, page[-1].session_id
        for session_id in (place.session_id for place in page):
            if session_id == except_id:
                continue
            try:
                peeked = yield from ask(op.PeekSession(session_id))
                theirs = peeked.record is not None and peeked.record.user == user
                ended += theirs and (yield from ask(op.EndSession(session_id, reason))).done
            except RecordUnreadableError as error:
                log.warning("a session of user %r can't be ended: %s", user, error)  # the others are
                continue
            if theirs:
                yield from ask(op.GiveBack(user, session_id))
            else:
                yield from ask(op.GiveBack(user, session_id, before=places.unbound(peeked.now)))
    return ended


@metered("keep_alive")
def keep_alive(core: Core, session_id: str, token: str, seconds: float, resource_id: str = "") -> Flow[int]:
    """Defers the idle end (or pins a resource) until `seconds` from now.

    Raises:
        SessionEndedError, ResourceNotFoundError
    """
    until = yield from ask(op.Defer(session_id, token, ms(seconds), resource_id, core.width))
    if until is None:
        raise ResourceNotFoundError(resource_id) if resource_id else SessionEndedError(None, session_id)
    return until


def let_go(core: Core, session_id: str, token: str) -> Flow[None]:
    """Takes back what a job deferred, as far as the store answers: it lapses anyway. What other jobs deferred stays."""
    try:
        yield op.Undefer(session_id, token, core.width)
    except StoreError as error:
        log.warning("session %s: what a job deferred stays deferred until it lapses: %s", session_id, error)


def _check_id(session_id: str) -> None:
    if not is_session_id(session_id):
        raise InvalidTokenError(f"{session_id!r} is not a session id (20 letters and digits)")


def _bound(core: Core, reply: op.Opened, session_id: str, user: str | None) -> SessionRecord:
    """As `_live`, of a session that was to be bound to places. Raises LimitReachedError: their reservation lapsed."""
    if reply.record is None and reply.reason == EndReason.LIMIT:
        raise places.lapsed(core, user)
    return _live(reply, session_id)


def _live(reply: op.Opened, session_id: str) -> SessionRecord:
    if reply.record is not None:
        return reply.record
    raise SessionEndedError(reply.reason, session_id)
