"""The orphan pass over one volume: bytes without an owner are seen twice before they go; records without bytes close.

Absence is not evidence. A file is destroyed only when it was sighted in this run of the server at least a grace ago,
its session is gone both times, it is old enough, unlocked and the same file, and no more were found than a healthy
volume could hold. A look-up that fails says "unknown", never "gone".
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sessionsweep.deployment import Core
from sessionsweep.engine.missing import close_missing
from sessionsweep.engine.pace import Pace
from sessionsweep.engine.results import OrphanResult
from sessionsweep.engine.server import eviction_problem
from sessionsweep.engine.sightings import Sightings
from sessionsweep.engine.trust import Permit, Trust
from sessionsweep.errors import HeldError, StoreError, VolumeError
from sessionsweep.model.events import EventName
from sessionsweep.model.holds import Hold, orphans_scope
from sessionsweep.model.ids import partition_of
from sessionsweep.model.resource import volume_location
from sessionsweep.model.rows import json_object
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.volumes.deletion import Outcome, Sighting
from sessionsweep.volumes.mounting import put_hold
from sessionsweep.volumes.volume import Volume

log = logging.getLogger(__name__)

PAGE = 2000  # files between two pipelined look-ups
SLICE = 25  # files that one last look at their owners and at the server allows to destroy
CAP_FLOOR, CAP_SHARE = 1000, 10  # more candidates than max(1,000, a tenth of the files): something else is wrong
TOLD = 100  # sessions whose orphans are told each in an event of its own; of a page's others one tells
LEASE = 60_000  # ms; renewed with every page


@dataclass
class Scan:
    """How far the walk of one volume has come; kept in the store between runs."""

    cursor: str = ""
    files: int = 0
    candidates: int = 0
    run_id: str = ""
    checked: bool = False  # a whole walk of this server run was held against the cap
    allowed: bool = False  # an operator lifted the hold that the last walk made: this one may pass the cap
    bytes: int = 0
    walked_at: int = 0  # ms; when the last whole walk ended, and all that it found: an owner or not
    walked_files: int = 0
    walked_bytes: int = 0

    @property
    def cap(self) -> int:
        """How many candidates a healthy volume may have."""
        return max(CAP_FLOOR, self.files // CAP_SHARE)

    def anew(self, run_id: str) -> Scan:
        """The walk from its beginning; what the last whole one found stays known."""
        last = {name: getattr(self, name) for name in ("walked_at", "walked_files", "walked_bytes")}
        return Scan(run_id=run_id, **last)

    @classmethod
    def decode(cls, text: str) -> Scan:
        """From the `scans` table.

        Raises:
            TypeError: it is damaged, or a newer release's.
        """
        scan = cls(**json_object(text))
        if any(type(getattr(scan, field.name)) is not type(field.default) for field in fields(cls)):
            raise TypeError(f"{text[:80]!r} is no scan")
        return scan


class Orphans:
    """One pass per volume that this node mounts; one worker at a time per volume."""

    def __init__(self, core: Core, store: Store, trust: Trust | None = None) -> None:
        self._core = core
        self._store = store
        self._trust = trust or Trust(core, store)

    def run_once(
        self,
        now: int = 0,
        *,
        volume_ids: Sequence[str] | None = None,
        budget: float = 60.0,
        effort: float = 0.5,
        stop: threading.Event | None = None,
    ) -> OrphanResult:
        """Walks on from where the last run stopped, within `budget` seconds."""
        result, pace = OrphanResult(), Pace(budget, effort, stop, "orphans", self._core.meter)
        wanted = None if volume_ids is None else [volume_location(volume_id) for volume_id in volume_ids]
        run(self._core.mounts.mount_for(wanted), self._store)  # and no other volume, whose disk may hang
        for volume in self._core.mounts.here():
            if volume_ids is not None and volume.id not in volume_ids:
                continue
            name, token = f"orphans:{volume.id}", secrets.token_hex(8)
            if not self._store.execute(op.TakeLease(name, token, LEASE)):
                continue  # another worker walks it
            try:
                self._volume(volume, name, token, result, pace)
            except (HeldError, VolumeError, OSError) as problem:
                result.held.append(volume_location(volume.id))
                log.warning("the orphan pass on volume %s is held: %s", volume.name, problem)
            finally:
                self._store.execute(op.DropLease(name, token))
        result.seconds = pace.end()
        return result

    def _volume(self, volume: Volume, lease: str, token: str, result: OrphanResult, pace: Pace) -> None:
        permit = self._trust.permit(volume)
        scope = orphans_scope(volume.id)
        if held := self._store.execute(op.Table("holds")).get(scope):
            raise HeldError(str(Hold.read(scope, held)))
        facts = self._store.execute(op.Facts())
        if self._trust.idle_held(facts.now):
            raise HeldError("the server restarted a short while ago; see `sessionsweep holds list`")
        if problem := eviction_problem(facts):
            raise HeldError(problem)  # asked of the server, not of the table: its row may have been dropped, too
        scan = self._load(volume, permit.run_id)
        while True:
            try:
                page = volume.walk(scan.cursor or None, limit=PAGE, budget=5.0)
            except VolumeError as problem:
                if not scan.cursor:
                    raise
                log.warning("the walk of volume %s begins anew: %s", volume.name, problem)
                scan = scan.anew(permit.run_id)
                continue
            scan.files += len(page.found)
            scan.bytes += sum(found.size for found in page.found)
            result.files += len(page.found)
            result.strangers += page.strangers.total()
            result.unreadable += page.unreadable.total()
            if self._core.settings.mode != "observe":
                volume.prune(page.empty)
            self._page(permit, scan, page.found, result)
            scan.cursor = page.cursor or ""
            if page.cursor is None:
                self._whole_walk(volume, scan)
                self._save(volume, scan)
                close_missing(self._core, self._store, self._trust, permit, result, pace)
                return
            self._save(volume, scan)
            # paused past the lease: another worker walks it now
            if not self._store.execute(op.TakeLease(lease, token, LEASE)) or not pace.next():
                result.more = True
                return

    def _page(self, permit: Permit, scan: Scan, page: Sequence[Sighting], result: OrphanResult) -> None:
        by_session: dict[str, list[Sighting]] = {}
        for found in page:
            by_session.setdefault(found.session_id, []).append(found)
        questions = [op.Owned(sid, tuple(f.resource_id for f in files)) for sid, files in by_session.items()]
        candidates: list[Sighting] = []
        repair: list[op.Mend] = []
        for question, answer in zip(questions, self._store.execute_many(questions), strict=True):
            if isinstance(answer, StoreError):
                continue  # unknown is not gone
            if answer.session != "live" and any(answer.present):
                repair.append(op.Mend(question.session_id, self._core.width, self._core.grace, self._core.retention))
            for found, present in zip(by_session[question.session_id], answer.present, strict=True):
                if present:
                    continue
                if answer.session == "live":
                    self._readopt(permit.volume, found, result)
                elif self._old_enough(found):
                    candidates.append(found)
        for mended in self._store.execute_many(repair):
            result.mended += not isinstance(mended, StoreError) and mended.what != ""
        self._judge(permit, scan, candidates, result)

    def _readopt(self, volume: Volume, found: Sighting, result: OrphanResult) -> None:
        # the file must still be there after its absence in the store was read: else it was deleted in between
        # one that is still being written waits: its writer's commit would count none of the bytes to come
        now = volume.find(found.session_id, found.resource_id, unlocked=True)
        if now is not None and now.inode == found.inode and self._core.settings.mode != "observe":
            again = op.Readopt(found.session_id, found.resource_id, volume_location(volume.id), now.size)
            if self._store.execute(again):
                result.readopted += 1
                log.warning("registered again, of live session %s: %s", found.session_id, found.resource_id)

    def _old_enough(self, found: Sighting) -> bool:
        # this node's clock against the times this node wrote: their difference is right however wrong both are
        age = time.time() - found.mtime_ns / 1e9
        return bool(age < 0 or age >= self._core.settings.orphan_min_age)

    def _judge(self, permit: Permit, scan: Scan, candidates: Sequence[Sighting], result: OrphanResult) -> None:
        scan.candidates += len(candidates)
        result.candidates += len(candidates)
        by_partition: dict[str, list[Sighting]] = {}
        for found in candidates:
            by_partition.setdefault(partition_of(found.session_id), []).append(found)
        for partition, files in by_partition.items():
            names = [_name(found) for found in files]
            seen_before = Sightings(self._core, self._store, permit).note(partition, names, scan.cap)
            if not all(seen_before):
                result.confirm_in = self._core.grace / 1000
            if not scan.checked or (scan.candidates > scan.cap and not scan.allowed):
                continue  # a whole walk must have stayed below the cap before anything goes
            again = [found for found, seen in zip(files, seen_before, strict=True) if seen]
            if not again:
                continue
            if self._core.settings.mode == "observe":
                result.would_destroy += len(again)
                self._tell(permit.volume, again, [])
                continue
            for start in range(0, len(again), SLICE):
                self._destroy(permit, partition, again[start : start + SLICE], result)

    def _destroy(self, permit: Permit, partition: str, files: Sequence[Sighting], result: OrphanResult) -> None:
        freed = 0
        candidates: list[Sighting] = []
        destroyed: list[Sighting] = []
        # asked again right before: what was restored or registered since is spared
        answers = self._store.execute_many([op.Owned(f.session_id, (f.resource_id,)) for f in files])
        if not self._trust.still(permit):
            return  # a server that was replaced or emptied in between knows no owners
        for found, answer in zip(files, answers, strict=True):
            if isinstance(answer, StoreError) or answer.session == "live" or any(answer.present):
                continue
            candidates.append(found)
            removal = permit.volume.destroy_orphan(found)
            if removal.outcome is Outcome.DELETED:
                destroyed.append(found)
                freed += found.size
                log.warning("orphan of session %s destroyed: %s", found.session_id, found.resource_id)
        Sightings(self._core, self._store, permit).forget(partition, [_name(found) for found in files])
        self._tell(permit.volume, candidates, destroyed)
        result.destroyed += len(destroyed)
        result.bytes += freed
        if destroyed:
            self._store.execute(op.Count(partition, {"orphans": len(destroyed), "b_orphans": freed}))

    def _tell(self, volume: Volume, files: Sequence[Sighting], destroyed: Sequence[Sighting]) -> None:
        found, gone = Counter(file.session_id for file in files), Counter(file.session_id for file in destroyed)
        rest = list(found)[TOLD:]  # a disk full of them must not push everything else out of the stream
        told_of = [(sid, n, gone[sid]) for sid, n in list(found.items())[:TOLD]]
        if rest:
            told_of.append(("", sum(found[sid] for sid in rest), sum(gone[sid] for sid in rest)))
        events = [
            op.Emit(EventName.ORPHAN_FOUND, sid, {"volume": volume.id, "found": n, "destroyed": dead})
            for sid, n, dead in told_of
        ]
        for told in self._store.execute_many(events):
            if isinstance(told, StoreError):
                log.warning("orphans of volume %s were found, and no event tells of it: %s", volume.name, told)

    def _whole_walk(self, volume: Volume, scan: Scan) -> None:
        allowed = scan.allowed
        scan.allowed = False
        if scan.candidates > scan.cap and not allowed:
            # lifting this hold is the operator's word for these files: the walk after it may destroy them
            scan.allowed = True
            text = (
                f"{scan.candidates} of {scan.files} files on volume {volume.name!r} have no owner, over the cap of "
                f"{scan.cap}: the store may have lost its data. None of them was destroyed. If they may go: "
                f"sessionsweep holds lift {orphans_scope(volume.id)}"
            )
            node = self._core.settings.node
            run(put_hold(orphans_scope(volume.id), "too-many-orphans", text, node), self._store)
        scan.checked = True
        scan.walked_at = self._store.execute(op.Facts()).now
        scan.walked_files, scan.walked_bytes = scan.files, scan.bytes
        scan.files = scan.bytes = scan.candidates = 0

    def _load(self, volume: Volume, run_id: str) -> Scan:
        row = self._store.execute(op.Table("scans")).get(volume.id)
        try:
            scan = Scan.decode(row) if row else Scan()
        except TypeError:
            scan = Scan()  # this walk begins anew, and proves nothing before its end
        if scan.run_id != run_id:
            scan = scan.anew(run_id)  # sightings of another server run prove nothing
        return scan

    def _save(self, volume: Volume, scan: Scan) -> None:
        self._store.execute(op.TablePut("scans", volume.id, json.dumps(asdict(scan))))


def _name(found: Sighting) -> str:
    return f"{found.session_id}/{found.resource_id}:{found.inode}"
