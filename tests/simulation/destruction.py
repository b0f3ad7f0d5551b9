"""What must hold whenever a file is destroyed or called gone: whose it was, when, under which lease, on which disk."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from functools import wraps
from typing import Any
from unittest import mock

from greenlet import getcurrent

from sessionsweep.engine import orphans
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import ResourceState
from sessionsweep.volumes.deletion import Outcome, Removal
from sessionsweep.volumes.volume import Volume
from simulation.baton import Actor, SteppedStore
from simulation.chance import Clock
from simulation.disks import Disks
from simulation.witness import Witness


class Destruction:
    """Stands beside every volume. What is wrong goes to the witness."""

    def __init__(self, witness: Witness, disks: Disks, clock: Clock, store: SteppedStore) -> None:
        self._witness = witness
        self._disks = disks
        self._clock = clock
        self._store = store
        self.born: dict[tuple[str, str], int] = {}
        self.emptied = False  # the store was: nothing goes before an operator's word
        self.rolled_back_on: set[str] = set()  # volumes whose time mark is far ahead of the store: the same
        self.over_the_cap: set[str] = set()  # volumes whose next walk may pass the cap, by an operator's word
        self.orphans_of_pass: Counter[str] = Counter()  # of one that settles
        self.clock_set = False  # the server's: what is measured by it is no length of time any more
        self.deleted = 0
        self.orphans = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Every volume of this process is watched meanwhile."""
        create, delete, destroy, find = Volume.create, Volume.delete_many, Volume.destroy_orphan, Volume.find
        adopt, promote = Volume.adopt, Volume.promote

        @wraps(create)
        def created(volume: Volume, session_id: str, resource_id: str, **options: Any) -> Any:
            self._store.pause("creates the file")
            file = create(volume, session_id, resource_id, **options)
            self.born[session_id, resource_id] = self._clock.now
            actor = getcurrent()
            if isinstance(actor, Actor):
                actor.files.append(file)
            return file

        @wraps(adopt)
        def adopted(volume: Volume, session_id: str, resource_id: str, *where: Any, **options: Any) -> int:
            self._store.pause("moves a file in")
            size = adopt(volume, session_id, resource_id, *where, **options)
            self.born[session_id, resource_id] = self._clock.now
            return size

        @wraps(promote)
        def promoted(volume: Volume, *what: Any) -> Any:
            self._store.pause("moves a file out")
            return promote(volume, *what)

        @wraps(delete)
        def deleted(volume: Volume, batches: Any) -> list[Removal]:
            removals = delete(volume, batches)
            for removal in removals:
                if removal.outcome is Outcome.DELETED:
                    self.deleted += 1
                    self._reclaimed(volume, removal)
                elif removal.outcome is Outcome.GONE:
                    self._is_gone(volume, removal.session_id, removal.resource_id)
            return removals

        @wraps(destroy)
        def destroyed(volume: Volume, sighted: Any) -> Removal:
            removal = destroy(volume, sighted)
            if removal.outcome is Outcome.DELETED:
                self.orphans += 1
                self._orphan(volume, removal)
            return removal

        @wraps(find)
        def found(volume: Volume, session_id: str, resource_id: str, *, unlocked: bool = False) -> Any:
            sighting = find(volume, session_id, resource_id, unlocked=unlocked)
            if sighting is None and not unlocked:
                self._is_gone(volume, session_id, resource_id)
            return sighting

        watched = {
            "create": created, "adopt": adopted, "promote": promoted,
            "delete_many": deleted, "destroy_orphan": destroyed, "find": found,
        }  # fmt: skip
        with contextlib.ExitStack() as stack:
            for name, function in watched.items():
                stack.enter_context(mock.patch.object(Volume, name, function))
            yield

    def _reclaimed(self, volume: Volume, removal: Removal) -> None:
        sid, rid, now = removal.session_id, removal.resource_id, self._clock.now
        accuse, name = self._witness.accuse, f"{removal.session_id}/{removal.resource_id}"
        state = self._witness.store._state
        self._may_destroy(volume, name)
        record, death = self._witness.record(sid, rid), self._witness.deaths.get(sid)
        if sid in state.sessions:
            if record is not None and record.state in (ResourceState.INTENT, ResourceState.LIVE):
                accuse(f"reclaim deleted {name}, which is {record.state!r} in a live session")
        elif death is None:
            accuse(f"reclaim deleted {name}, whose session is not known to have ended")
        elif record is not None and record.state in (ResourceState.INTENT, ResourceState.LIVE):
            due = max(death.due, state.partition(sid[:2]).graves[sid].due)  # the tombstone knows of jobs, too
            pinned = record.till if record.state is ResourceState.LIVE else 0
            if now < max(due, pinned) and not self.clock_set:
                accuse(f"reclaim deleted {name} {max(due, pinned) - now} ms too early ({death.reason})")
        actor = getcurrent()
        if isinstance(actor, Actor):
            until, run = actor.leases.get(volume_location(volume.id), (0, ""))
            if until <= actor.looked[0][0]:
                accuse(
                    f"reclaim deleted {name}: its lease was over {actor.looked[0][0] - until} ms before it looked last"
                )
            if run != state.run_id:
                accuse(f"reclaim deleted {name} under a lease of another run of the server")

    def _orphan(self, volume: Volume, removal: Removal) -> None:
        sid, rid, now = removal.session_id, removal.resource_id, self._clock.now
        accuse, name, witness = self._witness.accuse, f"{removal.session_id}/{removal.resource_id}", self._witness
        self._may_destroy(volume, name)
        settings = witness.settings
        if sid in witness.store._state.sessions:
            accuse(f"the orphan pass destroyed {name} of a live session")
        if witness.record(sid, rid) is not None:
            accuse(f"the orphan pass destroyed {name}, which is on record")
        death, lost = witness.deaths.get(sid), witness.lost.get(sid, 0)
        actor = getcurrent()
        count = actor.orphans if isinstance(actor, Actor) else self.orphans_of_pass
        count[volume.id] += 1
        if count[volume.id] > orphans.CAP_FLOOR and volume.id not in self.over_the_cap:
            accuse(f"the orphan pass destroyed {count[volume.id]} files of {volume.name} without a word")
        if self.clock_set:
            return
        if death is None and lost and now < lost + settings.hold * 1000:
            accuse(f"the orphan pass destroyed {name} {now - lost} ms after its session was lost: the hold is longer")
        ownerless = max(
            self.born.get((sid, rid), 0), witness.removed.get((sid, rid), 0), lost, death.at if death is not None else 0
        )
        if now - ownerless < settings.grace_period * 1000:
            accuse(f"the orphan pass destroyed {name} only {now - ownerless} ms after it lost its owner")

    def _may_destroy(self, volume: Volume, name: str) -> None:
        if self.emptied:
            self._witness.accuse(f"{name} was destroyed after the store was emptied")
        if volume.id in self.rolled_back_on:
            self._witness.accuse(f"{name} was destroyed after the store was rolled back")

    def _is_gone(self, volume: Volume, session_id: str, resource_id: str) -> None:
        disk = self._disks.of(volume.id)
        if disk is not None and disk.file(session_id, resource_id).exists():
            self._witness.accuse(f"{session_id}/{resource_id} was called gone, and lies on its disk {disk.name}")
