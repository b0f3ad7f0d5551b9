"""What a sweep would do now and why, found by reading alone: nothing is ended, moved, noted or made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sessionsweep.deployment import Core, ms, partitions
from sessionsweep.engine.server import eviction_problem
from sessionsweep.errors import RecordUnreadableError, StoreError, VolumeError
from sessionsweep.model.holds import ALL, IDLE, SERVER, orphans_scope, volume_scope
from sessionsweep.model.session import SessionRecord
from sessionsweep.model.states import EndReason
from sessionsweep.operator import holds
from sessionsweep.operator.endings import is_idle
from sessionsweep.operator.queries import Backlog, backlog
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.volumes.deletion import Sighting
from sessionsweep.volumes.volume import Volume

PAGE = 100
FILES = 500
NAMED = 1000  # that a preview names; it counts all


@dataclass(frozen=True, slots=True)
class WouldEnd:
    """A session that would be ended: why, idle for how long and how old (s), and what it would leave."""

    session_id: str
    reason: str
    idle_seconds: float
    age_seconds: float
    resources: int
    bytes: int


@dataclass
class SweepPreview:
    """`would_end` names at most NAMED of `sessions`; `held`: scopes of holds that stop it; `backlog`: owed already;
    `unreadable`: records that can't be read, which no sweep would end."""

    sessions: int = 0
    resources: int = 0
    bytes: int = 0
    would_end: list[WouldEnd] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    backlog: tuple[Backlog, ...] = ()
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Ownerless:
    """A file that no session owns. `would`: what a pass does with it, and why."""

    volume: str
    session_id: str
    resource_id: str
    bytes: int
    age_seconds: float
    would: str  # `destroy` (after two sightings), `spare` (younger than ORPHAN_MIN_AGE), `register` (its session lives)


@dataclass
class OrphanPreview:
    """`found` names at most NAMED of the `destroy + spare + register` files; `unknown`: could not be told."""

    files: int = 0
    destroy: int = 0
    spare: int = 0
    register: int = 0
    bytes: int = 0  # of those to destroy
    unknown: int = 0
    found: list[Ownerless] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    not_here: list[str] = field(default_factory=list)  # volumes of this node that could not be looked at, and why


def sweep(core: Core, store: Store, idle_for: float | None = None) -> SweepPreview:
    """The sessions that a sweep would end now; with `idle_for` (s) all that nobody has touched for so long."""
    preview = SweepPreview(held=[h.scope for h in run(holds.listed(), store)[0] if h.scope == IDLE])
    now = store.execute(op.Facts()).now
    for partition in run(partitions(core), store):
        if idle_for is None:
            _due(store, partition, now, preview)
        else:
            _untouched(store, partition, now, ms(idle_for), preview)
    preview.backlog = run(backlog(core), store)
    return preview


def _due(store: Store, partition: str, now: int, preview: SweepPreview) -> None:
    """The wheel up to now: whatever is due is filed there, for touching only moves a session's end away."""
    slot = offset = 0
    after = ""
    seen: set[str] = set()
    while True:
        ids, slot, offset = store.execute(op.ListWheel(partition, slot, offset, PAGE, after))
        after = ids[-1] if ids else after
        fresh = [session_id for session_id in dict.fromkeys(ids) if session_id not in seen]
        seen.update(fresh)
        _judge(store, fresh, now, _reason_due, preview)
        if slot == 0 or slot > now:
            return


def _untouched(store: Store, partition: str, now: int, idle: int, preview: SweepPreview) -> None:
    def reason(record: SessionRecord, now: int) -> str:
        return _reason_old(record, now) or (EndReason.IDLE.value if is_idle(record, now, idle) else "")

    cursor, seen = 0, set[str]()
    while True:
        cursor, ids = store.execute(op.ScanSessions(partition, cursor))
        fresh = [session_id for session_id in ids if session_id not in seen]
        seen.update(fresh)
        _judge(store, fresh, now, reason, preview)
        if cursor == 0:
            return


def _judge(
    store: Store, ids: Sequence[str], now: int, why: Callable[[SessionRecord, int], str], preview: SweepPreview
) -> None:
    for peeked in store.execute_many([op.PeekSession(session_id) for session_id in ids]):
        if isinstance(peeked, RecordUnreadableError):
            preview.unreadable += 1
            continue
        if isinstance(peeked, StoreError):
            raise peeked
        record = peeked.record
        reason = "" if record is None else why(record, now)
        if record is None or not reason or (reason == EndReason.IDLE and (preview.held or peeked.idle_held)):
            continue
        preview.sessions += 1
        preview.resources += record.resource_count
        preview.bytes += record.bytes_used
        if len(preview.would_end) < NAMED:
            idle, age = (now - record.last_activity) / 1000, (now - record.created) / 1000
            row = WouldEnd(record.session_id, reason, idle, age, record.resource_count, record.bytes_used)
            preview.would_end.append(row)


def _reason_due(record: SessionRecord, now: int) -> str:
    old = _reason_old(record, now)
    return old or (EndReason.IDLE.value if is_idle(record, now, record.idle) else "")


def _reason_old(record: SessionRecord, now: int) -> str:
    return EndReason.EXPIRED.value if record.max and now >= record.created + record.max else ""


def orphans(core: Core, store: Store) -> OrphanPreview:
    """The owner-less files on this node's volumes. Opens volumes that are made; makes none."""
    preview = OrphanPreview()
    standing = {hold.scope for hold in run(holds.listed(), store)[0]} - {SERVER}
    if eviction_problem(store.execute(op.Facts())):  # as the pass does: asked of the server, not of the table
        standing.add(SERVER)
    deployment = store.execute(op.Meta()).get("deployment")
    for spec in core.settings.volumes:
        try:
            volume = Volume.open(Path(spec.path), spec.name)
            its_own = (volume_scope(volume.id), orphans_scope(volume.id))
            stops = [scope for scope in (ALL, IDLE, SERVER, *its_own) if scope in standing]
            if volume.deployment_id != deployment and volume_scope(volume.id) not in stops:
                stops.append(volume_scope(volume.id))
            preview.held.extend(scope for scope in stops if scope not in preview.held)
            _volume(core, store, volume, preview)
        except VolumeError as problem:
            preview.not_here.append(f"{spec.name}: {problem}")
    return preview


def _volume(core: Core, store: Store, volume: Volume, preview: OrphanPreview) -> None:
    cursor: str | None = None
    while True:
        page = volume.walk(cursor, limit=FILES)
        preview.files += len(page.found)
        preview.unknown += page.unreadable.total()
        by_session: dict[str, list[Sighting]] = {}
        for found in page.found:
            by_session.setdefault(found.session_id, []).append(found)
        questions = [op.Owned(sid, tuple(f.resource_id for f in files)) for sid, files in by_session.items()]
        for question, answer in zip(questions, store.execute_many(questions), strict=True):
            files = by_session[question.session_id]
            if isinstance(answer, StoreError):
                preview.unknown += len(files)  # unknown is not gone
                continue
            for found, present in zip(files, answer.present, strict=True):
                if not present:
                    _ownerless(core, volume, found, answer.session == "live", preview)
        cursor = page.cursor
        if cursor is None:
            return


def _ownerless(core: Core, volume: Volume, found: Sighting, alive: bool, preview: OrphanPreview) -> None:
    age = time.time() - found.mtime_ns / 1e9
    if alive:
        would = "register"
        preview.register += 1
    elif 0 <= age < core.settings.orphan_min_age:
        would = "spare"
        preview.spare += 1
    else:
        would = "destroy"
        preview.destroy += 1
        preview.bytes += found.size
    if len(preview.found) < NAMED:
        preview.found.append(Ownerless(volume.name, found.session_id, found.resource_id, found.size, age, would))
