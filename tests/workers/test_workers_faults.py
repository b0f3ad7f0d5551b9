"""Workers, beat, Redis and messages that fail: everything is cleaned all the same, and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from worker_cluster import Cluster, left, session_with_files, wait_gone, wait_settled

from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.application import build
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import LocalWorker, wait_until

pytestmark = pytest.mark.smoke

RESUMED = 60  # seconds: what is promised
BUSY = 2.0  # seconds that a busy machine may add


def freeze_in_mid_reclaim(cluster: Cluster, worker: LocalWorker, shared: str) -> list[Path]:
    """Ends a session with many files and stops the worker while it deletes them; the files of that session.

    The worker alone mounts the volume yet, so nobody else can have deleted any.
    """
    sessions = cluster.sessions("a", cluster.volumes("a", "shared"))
    for _ in range(5):
        paths: list[Path] = []
        ending = []
        for _ in range(4):
            session, _ = sessions.create()
            session.extend(idle=600, max_duration=600)
            for _ in range(90):
                with session.new_file("test", ".bin", volume="shared") as f:
                    f.write(b"x")
                paths.append(f.path)
            ending.append(session)
        for session in ending:
            session.end()
        deadline = time.monotonic() + 10
        while paths[0].exists() and time.monotonic() < deadline:
            pass
        worker.kill("SIGSTOP")
        if left(paths) > 0:
            return paths
        worker.kill("SIGCONT")  # it was faster than we: again
    raise AssertionError("the worker could not be stopped in mid-reclaim")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_batch_of_a_killed_worker_is_finished_by_another_after_the_lease(cluster: Cluster, pool: str) -> None:
    volumes = cluster.volumes("a", "shared")
    worker = cluster.worker("a", pool=pool, volumes=volumes)
    paths = freeze_in_mid_reclaim(cluster, worker, volumes)
    worker.kill()
    assert left(paths) > 0
    cluster.worker("b", volumes=cluster.volumes("b", "shared"))
    wait_gone(paths, 15)
    sessions = cluster.sessions("b", cluster.volumes("b", "shared"))
    wait_settled(sessions)
    assert (
        sessions.stats().resources["deleted"] + sessions.stats().resources["gone"]
        == sessions.stats().resources["registered"]
    )


def in_use(path: Path) -> bool:
    """Whether another process holds its lock."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_worker_paused_past_its_lease_does_no_harm(cluster: Cluster) -> None:
    volumes = cluster.volumes("a", "shared")
    worker = cluster.worker("a", volumes=volumes)
    paths = freeze_in_mid_reclaim(cluster, worker, volumes)
    sessions = cluster.sessions("b", cluster.volumes("b", "shared"))
    living, kept = session_with_files(sessions, 3)
    living.extend(idle=600, max_duration=600)
    cluster.worker("b", volumes=cluster.volumes("b", "shared"))
    # Each of its two threads may have been stopped between the lock of a file and its end: to others that is in use.
    wait_until(
        lambda: left(paths) <= 2 and all(in_use(path) for path in paths if path.exists()), 15, "the others are gone"
    )
    worker.kill("SIGCONT")
    wait_gone(paths)
    wait_settled(sessions)
    probe, gone = session_with_files(cluster.sessions("a", volumes))
    probe.end()
    wait_gone(gone)  # the woken worker works
    wait_settled(sessions)
    assert left(kept) == 3


def test_redis_killed_and_restarted_loses_nothing(
    make_cluster: Callable[..., Cluster],
    own_server: Callable[..., EmbeddedServer],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    cluster = make_cluster(server.url)
    cluster.beat()
    worker = cluster.worker()
    sessions = cluster.sessions()
    before, paths = session_with_files(sessions, 3)
    before.extend(idle=600, max_duration=600)
    _, idle = session_with_files(sessions, 3)
    killed = len(worker.logs())
    server.kill()
    server.restart()
    over = time.monotonic()
    wait_gone(idle, 30)  # idle ends wait for the hold
    assert left(paths) == 3
    before.end()
    wait_gone(paths, 30)
    wait_settled(sessions, 30)
    worker.wait_for_log(re.compile("sweep_idle.* succeeded"), 30, after=killed)  # messages flow again
    resumed = time.monotonic() - over
    record_property("resumed_after_s", round(resumed, 3))
    assert resumed < RESUMED


@contextlib.contextmanager
def thieves(cluster: Cluster, *queues: str, count: int = 16) -> Iterator[list[str]]:
    """Takes every message of these queues before any worker can: the server serves who has waited longest, and a
    worker asks anew every second."""
    stolen: list[str] = []
    keys = [cluster.queue_key(queue) for queue in queues]
    end = "enough"

    def steal() -> None:
        with redis.Redis.from_url(cluster.url, decode_responses=True, socket_timeout=None) as client:
            while (taken := client.brpop(keys, timeout=0)[1]) != end:
                stolen.append(taken)

    threads = [threading.Thread(target=steal) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield stolen
    finally:
        cluster.close()  # whoever else sends and takes messages
        for thread in threads:
            while thread.is_alive():
                with redis.Redis.from_url(cluster.url) as client:
                    client.lpush(keys[0], end)
                thread.join(0.1)


def test_with_all_messages_dropped_everything_is_cleaned_within_two_intervals(
    make_cluster: Callable[..., Cluster], record_property: Callable[[str, object], None]
) -> None:
    interval, idle, grace = 2.0, 1.0, 0.2
    cluster = make_cluster(cleanup_interval=str(interval), idle_timeout=str(idle), grace_period=str(grace))
    sessions = cluster.sessions()
    volume = _first_volume_id(cluster)
    with thieves(cluster, names.QUEUE, names.volume_queue(volume)) as stolen:
        worker = cluster.worker()
        cluster.beat()
        ended, at_once = session_with_files(sessions, 3)
        _, paths = session_with_files(sessions, 3)
        ended.end()
        begun = time.monotonic()
        for name, gone, due in (("ended", at_once, 0.0), ("idle", paths, idle + grace)):
            wait_gone(gone)
            late = time.monotonic() - begun - due
            record_property(f"{name}_cleaned_after_intervals", round(late / interval, 3))
            assert late < 2 * interval + BUSY
        wait_settled(sessions)
        wait_until(lambda: len(stolen) > 3, what="messages were sent, and stolen")
        assert " received" not in worker.logs()
        assert "without a message" in worker.logs()


def _first_volume_id(cluster: Cluster) -> str:
    sessions = cluster.sessions()
    probe, _ = session_with_files(sessions)
    probe.end()
    return next(iter(sessions.store.execute(op.Table("vols"))))


def test_no_beat_raises_an_alarm_and_everything_is_cleaned(cluster: Cluster) -> None:
    worker = cluster.worker()
    sessions = cluster.sessions()
    _, paths = session_with_files(sessions, 3)
    wait_gone(paths)
    wait_settled(sessions)
    wait_until(lambda: "beat" in sessions.store.execute(op.Table("alarms")), what="the alarm is raised")
    worker.wait_for_log("No beat was ever seen")
    cluster.beat()
    wait_until(lambda: not sessions.store.execute(op.Table("alarms")), what="the alarm is cleared")
    worker.wait_for_log("beat is back")


@pytest.mark.parametrize("beats", [2, 5])
def test_any_number_of_beats_send_each_slot_once(cluster: Cluster, beats: int) -> None:
    processes = [cluster.beat(f"beat-{number}", start=False) for number in range(beats)]
    for process in processes:
        process.start(wait=False)
    for process in processes:
        process.wait_ready()
    broker = cluster.broker()

    def sent() -> list[tuple[str, str]]:
        """The entry and slot of each message, as whichever beat sent it logged them."""
        logs = "\n".join(process.logs() for process in processes)
        return re.findall(r"\] sent (.+) \(.+\) for slot (\d+)", logs)

    wait_until(lambda: len(sent()) >= 18, 20, "18 messages are sent")
    victim = next(process for process in processes if "] sent " in process.logs())
    victim.kill()
    count = len(sent())
    wait_until(lambda: len(sent()) > count + 6, 10, "another beat took over")
    for process in processes:
        process.stop()
    assert len(sent()) == len(set(sent()))
    assert broker.llen(cluster.queue_key()) - len(sent()) in (0, 1)  # killed after it sent, before it said so


def test_each_message_delivered_up_to_ten_times_changes_nothing(cluster: Cluster) -> None:
    chance = random.Random(4)
    cluster.worker("a", pool="threads")
    sessions = cluster.sessions()
    app = build(sessions.settings)
    living, kept = session_with_files(sessions, 5)
    living.extend(idle=600, max_duration=600)
    _, idle = session_with_files(sessions, 5)
    ended, at_once = session_with_files(sessions, 5)
    users = [session_with_files(sessions, 2, user="ana") for _ in range(3)]
    for session in (ended, *(session for session, _ in users)):
        session.extend(idle=600, max_duration=600)  # they are ended by messages, however long those take
    volume = next(iter(sessions.store.execute(op.Table("vols"))))
    orders: list[tuple[str, dict[str, object], str]] = [
        (names.END_SESSION, {"session_id": ended.id}, names.QUEUE),
        (names.END_USER, {"user": "ana"}, names.QUEUE),
        (names.SWEEP_IDLE, {}, names.QUEUE),
        (names.SWEEP_EXPIRED, {}, names.QUEUE),
        (names.SWEEP_ORPHANS, {}, names.QUEUE),
        (names.RECLAIM, {"volume": volume}, names.volume_queue(volume)),
    ]
    messages = [order for order in orders for _ in range(chance.randint(1, 10))]
    chance.shuffle(messages)
    for task, arguments, queue in messages:
        app.tasks[task].apply_async(kwargs=arguments, queue=queue)
    wait_gone([*idle, *at_once, *(path for _, paths in users for path in paths)])
    wait_settled(sessions)
    assert left(kept) == 5
    stats = sessions.stats()
    assert stats.resources["deleted"] == 16
    assert stats.ended_by_reason == {"admin": 4, "idle": 1}
    app.close()


def test_a_worker_told_to_stop_in_mid_reclaim_leaves_the_rest_to_the_next(cluster: Cluster) -> None:
    volumes = cluster.volumes("a", "shared")
    worker = cluster.worker("a", volumes=volumes)
    paths = freeze_in_mid_reclaim(cluster, worker, volumes)
    worker.send_signal(signal.SIGTERM)
    worker.kill("SIGCONT")
    assert worker.wait(10) == 0
    cluster.worker("a", volumes=volumes)
    wait_gone(paths)
    wait_settled(cluster.sessions("a", volumes))
