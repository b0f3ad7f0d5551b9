"""Flows over what a session owns: intent before bytes, commit after, and every way a resource leaves."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from sessionsweep.deployment import Core
from sessionsweep.errors import (
    LimitReachedError,
    ResourceNotFoundError,
    ResourceTooLargeError,
    SessionEndedError,
    StoreError,
    VolumeNotHereError,
)
from sessionsweep.model.ids import is_resource_id, new_resource_id
from sessionsweep.model.resource import KINDS, LOCATION, ResourceRecord, volume_location
from sessionsweep.model.session import SessionRecord
from sessionsweep.model.states import Outcome, ResourceState
from sessionsweep.observe.meter import metered
from sessionsweep.policy import grown, reservation
from sessionsweep.sessions import places
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask, work
from sessionsweep.volumes.volume import Volume

log = logging.getLogger(__name__)

MAX_PURPOSE = 60


def begin(
    core: Core, session: SessionRecord, purpose: str, suffix: str, stated: int | None, volume_name: str | None
) -> Flow[tuple[str, Volume, int]]:
    """Registers the intent of a new file: (resource id, its volume, bytes reserved). No byte exists yet.

    Raises:
        SessionEndedError, LimitReachedError, ResourceTooLargeError, VolumeError
    """
    volume = yield from core.mounts.for_new_files(volume_name)
    resource_id = new_resource_id(suffix)
    size = reservation(session.bytes_used, core.settings.max_bytes_per_session, stated)
    yield from register(core, session, resource_id, "file", volume_location(volume.id), size, purpose)
    return resource_id, volume, size


@metered("register")
def register(
    core: Core,
    session: SessionRecord,
    resource_id: str,
    kind: str,
    location: str,
    size: int,
    purpose: str,
    live: bool = False,
) -> Flow[op.Registered]:
    """Registers any resource, within the session's and its user's limits."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    if not LOCATION.match(location):
        raise ValueError(f"location {location!r} must be v.<volume>, p.<process>, b.<bucket> or x.<reclaimer>")
    if len(purpose) > MAX_PURPOSE or not purpose.isprintable():
        raise ValueError(f"purpose {purpose[:80]!r} must be printable and at most {MAX_PURPOSE} characters")
    s = core.settings
    wanted = op.Register(
        session.session_id,
        resource_id,
        KINDS[kind],
        location,
        size,
        purpose,
        live,
        core.intent_timeout,
        s.max_resources_per_session,
        s.max_bytes_per_session,
        s.max_streams_per_session,
    )
    while True:
        registered = yield from _register(core, session, wanted)
        if registered.status == "ok":
            return registered
        if registered.status != "lapsed":
            _refuse(core, session.session_id, resource_id, registered.status, size)
        now = (yield from ask(op.PeekSession(session.session_id))).record
        if now is None or now.user == session.user:
            raise _lapsed(core)
        session = now  # another request logged in meanwhile: it is the new user's quota that counts


def _register(core: Core, session: SessionRecord, wanted: op.Register) -> Flow[op.Registered]:
    """Once, within the quota of the user whose session it was when `session` was read."""
    if not _has_quota(core, session):
        return (yield from _making_room(wanted))
    try:
        not_after = yield from _reserve_quota(core, session, wanted.resource_id, wanted.size)
    except LimitReachedError as refusal:
        yield from places.tell(refusal, session.user, session.session_id)
        raise
    user = session.user or ""
    registered = yield from _making_room(replace(wanted, quota=True, not_after=not_after, user=user))
    if registered.status != "ok" and user:
        yield from ask(op.GiveBack(user, session.session_id, wanted.resource_id))
    return registered


@metered("grow")
def grow(core: Core, session: SessionRecord, resource_id: str, limit: int, needed: int) -> Flow[int]:
    """Raises an intent's reservation to at least `needed` bytes and renews its deadline: the new limit."""
    size = grown(limit, needed, session.bytes_used, core.settings.max_bytes_per_session) if needed > limit else limit
    least = max(needed, limit)
    for wanted in dict.fromkeys((size, least)):
        try:
            yield from _grow(core, session, resource_id, wanted, tell=wanted == least)
        except LimitReachedError as refusal:
            if wanted == least:
                if refusal.limit.endswith("_PER_USER"):
                    yield from places.tell(refusal, session.user, session.session_id)
                raise
        else:
            return wanted
    raise AssertionError("unreachable")


def _grow(core: Core, session: SessionRecord, resource_id: str, size: int, *, tell: bool) -> Flow[None]:
    if _has_quota(core, session):
        yield from _reserve_quota(core, session, resource_id, size, present=True)
    reply = yield from _making_room(
        op.Grow(session.session_id, resource_id, size, core.intent_timeout, core.settings.max_bytes_per_session, tell)
    )
    if reply.status != "ok":
        _refuse(core, session.session_id, resource_id, reply.status, size)


def _making_room(operation: op.Register | op.Grow) -> Flow[op.Registered]:
    """Sends it until it is answered: where hundreds must go to make room, one call lets only some go."""
    evicted: tuple[str, ...] = ()
    while True:
        reply = yield from ask(operation)
        evicted += reply.evicted
        if reply.status != "again":
            return replace(reply, evicted=evicted)


@metered("commit")
def commit(core: Core, session: SessionRecord, resource_id: str, size: int) -> Flow[None]:
    """Makes the file the session's, at its true size. Raises SessionEndedError if the session ended meanwhile."""
    reply = yield from ask(op.Commit(session.session_id, resource_id, size))
    if reply.status != "ok":
        _refuse(core, session.session_id, resource_id, reply.status, size)
    if session.user is not None and _has_quota(core, session):
        # only where it is there: should the session have ended since, its share was given back, and for good
        yield from ask(op.ReserveQuota(session.user, session.session_id, resource_id, size, present=True))


def dropped(core: Core, session_id: str, resource_id: str, volume_id: str, removed: bool) -> Flow[None]:
    """The writer gives its file up: it removed the bytes itself, or a worker looks at what is there."""
    if not removed:
        yield from abandon(session_id, resource_id)
        return
    attempt = op.Attempt(resource_id, Outcome.DELETED)
    location = volume_location(volume_id)
    yield from _as_far_as_it_goes(op.Settle(session_id, location, (attempt,), retention=core.retention, own=True))


def adopt(
    core: Core, session: SessionRecord, source: Path, purpose: str, suffix: str | None, volume_name: str | None
) -> Flow[str]:
    """Takes a file that exists into the session: renamed where that is possible, else copied and removed."""
    size = (yield from work(source.lstat)).st_size
    ending = source.suffix.lower() if suffix is None else suffix
    resource_id, volume, _ = yield from begin(core, session, purpose, ending, size, volume_name)
    try:
        true_size = yield from work(partial(volume.adopt, session.session_id, resource_id, source, limit=size))
        yield from commit(core, session, resource_id, true_size)
    except Exception:
        yield from abandon(session.session_id, resource_id)
        raise
    return resource_id


def abandon(session_id: str, resource_id: str) -> Flow[None]:
    """An intent whose bytes may or may not be there becomes owed: a worker looks, and deletes what it finds."""
    yield from _as_far_as_it_goes(op.Release(session_id, resource_id))


def _as_far_as_it_goes(operation: op.Settle | op.Release) -> Flow[None]:
    """Tidying up after an error that is on its way to the app, which it must not hide: overdue intents go anyway."""
    try:
        yield operation
    except StoreError as error:
        log.warning("session %s: what it gave up is left to the sweep: %s", operation.session_id, error)


def find(session_id: str, resource_id: str) -> Flow[ResourceRecord]:
    """A live resource of the session, marked as just used. Raises ResourceNotFoundError."""
    if not is_resource_id(resource_id):
        raise ResourceNotFoundError(resource_id)
    record = yield from ask(op.UseResource(session_id, resource_id))
    if record is None:
        raise ResourceNotFoundError(resource_id)
    return record


def located(core: Core, session_id: str, resource_id: str) -> Flow[Volume]:
    """The volume, mounted here, on which a live file lies. Raises VolumeNotHereError (with the nodes)."""
    record = yield from find(session_id, resource_id)
    if not record.location.startswith("v."):
        raise VolumeNotHereError(record.location)
    return (yield from core.mounts.holding(record.location))


def delete(session_id: str, resource_id: str) -> Flow[None]:
    """A live resource becomes owed now. Of one that is owed already it is said again: the first answer may be lost.

    Raises:
        ResourceNotFoundError: it never was this session's, or a worker is done with it.
    """
    if not is_resource_id(resource_id):
        raise ResourceNotFoundError(resource_id)
    if not (yield from ask(op.Release(session_id, resource_id))):
        raise ResourceNotFoundError(resource_id)


def listed(session_id: str) -> Flow[list[ResourceRecord]]:
    """The live resources, oldest first; none of a session that is over: what it left is the workers'."""
    records = yield from ask(op.LiveResources(session_id))
    live = [record for record in records if record.state is ResourceState.LIVE]
    return sorted(live, key=lambda record: (record.created, record.resource_id))


@metered("promote")
def promote(core: Core, session_id: str, resource_id: str, to: Path | None) -> Flow[Path]:
    """The bytes are renamed out of the session's reach first, then the record goes; safe to repeat after a crash.

    Raises:
        ResourceNotFoundError, VolumeNotHereError
    """
    record = yield from find(session_id, resource_id)
    volume = yield from core.mounts.holding(record.location)
    path = yield from work(partial(volume.promote, session_id, resource_id, to))
    attempt = op.Attempt(resource_id, Outcome.PROMOTED)
    yield from ask(op.Settle(session_id, record.location, (attempt,), retention=core.retention, own=True))
    return path


def _has_quota(core: Core, session: SessionRecord) -> bool:
    s = core.settings
    return session.user is not None and bool(s.max_resources_per_user or s.max_bytes_per_user)


def _reserve_quota(core: Core, session: SessionRecord, resource_id: str, size: int, present: bool = False) -> Flow[int]:
    """Reserves a share of the user's quota, or (`present`) makes it larger; by when its resource must be registered.

    A writer that died before, or an answer that was lost, may have left a share to nobody: at the limit each is looked
    at, once its time is over.
    """
    s = core.settings
    assert session.user is not None
    reserve = op.ReserveQuota(
        session.user,
        session.session_id,
        resource_id,
        size,
        s.max_resources_per_user,
        s.max_bytes_per_user,
        present=present,
    )
    share = yield from ask(reserve)
    if share.suspects and (yield from _free_shares(core, session.user, share.suspects)):
        share = yield from ask(reserve)
    if share.status == "limit:resources":
        raise LimitReachedError("MAX_RESOURCES_PER_USER", s.max_resources_per_user)
    if share.status == "limit:bytes":
        raise LimitReachedError("MAX_BYTES_PER_USER", s.max_bytes_per_user)
    return share.deadline


def _free_shares(core: Core, user: str, suspects: tuple[str, ...]) -> Flow[int]:
    """Gives back the shares to which no resource of a live session of this user belongs; 0: there was none."""
    freed = 0
    sessions: dict[str, list[str]] = {}
    for suspect in suspects:
        session_id, _, resource_id = suspect.partition(" ")
        sessions.setdefault(session_id, []).append(resource_id)
    for session_id, resource_ids in sessions.items():
        before = yield from places.look(core, user, session_id)
        if before is not None:
            freed += yield from ask(op.GiveBack(user, session_id, "*", before))
            continue
        records = yield from ask(op.ListResources(session_id))
        held = {r.resource_id for r in records if r.state in (ResourceState.INTENT, ResourceState.LIVE)}
        for resource_id in resource_ids:
            if resource_id not in held:
                freed += yield from ask(op.GiveBack(user, session_id, resource_id))
    return freed


def _lapsed(core: Core) -> LimitReachedError:
    s = core.settings
    name, value = "MAX_RESOURCES_PER_USER", s.max_resources_per_user
    if not value:
        name, value = "MAX_BYTES_PER_USER", s.max_bytes_per_user
    return LimitReachedError(name, value, f"What was reserved under {name}={value} lapsed; try again.")


def _refuse(core: Core, session_id: str, resource_id: str, status: str, size: int) -> NoReturn:
    s = core.settings
    if status == "ended":
        raise SessionEndedError(None, session_id)
    if status == "limit:resources":
        raise LimitReachedError("MAX_RESOURCES_PER_SESSION", s.max_resources_per_session)
    if status == "limit:streams":
        raise LimitReachedError("MAX_STREAMS_PER_SESSION", s.max_streams_per_session)
    if status == "limit:bytes":
        raise ResourceTooLargeError(
            "MAX_BYTES_PER_SESSION",
            s.max_bytes_per_session,
            f"{size} bytes don't fit in MAX_BYTES_PER_SESSION={s.max_bytes_per_session}",
        )
    raise ResourceNotFoundError(resource_id)
