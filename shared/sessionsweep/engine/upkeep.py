"""Upkeep: this node's heartbeat, time marks, and what dead processes, dead nodes and lost writes left behind."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sessionsweep.deployment import Core, ms, partitions
from sessionsweep.engine.results import Result
from sessionsweep.engine.server import ServerWatch
from sessionsweep.engine.silence import Silence
from sessionsweep.engine.trend import Trend
from sessionsweep.engine.trust import Trust
from sessionsweep.errors import StoreError, VolumeUntrustedError
from sessionsweep.model.resource import process_location, volume_location
from sessionsweep.model.rows import decimal, json_object, whole
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.volumes.space import Space, space_on
from sessionsweep.volumes.volume import Volume

log = logging.getLogger(__name__)

PROCESS_SILENCE = 60_000  # ms without a heartbeat: a web process is gone, and its streams with it
MEND_SLICE = 500  # keys a run of the anti-entropy scan looks at, per partition
NODE_MEMORY = 7 * 86_400_000  # ms after which a silent node leaves the table


@dataclass
class UpkeepResult(Result):
    """`streams`: of dead processes, closed as gone; `node_gone`: resources closed with their ephemeral node."""

    streams: int = 0
    node_gone: int = 0
    mended: int = 0
    damaged: int = 0  # sessions with a record that can't be read: left alone, and told of in the log
    seconds: float = 0.0


class Upkeep:
    """What each node's worker does between sweeps."""

    def __init__(self, core: Core, store: Store, trust: Trust | None = None, silence: Silence | None = None) -> None:
        self._core = core
        self._store = store
        self._queues: list[str] = []
        self._space: dict[str, Space] = {}  # volume id → its disk at the last look
        self._unwritable: dict[str, str] = {}  # volume id → the error's name
        self._trust = trust or Trust(core, store)
        self._silence = silence or Silence(self._trust.monotonic)
        self._server = ServerWatch(core, store)
        self._trend = Trend(core, store)

    def beat_heart(self, queues: Sequence[str] | None = None) -> None:
        """Says that this node lives, what it mounts and which queues its worker consumes (None: those told last);
        looks whether the server keeps what it is given. No disk is touched: one that hangs must not silence a node."""
        with self._an_outage_forgets_the_silent():
            self._beat_heart(queues)

    def _beat_heart(self, queues: Sequence[str] | None) -> None:
        self._queues = list(queues) if queues is not None else self._queues
        facts = self._store.execute(op.Facts())
        self._server.look(facts)
        volumes = {volume.id: volume.name for volume in self._core.mounts.opened()} | self._never_opened()
        space = {id_: {"used": s.used, "free": s.free} for id_, s in dict(self._space).items() if id_ in volumes}
        row = {"at": facts.now, "volumes": volumes, "queues": self._queues, "space": space}
        row["unwritable"] = {id_: error for id_, error in dict(self._unwritable).items() if id_ in volumes}
        self._store.execute(op.TablePut("n", self._core.settings.node, json.dumps(row)))

    def run_once(self, now: int = 0) -> UpkeepResult:
        """All of it: of each disk, and of the store."""
        with self._an_outage_forgets_the_silent():
            for spec in self._core.mounts.specs:
                self.tend(spec.name)
            return self.tidy()

    @contextlib.contextmanager
    def _an_outage_forgets_the_silent(self) -> Iterator[None]:
        """Around every word with the store that may be the first to meet one."""
        try:
            yield
        except StoreError:
            self._silence.forget()
            raise

    def tend(self, name: str) -> None:
        """One volume's, which touches its disk and no other: mounts it where it is missing, looks how full it is, marks
        the time."""
        run(self._core.mounts.mount([name]), self._store)
        for volume in self._core.mounts.here():
            if volume.name == name:
                self._measure(volume)
                self._unwritable.pop(volume.id, None)
                self._unwritable.update(self._trust.mark_time(name))

    def tidy(self) -> UpkeepResult:
        """The store's, which touches no disk: beats, closes what the dead left, mends a slice of the keys, writes the
        trends' snapshots."""
        with self._an_outage_forgets_the_silent():
            return self._tidy()

    def _tidy(self) -> UpkeepResult:
        result = UpkeepResult()
        self.beat_heart()
        facts = self._store.execute(op.Facts())
        if self._core.settings.mode != "observe":
            self._dead_processes(facts, result)
            self._dead_nodes(facts, result)
            self._mend(result)
        self._trend.run_once(self._store.execute(op.Facts()).now)  # last: nothing depends on it
        return result

    def _never_opened(self) -> dict[str, str]:
        """Volumes of this node whose disks hang since before this process began: who counts its dead must not take
        them for gone."""
        mounts = self._core.mounts
        silent = [spec.name for spec in mounts.missing() if mounts.is_silent(spec.name)]
        known = self._store.execute(op.Table("mounts")) if silent else {}
        rows = {name: known.get(f"{mounts.node}/{name}") for name in silent}
        return {volume_id: name for name, volume_id in rows.items() if volume_id is not None}

    def _measure(self, volume: Volume) -> None:
        self._space.pop(volume.id, None)
        try:
            self._space[volume.id] = space_on(volume)
        except VolumeUntrustedError:
            return  # the time mark finds the same, and holds it
        except OSError as error:
            log.warning("volume %s doesn't say how full it is: %s", volume.name, error)

    def _dead_processes(self, facts: op.ServerFacts, result: UpkeepResult) -> None:
        now, beats = facts.now, {name: decimal(at) for name, at in self._store.execute(op.Table("p")).items()}
        for process, at in beats.items():
            if at - now > PROCESS_SILENCE and at - (fresh := self._now()) > PROCESS_SILENCE:
                # none of its own: it has from now on to say that it lives
                self._store.execute(op.TablePut("p", process, str(fresh)))
        places: dict[str, list[str]] = {}  # process → partitions in which it has a queue
        for partition in run(partitions(self._core), self._store):
            for queue in self._store.execute(op.Queues(partition)):
                if queue.location.startswith("p."):
                    places.setdefault(queue.location.removeprefix("p."), []).append(partition)
        silent = {
            process: f"{facts.run_id} {beats.get(process)}"
            for process in places
            if process not in beats or now - beats[process] > PROCESS_SILENCE
        }
        for process in self._silence.lasting("p", silent):
            for partition in places[process]:
                result.streams += self._close(partition, process_location(process))
        for process, at in beats.items():
            if now - at > PROCESS_SILENCE * 10 and process not in places:
                self._store.execute(op.TableDrop("p", process))

    def _dead_nodes(self, facts: op.ServerFacts, result: UpkeepResult) -> None:
        now = facts.now
        nodes, silence = self._store.execute(op.Table("n")), ms(self._core.settings.node_timeout)
        alive: set[str] = set()
        for name, row in nodes.items():
            about = json_object(row)
            # a time to come, by more than clocks are set back, is none either: it would stand for life until then
            at = whole(about.get("at"))
            if not 0 <= at <= now + silence or not isinstance(about.get("volumes"), dict):
                # that node may live and mount anything: until it has had its time to say so, none counts as gone
                log.warning("the row of node %r can't be read: %r", name, row[:200])
                unknown = {"at": self._now(), "volumes": {}, "unknown": True}
                self._store.execute(op.TablePut("n", name, json.dumps(unknown)))
                return
            if about.get("unknown") and now - at <= silence:
                return
            if now - at <= silence:
                alive.update(about["volumes"])
            elif now - at > NODE_MEMORY:
                self._store.execute(op.TableDrop("n", name))
        silent = {}
        for volume_id, row in self._store.execute(op.Table("vols")).items():
            about = json_object(row)
            mounted = whole(about.get("at"))
            fresh = mounted >= 0 and abs(now - mounted) <= silence
            if about.get("ephemeral") is True and volume_id not in alive and not fresh:
                silent[volume_id] = facts.run_id
        for volume_id in self._silence.lasting("vols", silent):
            for partition in run(partitions(self._core), self._store):
                result.node_gone += self._close(partition, volume_location(volume_id), owed_only=True)

    def _now(self) -> int:
        return self._store.execute(op.Facts()).now

    def _close(self, partition: str, location: str, owed_only: bool = False) -> int:
        """The location itself is gone, and what lay there with it. What can't be read stays, and keeps nobody else."""
        closed = 0
        while True:
            lease = op.Lease(partition, location, secrets.token_hex(8), 5000, dead=not owed_only)
            operations = []
            for session_id, resources in self._store.execute(lease).entries:
                attempts = tuple(op.Attempt(r.resource_id, Outcome.GONE) for r in resources)
                operations.append(
                    op.Settle(session_id, location, attempts, retention=self._core.retention, own=not owed_only)
                )
            counted = 0
            for operation, answer in zip(operations, self._store.execute_many(operations), strict=True):
                if isinstance(answer, StoreError):
                    log.warning("what session %s had at %s isn't closed: %s", operation.session_id, location, answer)
                else:
                    counted += answer.counted
            closed += counted
            if not counted:
                return closed

    def _mend(self, result: UpkeepResult) -> None:
        """Looks at a slice of all keys, and goes on there next time; one worker at a time."""
        token = secrets.token_hex(8)
        if not self._store.execute(op.TakeLease("mend", token, 30_000)):
            return
        try:
            cursors = self._store.execute(op.Table("mend"))
            for partition in run(partitions(self._core), self._store):
                scan = op.ScanSessions(partition, _cursor(cursors.get(partition, "0")), MEND_SLICE)
                cursor, ids = self._store.execute(scan)
                core = self._core
                repairs = [op.Mend(sid, core.width, core.grace, core.retention) for sid in ids]
                for repair, answer in zip(repairs, self._store.execute_many(repairs), strict=True):
                    self._tell(repair.session_id, answer, result)
                self._store.execute(op.TablePut("mend", partition, str(cursor)))
        finally:
            self._store.execute(op.DropLease("mend", token))

    def _tell(self, session_id: str, answer: op.Mended | StoreError, result: UpkeepResult) -> None:
        if isinstance(answer, StoreError):
            log.warning("session %s can't be mended: %s", session_id, answer)
        elif answer.what == "damaged":
            result.damaged += 1
            log.error(
                "a record of session %s can't be read, so nothing of it is touched: look at the keys that end in s:%s "
                "and r:%s; what you delete there is no longer owned, and the orphan pass finds its files",
                session_id, session_id, session_id,
            )  # fmt: skip
        elif answer.what:
            result.mended += 1
            log.warning("mended session %s: %s", session_id, answer.what)


def _cursor(text: str) -> int:
    """Where a scan goes on; at the beginning where that is no cursor that a server takes (of 64 bits)."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else 0
