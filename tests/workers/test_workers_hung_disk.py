"""A disk that hangs, as a hard NFS mount does whose server is gone: it stops nothing but itself, and is told of."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worker_cluster import Cluster, left, wait_gone, wait_settled

from sessionsweep import Session, Sessions
from sessionsweep.model.holds import Hold
from sessionsweep.model.rows import json_object
from sessionsweep.operator import verdict, vitals
from sessionsweep.operator.findings import Code
from sessionsweep.store import operations as op
from sessionsweep_workers import disks, names
from sessionsweep_workers.context import Context
from sessionsweep_workers.dispatcher import Dispatcher
from support.processes import wait_until

pytestmark = pytest.mark.smoke

#: Our app on two disks: no call on the one returns as long as the file `hangs` lies in this folder.
HANGING_DISK = """
import time
from pathlib import Path
from sessionsweep.volumes import tree, volume
from sessionsweep_workers import disks
from sessionsweep_workers.application import build

disks.PATIENCE = 0.5
open_root = tree.open_root

def waiting(path):
    while path.name == "bad" and Path("hangs").exists():
        time.sleep(0.05)
    return open_root(path)

tree.open_root = volume.open_root = waiting
app = build()
"""
ALARM = "disk:a/bad"


class Disk:
    """The disk that hangs or doesn't, and what is done on it."""

    def __init__(self, cluster: Cluster) -> None:
        (cluster.folder / "hanging_disk.py").write_text(HANGING_DISK)
        self.cluster = cluster
        self.volumes = cluster.volumes("bad", "good")
        self.sessions = cluster.sessions("a", self.volumes)
        self._flag = cluster.folder / "hangs"

    def hangs(self) -> None:
        """From now on no call returns."""
        self._flag.touch()

    def answers(self) -> None:
        """All calls return, also those that hang."""
        self._flag.unlink(missing_ok=True)

    def start(self, pool: str, **options: object) -> object:
        """The node's worker."""
        return self.cluster.worker("a", pool=pool, app="hanging_disk", volumes=self.volumes, **options)  # type: ignore[arg-type]

    def ended(self, volume: str) -> list[Path]:
        """The file of a session that has just ended."""
        session, path = self.live(volume)
        session.end()
        return [path]

    def live(self, volume: str) -> tuple[Session, Path]:
        """A session and its file."""
        session, _ = self.sessions.create()
        with session.new_file("test", ".bin", volume=volume) as f:
            f.write(b"x")
        return session, f.path

    def alarms(self) -> dict[str, Hold]:
        """Those of disks."""
        rows = self.sessions.store.execute(op.Table("alarms"))
        return {row: Hold.read(row, text) for row, text in rows.items() if row.startswith("disk:")}


@pytest.fixture
def disk(make_cluster: Callable[..., Cluster]) -> Iterator[Disk]:
    """On a deployment that is quick."""
    made = Disk(make_cluster())
    yield made
    made.answers()


def found(sessions: Sessions) -> list[str]:
    """What the doctor says of disks that don't answer."""
    seen = vitals.look(sessions.core, sessions.store)
    return [one.text for one in verdict.judge(seen, sessions.settings) if one.code is Code.NOT_ANSWERING]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_disk_that_hangs_stops_only_itself_and_is_told_of(disk: Disk, pool: str) -> None:
    worker = disk.start(pool)
    wait_gone([*disk.ended("bad"), *disk.ended("good")])
    disk.hangs()
    kept = disk.ended("bad")
    _, idle = disk.live("good")
    wait_gone([idle])  # the sweep has its turn, and so has the other disk
    wait_until(lambda: ALARM in disk.alarms(), what="the alarm is raised")
    worker.wait_for_log(re.compile(r"ERROR.*Volume 'bad' at /.*/bad on node a doesn't answer"))
    assert [kind for text in found(disk.sessions) for kind in re.findall("'bad' at /.*/bad on node a", text)]
    with contextlib.closing(Dispatcher(disk.sessions.settings)) as dispatcher:
        for _ in range(4):  # more than the pool has hands: none of them is lost on it
            answer = dispatcher.wait(dispatcher.dispatch(names.RECLAIM, {}, names.QUEUE), 20)
            assert answer["state"] == "done"
    wait_gone(disk.ended("good"))
    assert left(kept) == 1
    told = json_object(disk.sessions.store.execute(op.Table("n"))["a"])
    assert sorted(told["volumes"].values()) == ["bad", "good"], "it is this node's all the same"
    disk.answers()
    wait_until(lambda: not disk.alarms(), what="the alarm is taken back")
    worker.wait_for_log(re.compile("volume bad at /.*/bad answers again"))
    wait_gone(kept)
    wait_settled(disk.sessions)
    assert found(disk.sessions) == []


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_is_started_while_a_disk_hangs_cleans_the_others(disk: Disk, pool: str) -> None:
    disk.ended("good")
    kept = disk.ended("bad")
    disk.hangs()
    worker = disk.start(pool)
    wait_gone(disk.ended("good"))
    wait_until(lambda: ALARM in disk.alarms(), what="the alarm is raised")
    told = json_object(disk.sessions.store.execute(op.Table("n"))["a"])
    assert sorted(told["volumes"].values()) == ["bad", "good"], "its files don't count as gone"
    wait_gone(disk.ended("good"))
    disk.answers()
    wait_gone(kept)
    wait_until(lambda: not disk.alarms(), what="the alarm is taken back")
    worker.wait_for_log("Started consuming from sessionsweep.volume.")
    wait_settled(disk.sessions)


def test_alarms_of_disks_that_nobody_has_any_more_are_dropped(disk: Disk) -> None:
    context = Context(disk.sessions.settings)
    for row in ("disk:a/bad", "disk:a/gone", "disk:b/bad", "disk:c/bad", "disk:silent/bad", "beat"):
        context.store.execute(op.TablePut("alarms", row, Hold(row, "not-answering", "", 1).encode()))
    now = context.store.execute(op.Facts()).now
    long_ago = now - round(context.settings.node_timeout * 1000) - 1
    for node, at in (("a", now), ("b", now), ("silent", long_ago)):
        context.store.execute(op.TablePut("n", node, json.dumps({"at": at})))
    disks.forget_alarms(context)
    assert set(context.store.execute(op.Table("alarms"))) == {"disk:a/bad", "disk:b/bad", "beat"}


def test_upkeep_that_finds_a_look_under_way_is_done_next_time(disk: Disk) -> None:
    context = Context(disk.sessions.settings)
    ours = disks.Disks(context)
    ours.mount()
    good = next(volume for volume in context.core.mounts.here() if volume.name == "good")
    go_on, sent = threading.Event(), threading.Event()
    one = ours._disks["good"]
    assert one.look(go_on.wait)
    ours.look_after(upkeep=True)
    ours.if_it_answers(good.id, sent.set)
    assert not sent.is_set()
    go_on.set()
    assert sent.wait(60), "what was to follow a look follows the one that was under way"
    assert one.returns(60)
    assert good.high_water() is None
    ours.look_after(upkeep=False)
    assert one.returns(60)
    assert good.high_water()
