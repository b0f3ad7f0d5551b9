"""This node's disks: what is done on each goes on in threads of its own, so that one that hangs stops only itself.

A call on a disk that is gone (a hard NFS mount whose server is dead) never returns, and its thread can't be ended. So
at most two are ever lost for one disk: one that looks at it and one that runs a pass. As long as either is overdue
nothing else is begun on that disk, by this process or by those of its pool: its volume counts as not mounted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from sessionsweep.deployment import ms
from sessionsweep.errors import ConfigurationError, SessionSweepError
from sessionsweep.model.holds import Hold
from sessionsweep.model.rows import json_object, whole
from sessionsweep.settings_values import VolumeSpec
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep_workers.alarms import TABLE
from sessionsweep_workers.context import Context
from sessionsweep_workers.lane import Lane

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds that a look at a disk may take
PASS_PATIENCE = 100.0  # seconds that a pass over one volume may take: as long as a task
ALARM = "disk:"  # what the rows of these alarms begin with: `disk:<node>/<name>`


class Disk:
    """One volume's disk."""

    def __init__(self, spec: VolumeSpec) -> None:
        self.spec = spec
        self.passes = Lane(f"sessionsweep-passes-{spec.name}")
        self.error: SessionSweepError | None = None
        self._look: threading.Thread | None = None
        self._since = 0.0
        self._lock = threading.Lock()  # guards the two below
        self._is_looking = False
        self._then: Callable[[], object] | None = None

    def look(self, job: Callable[[], object], then: Callable[[], object] | None = None) -> bool:
        """Does a job that touches the disk, unless the last one is still at it; `then` follows either. Whether it
        began."""
        with self._lock:
            self._then = then or self._then
            if self._is_looking:
                return False
            self._is_looking = True
        self.error, self._since = None, time.monotonic()
        name = f"sessionsweep-disk-{self.spec.name}"
        thread = threading.Thread(target=self._do, args=(job,), name=name, daemon=True)
        try:
            thread.start()
        except BaseException:  # none can be had: the next look tries
            self._is_looking = False
            raise
        self._look = thread
        return True

    def returns(self, within: float) -> bool:
        """Waits for that job; whether it has ended."""
        if self._look is not None:
            self._look.join(max(0.0, within))
        return self._look is None or not self._look.is_alive()

    @property
    def is_idle(self) -> bool:
        """Whether no call of ours is under way on it."""
        return self.returns(0) and self.passes.since is None

    def overdue(self, since: float) -> float:
        """Seconds that a call has not returned for which should have, counted from `since` (monotonic) at the
        earliest; 0: there is none."""
        now = time.monotonic()
        look = 0.0 if self.returns(0) else now - max(self._since, since)
        begun = self.passes.since
        a_pass = 0.0 if begun is None else now - max(begun, since)
        return max(look if look > PATIENCE else 0.0, a_pass if a_pass > PASS_PATIENCE else 0.0)

    def _do(self, job: Callable[[], object] | None) -> None:
        while job is not None:
            try:
                job()
            except SessionSweepError as error:
                self.error = error
                log.warning("volume %s: %s", self.spec.name, error)
            except Exception:
                log.exception("volume %s can't be looked after; it is tried again", self.spec.name)
            with self._lock:
                job, self._then = self._then, None
                self._is_looking = job is not None


class DiskAlarm:
    """One disk of this node, as this worker sees it."""

    def __init__(self, context: Context, spec: VolumeSpec) -> None:
        self._context = context
        self._spec = spec
        self._row = f"{ALARM}{context.settings.node}/{spec.name}"
        self._raised: bool | None = None  # None: one of an earlier worker may stand

    def look(self, now: int, silent_for: float) -> None:
        """Raises or clears it, by the store's time and for how many seconds a call has not returned."""
        spec, store = self._spec, self._context.store
        if silent_for:
            text = (
                f"Volume {spec.name!r} at {spec.path} on node {self._context.settings.node} doesn't answer: a call on "
                f"its disk has not returned for {silent_for:.0f} s. Nothing of it is deleted until it does; other "
                "volumes go on. Look at its server or device; a mount that is dead can be taken away by umount -f -l"
            )
            alarm = Hold(self._row, "not-answering", text, now, self._context.settings.node)
            # each time: the row may have gone with an old copy of the store, or by another worker's word
            store.execute(op.TablePut(TABLE, self._row, alarm.encode(), only_new=True))
            if not self._raised:
                log.error(text)
            self._raised = True
        elif not silent_for and self._raised is not False:
            if store.execute(op.TableDrop(TABLE, self._row)):
                log.warning("volume %s at %s answers again", spec.name, spec.path)
            self._raised = False


def forget_alarms(context: Context) -> None:
    """Drops alarms that nobody is left to take back: of nodes that are silent for NODE_TIMEOUT (which is told by
    itself; one that lives puts its alarm again), and of disks that this one no longer has."""
    rows = [row for row in context.store.execute(op.Table(TABLE)) if row.startswith(ALARM)]
    if not rows:
        return
    now, silence = context.store.execute(op.Facts()).now, ms(context.settings.node_timeout)
    nodes = {name: whole(json_object(row).get("at")) for name, row in context.store.execute(op.Table("n")).items()}
    ours = {spec.name for spec in context.core.mounts.specs}
    for row in rows:
        node, _, name = row.removeprefix(ALARM).rpartition("/")
        if now - nodes.get(node, 0) > silence or (node == context.settings.node and name not in ours):
            context.store.execute(op.TableDrop(TABLE, row))


class Disks:
    """All of them, for one worker's main process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._mounts = context.core.mounts
        self._disks = {spec.name: Disk(spec) for spec in self._mounts.specs}
        self._alarms = {spec.name: DiskAlarm(context, spec) for spec in self._mounts.specs}
        self._due: set[str] = set()  # whose upkeep is to begin
        self._store_since = time.monotonic()  # since when the store answers: while it doesn't, no disk is to blame

    def mount(self) -> None:
        """Before the pool begins: mounts all that answer in time. No thread is left but of one that hangs.

        Raises:
            ConfigurationError: a volume can't be as it is set.
        """
        for name, disk in self._disks.items():
            disk.look(partial(self._mount, name))
        end = time.monotonic() + PATIENCE
        for name, disk in self._disks.items():
            if not disk.returns(end - time.monotonic()):
                self._mounts.silence(name, True)
                log.error("volume %s at %s doesn't answer; the worker begins without it", name, disk.spec.path)
            elif isinstance(disk.error, ConfigurationError):
                raise disk.error

    def start(self) -> None:
        """Passes may begin."""
        for disk in self._disks.values():
            disk.passes.start()

    def stop(self, timeout: float) -> None:
        """Waits for the passes under way, but not for those on a disk that hangs."""
        end = time.monotonic() + timeout
        for name, disk in sorted(self._disks.items(), key=lambda item: self._mounts.is_silent(item[0])):
            disk.passes.stop(0.0 if self._mounts.is_silent(name) else max(0.0, end - time.monotonic()))

    def ask(self, volume_id: str, key: str, job: Callable[[], object]) -> None:
        """Runs a pass over one volume soon."""
        for volume in self._mounts.here():
            if volume.id == volume_id:
                self._disks[volume.name].passes.ask(key, job)

    def if_it_answers(self, volume_id: str, job: Callable[[], object]) -> None:
        """Gives others work on a disk once a look has come back: the pool has few hands, and would lose them on it."""
        for volume in self._mounts.here():
            if volume.id == volume_id:
                self._disks[volume.name].look(partial(_touch, volume.verify), job)

    def store_is_away(self) -> None:
        """What waits for the store is not late."""
        self._store_since = time.monotonic()

    def watch(self, now: int) -> None:
        """By the store's time: which disks don't answer, and which do again."""
        for name, disk in self._disks.items():
            overdue = disk.overdue(self._store_since)
            # what is silent stays so until what hangs has returned
            silent = overdue > 0 or (self._mounts.is_silent(name) and not disk.is_idle)
            self._mounts.silence(name, silent)
            self._alarms[name].look(now, overdue or PATIENCE if silent else 0.0)

    def look_after(self, *, upkeep: bool) -> None:
        """Begins what is due on each disk: its upkeep, or else only a look whether it answers."""
        opened = {volume.name: volume for volume in self._mounts.opened()}
        if upkeep:
            self._due.update(self._disks)
        for name, disk in self._disks.items():
            volume = opened.get(name)
            if name in self._due or volume is None:
                # a look that is under way would make it miss its turn
                if disk.look(partial(self._context.upkeep.tend, name)):
                    self._due.discard(name)
            else:
                disk.look(partial(_touch, volume.verify))

    def _mount(self, name: str) -> None:
        run(self._mounts.mount([name]), self._context.store)


def _touch(verify: Callable[[], object]) -> None:
    with suppress(SessionSweepError):  # whoever is to use it finds the same, and holds it
        verify()
