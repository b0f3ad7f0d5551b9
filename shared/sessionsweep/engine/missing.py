"""Records without bytes: a live session's file that its volume no longer has is closed as gone, seen missing twice."""

from __future__ import annotations

import logging

from sessionsweep.deployment import Core, partitions
from sessionsweep.engine.pace import Pace
from sessionsweep.engine.results import OrphanResult
from sessionsweep.engine.sightings import Sightings
from sessionsweep.engine.trust import Permit, Trust
from sessionsweep.errors import VolumeError, VolumeUntrustedError
from sessionsweep.model.ids import partition_of
from sessionsweep.model.resource import ResourceRecord, volume_location
from sessionsweep.model.states import Outcome, ResourceState
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.volumes.volume import Volume

log = logging.getLogger(__name__)

PAGE = 200  # sessions
CAP = 1000  # records that wait for their second look at once; others are noted as those are closed


def close_missing(core: Core, store: Store, trust: Trust, permit: Permit, result: OrphanResult, pace: Pace) -> None:
    """Walks the live sessions that own something and holds their records against the volume."""
    location = volume_location(permit.volume.id)
    for partition in run(partitions(core), store):
        slot, offset, after = 0, 0, ""
        while True:
            ids, slot, offset = store.execute(op.ListWheel(partition, slot, offset, PAGE, after))
            after = ids[-1] if ids else after
            peeked = store.execute_many([op.PeekSession(sid) for sid in dict.fromkeys(ids)])
            records = [p.record for p in peeked if isinstance(p, op.Peeked)]
            owners = [r.session_id for r in records if r is not None and r.resource_count > 0]
            lists = store.execute_many([op.ListResources(sid) for sid in owners])
            for session_id, owned in zip(owners, lists, strict=True):
                if not isinstance(owned, Exception):
                    _check(core, store, trust, permit, session_id, location, owned, result)
            if slot == 0 or not pace.next():
                break


def _check(
    core: Core,
    store: Store,
    trust: Trust,
    permit: Permit,
    session_id: str,
    location: str,
    records: tuple[ResourceRecord, ...],
    result: OrphanResult,
) -> None:
    missing = [
        record
        for record in records
        if record.location == location
        and record.state is ResourceState.LIVE
        and _is_absent(permit.volume, session_id, record.resource_id)
    ]
    if not missing:
        return
    sightings, partition = Sightings(core, store, permit), partition_of(session_id)
    seen = sightings.note(partition, [_name(session_id, record) for record in missing], CAP)
    gone = [record for record, before in zip(missing, seen, strict=True) if before]
    if not gone or core.settings.mode == "observe" or not trust.still(permit):
        return
    attempts = tuple(op.Attempt(record.resource_id, Outcome.GONE) for record in gone)
    settled = store.execute(op.Settle(session_id, location, attempts, retention=core.retention, own=True))
    sightings.forget(partition, [_name(session_id, record) for record in gone])
    result.missing += settled.counted
    log.warning("session %s: %s records without bytes are closed as gone", session_id, settled.counted)


def _name(session_id: str, record: ResourceRecord) -> str:
    return f"-{session_id}/{record.resource_id}"


def _is_absent(volume: Volume, session_id: str, resource_id: str) -> bool:
    try:
        return volume.find(session_id, resource_id) is None
    except VolumeUntrustedError:
        raise
    except VolumeError:
        return False  # nobody knows: unknown is not gone
