"""Which volumes this node mounts, and the rules by which a folder becomes one of this deployment's volumes.

A marker is made only in an empty folder, and only if the store knows no volume under this (node, name): the empty
mount point of an unmounted disk must never become a new volume. The deployment id is made once, in the store, when
a volume without a marker is first made; it is never copied from a marker to the store, for a store that has
forgotten it has forgotten what is alive as well.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
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
from sessionsweep.volumes.volume import ExclusiveLock, Volume

if TYPE_CHECKING:
    from sessionsweep.settings_values import VolumeSpec

log = logging.getLogger(__name__)


class Mounts:
    """This process's opened volumes, by name. Opened on first need; a volume that could not be is tried again.

    `exclusive`: this process alone may use them (memory://), for one store; a forked child doesn't inherit them.
    """

    def __init__(self, node: str, specs: Sequence[VolumeSpec], *, exclusive: bool = False) -> None:
        self.node = node
        self.specs = tuple(specs)
        self._volumes: dict[str, Volume] = {}  # by name
        self._owned: dict[str, ExclusiveLock] = {}  # by name
        self._owning = threading.Lock()  # guards the line above
        self._exclusive = exclusive

    def here(self) -> list[Volume]:
        """The volumes that are open, as they are now: threads open and close them meanwhile."""
        return list(self._volumes.values())

    def missing(self) -> list[VolumeSpec]:
        """What should be mounted and isn't open."""
        return [spec for spec in self.specs if spec.name not in self._volumes]

    def at(self, location: str) -> Volume | None:
        """The open volume behind a location."""
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

    def mount(self) -> Flow[list[VolumeError]]:
        """Opens every volume that isn't open, by the rules above; answers what went wrong with the others."""
        problems: list[VolumeError] = []
        missing = self.missing()
        if self._exclusive:
            # a fresh memory takes its deployment's id from a marker: were a volume made first, those would be foreign
            missing = yield from work(lambda: sorted(missing, key=lambda spec: not Volume.is_marked(Path(spec.path))))
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
            problems = yield from self.mount()
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
            yield from self.mount()
            volume = self.at(location)
        if volume is None:
            volume_id = location.removeprefix("v.")
            mounts = yield from ask(op.Table("mounts"))
            nodes = sorted({row.split("/")[0] for row, known in mounts.items() if known == volume_id})
            raise VolumeNotHereError(volume_id, nodes)
        return volume

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
        known = (yield from ask(op.Table("mounts"))).get(row)
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
        twin = self.at(volume_location(volume.id))
        if twin is not None and twin.name != spec.name:
            # a copied disk: a file that lies on one of them would be called gone on the other
            text = f"{spec.path} and {twin.root} carry the same volume id {volume.id}: one is a copy; unmount it"
            yield from put_hold(mount_scope(self.node, spec.name), "twice-mounted", text, self.node)
            raise VolumeUntrustedError("twice-mounted", text)
        if self._exclusive and marker is None:
            yield from self._own(volume)
        # since when: an ephemeral volume counts as gone only when its node had the time to say that it lives
        now = (yield from ask(op.Facts())).now
        about = json.dumps({"name": spec.name, "ephemeral": spec.ephemeral, "at": now})
        yield from ask(op.TablePut("vols", volume.id, about))
        yield from ask(op.TablePut("mounts", row, volume.id))
        yield from ask(op.TableDrop("holds", mount_scope(self.node, spec.name)))
        return volume

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
