"""Reclaim: takes leases on what ended sessions left at one location, destroys it, and acknowledges by resource id."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter
from collections.abc import Sequence

from sessionsweep.deployment import Core, ms, partitions
from sessionsweep.engine.pace import Pace
from sessionsweep.engine.results import ReclaimResult
from sessionsweep.engine.trust import Permit, Trust
from sessionsweep.errors import HeldError, VolumeError
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import Outcome
from sessionsweep.observe.meter import tell
from sessionsweep.policy import back_off
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.volumes.deletion import OF_THE_DISK
from sessionsweep.volumes.deletion import Outcome as Removed
from sessionsweep.volumes.volume import Volume

log = logging.getLogger(__name__)

BATCH = 200  # resources a lease
SLICE = 25  # sessions between two looks at the lease and the server


class Reclaim:
    """One pass over the queues of the volumes that this node mounts. Idempotent, at least once: it is worse to leave
    a file than to look for it twice."""

    def __init__(self, core: Core, store: Store, trust: Trust | None = None) -> None:
        self._core = core
        self._store = store
        self._trust = trust or Trust(core, store)

    def run_once(
        self,
        now: int = 0,
        *,
        volume_ids: Sequence[str] | None = None,
        budget: float = 20.0,
        effort: float = 0.8,
        stop: threading.Event | None = None,
    ) -> ReclaimResult:
        """Destroys what is due by `now` on this node's volumes (or only on those named)."""
        result, pace = ReclaimResult(), Pace(budget, effort, stop, "reclaim", self._core.meter)
        # a reclaim of one volume opens no other: that one's disk may hang
        wanted = None if volume_ids is None else [volume_location(volume_id) for volume_id in volume_ids]
        run(self._core.mounts.mount_for(wanted), self._store)
        everywhere = run(partitions(self._core), self._store)
        for volume in self._core.mounts.here():
            if volume_ids is not None and volume.id not in volume_ids:
                continue
            if pace.over:
                break
            location = volume_location(volume.id)
            try:
                permit = self._trust.permit(volume)
                for partition in everywhere:
                    if pace.over:
                        break
                    self._drain(partition, location, permit, now, result, pace)
            except (HeldError, VolumeError, OSError) as problem:
                result.held.append(location)
                log.warning("reclaim at %s is held: %s", location, problem)
        result.more |= pace.over
        result.seconds = pace.end()
        return result

    def _drain(
        self, partition: str, location: str, permit: Permit, now: int, result: ReclaimResult, pace: Pace
    ) -> None:
        lease_time = ms(self._core.settings.lease)
        if self._core.settings.mode == "observe":
            # a lease would hide the entries for its time, so observing only counts them
            depth = next((q for q in self._store.execute(op.Queues(partition)) if q.location == location), None)
            if depth is not None and depth.entries:
                result.would_delete += depth.entries
                log.info("would reclaim at %s what %s sessions left", location, depth.entries)
            return
        while True:
            lease_id = secrets.token_hex(8)
            leased = self._store.execute(op.Lease(partition, location, lease_id, lease_time, BATCH, now))
            if not leased.entries:
                if leased.next_due and (not result.next_due or leased.next_due < result.next_due):
                    result.next_due = leased.next_due
                return
            for start in range(0, len(leased.entries), SLICE):
                part = leased.entries[start : start + SLICE]
                # a worker that was paused past its lease, or whose server was replaced, stops here
                held = self._store.execute(op.LeaseHeld(partition, location, lease_id))
                if not held or not self._trust.still(permit):
                    log.warning("the lease at %s is lost: %s", location, lease_id)
                    result.more = True
                    return
                if trouble := self._destroy(permit.volume, location, part, result):
                    raise VolumeError(f"volume {permit.volume.name!r} at {permit.volume.root} answers {trouble}")
            if not pace.next():
                result.more = True
                return

    def _destroy(
        self,
        volume: Volume,
        location: str,
        part: Sequence[tuple[str, tuple[op.LeasedResource, ...]]],
        result: ReclaimResult,
    ) -> str:
        """Deletes, and says what became of each. Answers the error that speaks of the whole disk, if there was one."""
        s, trouble = self._core.settings, ""
        sizes = {(sid, r.resource_id): r for sid, resources in part for r in resources}
        removals = volume.delete_many([(sid, [r.resource_id for r in resources]) for sid, resources in part])
        attempts: dict[str, list[op.Attempt]] = {}
        for removal in removals:
            leased = sizes[removal.session_id, removal.resource_id]
            if removal.outcome is Removed.DELETED:
                attempt = op.Attempt(removal.resource_id, Outcome.DELETED)
            elif removal.outcome is Removed.GONE:
                attempt = op.Attempt(removal.resource_id, Outcome.GONE)
            elif removal.outcome is Removed.BUSY:
                attempt = op.Attempt(removal.resource_id, Outcome.BUSY, ms(s.cleanup_interval))
                result.busy += 1
            elif removal.error in OF_THE_DISK:
                # no try is used: an hour of a disk that is mounted read-only must not end in a heap of dead letters
                trouble = removal.error
                attempt = op.Attempt(removal.resource_id, Outcome.BUSY, ms(s.cleanup_interval))
            else:
                delay = back_off(leased.tries, s.cleanup_interval)
                attempt = op.Attempt(removal.resource_id, Outcome.FAILED, delay, removal.error)
                result.failed += 1
                log.warning(
                    "could not delete, of session %s, %s: %s",
                    removal.session_id,
                    removal.resource_id,
                    removal.error,
                )
            attempts.setdefault(removal.session_id, []).append(attempt)
        operations = [
            op.Settle(sid, location, tuple(done), s.reclaim_tries, self._core.retention)
            for sid, done in attempts.items()
        ]
        became: Counter[str] = Counter()
        freed = 0
        for operation, answer in zip(operations, self._store.execute_many(operations), strict=True):
            if isinstance(answer, Exception):
                # not acknowledged: the lease runs out and the next worker finds the file gone
                log.warning("not acknowledged for session %s: %s", operation.session_id, answer)
                continue
            result.dead += len(answer.dead)
            result.bytes += answer.size
            freed += answer.size
            became.update(str(attempt.outcome) for attempt in operation.attempts)
            became.update({"dead": len(answer.dead), "failed": -len(answer.dead)})  # each counts once
            for attempt in operation.attempts:
                result.deleted += attempt.outcome is Outcome.DELETED
                result.gone += attempt.outcome is Outcome.GONE
        if self._core.meter is not None:
            tell(self._core.meter.reclaimed, volume.name, became, freed)
        return trouble
