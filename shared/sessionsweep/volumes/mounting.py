"""Which volumes this node mounts, and the rules by which a folder becomes one of this deployment's volumes.

A marker is made only in an empty folder, and only if the store knows no volume under this (node, name): the empty
mount point of an unmounted disk must never become a new volume. The deployment id is made once, in the store, when
a volume without a marker is first made; it is never copied from a marker to the store, for a store that has
forgotten it has forgotten what is alive as well.
"""

from __future__ import annotations

import json
import logging
import mmap
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sessionsweep.errors import ConfigurationError, VolumeError, VolumeNotHereError, VolumeUntrustedError
from sessionsweep.model.holds import Hold, mount_scope
from sessionsweep.model.ids import new_volume_id
from sessionsweep.model.resource import volume_location
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask, work
from sessionsweep.store.keys import SCHEMA
from sessionsweep.volumes import inherited
from sessionsweep.volumes.volume import ExclusiveLock, Marker, Volume

if TYPE_CHECKING:
    from sessionsweep.settings_values import VolumeSpec

log = logging.getLogger(__name__)


class Mounts:
    """This process's opened volumes, by name. Opened on first need; a volume that could not be is tried again.

    A disk that hangs (a hard NFS mount whose server is gone) lets no call return. So nothing opens a volume that it
    doesn't need, and none is used while somebody who watches it calls it silent: as if it weren't mounted.

    `exclusive`: this process alone may use them (memory://), for one store; a forked child doesn't inherit them.
    """

    def __init__(self, node: str, specs: Sequence[VolumeSpec], *, exclusive: bool = False) -> None:
        self.node = node
        self._silent = mmap.mmap(-1, max(1, len(specs)))  # a byte each; shared with processes that are forked
        self.specs = tuple(specs)
        self._volumes: dict[str, Volume] = {}  # by name
        self._owned: dict[str, ExclusiveLock] = {}  # by name
        self._owning = threading.Lock()  # guards the line above
        self._exclusive = exclusive

    def here(self) -> list[Volume]:
        """The volumes that are open and not silent, as they are now: threads open and close them meanwhile."""
        return [volume for volume in self.opened() if not self.is_silent(volume.name)]

    def opened(self) -> list[Volume]:
        """The volumes that are open, also silent ones: they are this node's all the same."""
        return list(self._volumes.values())

    def missing(self) -> list[VolumeSpec]:
        """What should be mounted and isn't open."""
        return [spec for spec in self.specs if spec.name not in self._volumes]

    def is_silent(self, name: str) -> bool:
        """Whether its disk doesn't answer, as who watches it says."""
        return any(spec.name == name and self._silent[at] for at, spec in enumerate(self.specs))

    def silence(self, name: str, silent: bool) -> None:
        """Says that a disk doesn't answer, or does again; to the processes that were forked from this one, too."""
        for at, spec in enumerate(self.specs):
            if spec.name == name:
                self._silent[at] = silent

    def watch_with(self, other: Mounts) -> None:
        """Takes over what is said of the same disks there, now and later: in a process forked from it."""
        if [spec.name for spec in self.specs] == [spec.name for spec in other.specs]:
            self._silent = other._silent

    def at(self, location: str) -> Volume | None:
        """The open volume behind a location, unless it is silent."""
        for volume in self.here():
            if volume_location(volume.id) == location:
                return volume
        return None

    def forget(self, name: str) -> None:
        """Closes one, so that the next `mount` opens it again (its root changed underneath)."""
        self._volumes.pop(name, None)
        with self._owning:
            owned = self._owned.pop(name, None)
        if owned is not None:
            owned.release()

    def close(self) -> None:
        """Closes all and lets others have them. Idempotent; whoever needs one later opens it again."""
        for name in {*self._volumes, *self._owned}:
            self.forget(name)

    def let_go(self) -> None:
        """In a forked child: the volumes are the parent's alone, and its copy of the memory knows no news of them."""
        self._owning = threading.Lock()
        self._volumes.clear()
        self._owned.clear()

    def mount(self, names: Collection[str] | None = None) -> Flow[list[VolumeError]]:
        """Opens every volume (None: not only those named) that isn't open nor silent, by the rules above; answers what
        went wrong with the others."""
        problems: list[VolumeError] = []
        missing = [spec for spec in self.missing() if not self.is_silent(spec.name)]
        if self._exclusive:
            # a fresh memory takes its deployment's id from a marker: were a volume made first, those would be foreign
            missing = yield from work(lambda: sorted(missing, key=lambda spec: not Volume.is_marked(Path(spec.path))))
        elif names is not None:
            missing = [spec for spec in missing if spec.name in names]
        for spec in missing:
            try:
                self._volumes[spec.name] = yield from self._mount_one(spec)
            except VolumeError as problem:
                log.warning("volume %s is not mounted: %s", spec.name, problem)
                problems.append(problem)
        return problems

    def for_new_files(self, name: str | None) -> Flow[Volume]:
        """The volume that a new file goes to: the named one, else the first of VOLUMES.

        Raises:
            ConfigurationError: no volume is configured. VolumeNotHereError, VolumeUntrustedError
        """
        if not self.specs:
            raise ConfigurationError(
                "SESSIONSWEEP_VOLUMES is not set, so a new file has nowhere to lie; set it to name=/folder, on each "
                "server that makes files, for web processes and workers alike"
            )
        wanted = name or self.specs[0].name
        volume = self._volumes.get(wanted)
        if volume is None or not (yield from self._is_there(volume)):
            problems = yield from self.mount([wanted])
            volume = self._volumes.get(wanted)
            if volume is None:
                if problems:
                    raise problems[0]
                raise VolumeNotHereError(wanted, ())
        return volume

    def holding(self, location: str) -> Flow[Volume]:
        """The open volume behind a location.

        Raises:
            VolumeNotHereError: this node doesn't mount it; names the nodes that do.
        """
        volume = self.at(location)
        if volume is None or not (yield from self._is_there(volume)):
            yield from self.mount_for([location])
            volume = self.at(location)
        if volume is None:
            volume_id = location.removeprefix("v.")
            mounts = yield from ask(op.Table("mounts"))
            nodes = sorted({row.split("/")[0] for row, known in mounts.items() if known == volume_id})
            raise VolumeNotHereError(volume_id, nodes)
        return volume

    def mount_for(self, locations: Collection[str] | None) -> Flow[None]:
        """Opens what these locations (None: all) need, and no other volume: that one's disk may hang.

        What this node has mounted under a name is on record; a disk that was carried here, or lies in another's place,
        is found among the others.
        """
        if locations is None:
            yield from self.mount()
            return
        for location in locations:
            if self.at(location) is not None or not self.missing():
                continue
            known = yield from ask(op.Table("mounts"))
            rows = {spec.name: known.get(f"{self.node}/{spec.name}") for spec in self.specs}
            volume_id = location.removeprefix("v.")
            named = [name for name, row in rows.items() if row == volume_id]
            yield from self.mount(named)
            here = {volume.name for volume in self.here()}
            if self.at(location) is not None or not here.issuperset(named):
                continue  # it is there, or away
            elsewhere = not named and volume_id in known.values()
            yield from self.mount([name for name, row in rows.items() if row is None or not elsewhere])

    def _is_there(self, volume: Volume) -> Flow[bool]:
        """Whether an open volume still lies under its path; if not (unmounted, adopted anew) it is opened again."""
        try:
            yield from work(volume.verify)
        except VolumeUntrustedError:
            if self._volumes.get(volume.name) is volume:  # else another thread has opened it again
                self.forget(volume.name)
            return False
        return True

    def _mount_one(self, spec: VolumeSpec) -> Flow[Volume]:
        row = f"{self.node}/{spec.name}"
        # in this order: another process of this node that makes the volume just now writes its marker before the row
        rows = yield from ask(op.Table("mounts"))
        known = rows.get(row)
        marker = yield from work(partial(Volume.read_marker, Path(spec.path)))
        if marker is None:
            if known is not None:
                text = (
                    f"{spec.path} has no marker, but node {self.node} has mounted a volume {spec.name!r} before: is "
                    f"the disk mounted? If it is gone for good: sessionsweep volumes forget {known}"
                )
                yield from put_hold(mount_scope(self.node, spec.name), "marker-missing", text, self.node)
                raise VolumeUntrustedError("marker-missing", text)
            deployment = yield from deployment_id()
            make: Callable[[], Volume] = partial(
                Volume.initialize, Path(spec.path), spec.name, deployment, ephemeral=spec.ephemeral
            )
            volume = yield from work(make)
        else:
            volume = yield from work(partial(Volume.open, Path(spec.path), spec.name, ephemeral=spec.ephemeral))
            if self._exclusive:
                yield from self._own(volume)
                yield from self._begin_with(volume)
        yield from self._refuse_copy(volume, rows)
        if self._exclusive and marker is None:
            yield from self._own(volume)
        # since when: an ephemeral volume counts as gone only when its node had the time to say that it lives
        now = (yield from ask(op.Facts())).now
        about = json.dumps({"name": spec.name, "ephemeral": spec.ephemeral, "at": now})
        yield from ask(op.TablePut("vols", volume.id, about))
        yield from ask(op.TablePut("mounts", row, volume.id))
        try:
            # again: of two that are mounted at the same moment neither may have found the other's row before
            yield from self._refuse_copy(volume, (yield from ask(op.Table("mounts"))))
        except VolumeUntrustedError:
            # what was on record stays so: without it an empty mount point would be a first start
            yield from ask(op.TableDrop("mounts", row) if known is None else op.TablePut("mounts", row, known))
            raise
        yield from ask(op.TableDrop("holds", mount_scope(self.node, spec.name)))
        return volume

    def _refuse_copy(self, volume: Volume, rows: Mapping[str, str]) -> Flow[None]:
        """A copied disk: a file that lies on one of them would be called gone on the other."""
        for spec in self.specs:
            twin = self._volumes.get(spec.name)
            if spec.name == volume.name:
                continue
            if twin is None and rows.get(f"{self.node}/{spec.name}") == volume.id and not self.is_silent(spec.name):
                # it was that volume: what lies there now is only known by looking
                marker = yield from work(partial(_marker_of, Path(spec.path)))
                same = marker is not None and marker.volume_id == volume.id
            else:
                same = (twin.id if twin is not None else rows.get(f"{self.node}/{spec.name}")) == volume.id
            if same:
                text = f"{volume.root} and {spec.path} carry the same volume id {volume.id}: one is a copy; unmount it"
                yield from put_hold(mount_scope(self.node, volume.name), "twice-mounted", text, self.node)
                raise VolumeUntrustedError("twice-mounted", text)

    def _own(self, volume: Volume) -> Flow[None]:
        """Takes a volume for this process and its store, which the run id names."""
        store = (yield from ask(op.Facts())).run_id
        lock = yield from work(partial(volume.exclusive, store))
        inherited.register(self)
        with self._owning:
            before, self._owned[volume.name] = self._owned.get(volume.name), lock
        if before is not None:  # of another thread that mounts it just now, or of a mount that failed
            before.release()

    def _begin_with(self, volume: Volume) -> Flow[None]:
        """Sole ownership is proven by the lock, so the memory of this process may take over what the volume knows: its
        deployment's id, and the time it has seen; for to be empty is not to be an old snapshot."""
        yield from ask(op.SetMeta({"deployment": volume.deployment_id}, only_new=True))
        try:
            seen = (yield from work(volume.high_water)) or 0
        except VolumeUntrustedError:
            return  # a damaged mark stops destruction, which says so
        yield from ask(op.SetMeta({"high_water": str(seen)}, raise_only=True))


def _marker_of(path: Path) -> Marker | None:
    try:
        return Volume.read_marker(path)
    except VolumeUntrustedError:
        return None


def deployment_id() -> Flow[str]:
    """The deployment's id, made if the store knows none; and with it, on record which run of the server this is: a
    failover to a copy from before the first pass would not be noticed else."""
    facts = yield from ask(op.Facts())
    fresh = {"deployment": new_volume_id(), "schema": str(SCHEMA), "run_id": facts.run_id, "run_since": str(facts.now)}
    yield from ask(op.SetMeta(fresh, only_new=True))
    return (yield from ask(op.Meta()))["deployment"]


def put_hold(scope: str, reason: str, text: str, node: str = "") -> Flow[bool]:
    """Records a hold; one that stands keeps its age. Answers whether it is new."""
    facts = yield from ask(op.Facts())
    hold = Hold(scope, reason, text, facts.now, node)
    new = yield from ask(op.TablePut("holds", scope, hold.encode(), only_new=True))
    if new:
        log.error("destruction stopped on %s (%s): %s", scope, reason, text)
    return new
