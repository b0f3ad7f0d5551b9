"""A worker that is told to stop: passes end after their batch, wherever they run, and the next worker finishes them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_cluster import Cluster, left, wait_gone, wait_settled, write

from sessionsweep_workers import names, passes
from sessionsweep_workers.stopping import Stopping
from support.processes import LocalWorker, wait_until

#: Our app on a slow disk: a whole reclaim takes far longer than stopping it.
SLOW_DISK = """
import time
from sessionsweep.engine import reclaim
from sessionsweep.volumes.volume import Volume
from sessionsweep_workers.application import build

reclaim.BATCH = 10
delete_many = Volume.delete_many

def slowly(self, *args, **options):
    time.sleep(0.2)
    return delete_many(self, *args, **options)

Volume.delete_many = slowly
app = build()
"""
FILES = 600


def stop_in_mid_reclaim(cluster: Cluster, pool: str, env: dict[str, str | None]) -> tuple[LocalWorker, list[Path]]:
    """A worker that was sent TERM when the first of many files was gone, and the files."""
    (cluster.folder / "slow_disk.py").write_text(SLOW_DISK)
    sessions = cluster.sessions()
    ending, paths = [], []
    for _ in range(10):
        session, _ = sessions.create()
        paths += write(session, FILES // 10)
        ending.append(session)
    worker = cluster.worker(pool=pool, app="slow_disk", env=env)
    for session in ending:
        session.end()
    wait_until(lambda: left(paths) < FILES, 20, "it deletes")
    worker.send_signal(signal.SIGTERM)
    return worker, paths


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("pool", "remap"),
    # a cold shutdown of a solo pool waits in the thread that runs the task
    [("prefork", None), ("prefork", "SIGQUIT"), ("threads", None), ("threads", "SIGQUIT"), ("solo", None)],
)
def test_a_pass_stops_after_its_batch_and_the_next_worker_finishes(
    make_cluster: Callable[..., Cluster], pool: str, remap: str | None
) -> None:
    cluster = make_cluster(idle_timeout="600", max_duration="600", cleanup_interval="60")
    worker, paths = stop_in_mid_reclaim(cluster, pool, {"REMAP_SIGTERM": remap})
    assert worker.wait(60) == 0
    assert left(paths) > FILES // 2, "it did not wait for the whole pass"
    sessions = cluster.sessions()
    [run] = [run for row, run in passes.last_runs(sessions.store).items() if row.startswith(names.RECLAIM)]
    assert run.state == "running", "the pass ended by itself, and said that it goes on"
    cluster.worker("a")
    wait_gone(paths, 60)
    wait_settled(sessions, 60)


def test_a_forked_process_sees_that_it_is_to_stop() -> None:
    stopping, (its_end, our_end) = Stopping(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(our_end, b"x")
        os._exit(42 if stopping.wait(60) else 1)
    os.read(its_end, 1)
    stopping.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    os.close(its_end)
    os.close(our_end)


def test_it_can_be_set_by_a_signal_that_interrupts_a_wait() -> None:
    stopping = Stopping()
    before = signal.signal(signal.SIGUSR1, lambda *_: stopping.set())
    try:
        threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        assert stopping.wait(60)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_waiting_ends_without_it() -> None:
    stopping = Stopping()
    assert not stopping.wait(0.01)
    stopping.set()
    assert stopping.wait()
    stopping.clear()
    assert not stopping.is_set()
