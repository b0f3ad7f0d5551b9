"""What ends sessions is sent once: a worker's process that dies over it doesn't leave the rest alive."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_cluster import Cluster

from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.dispatcher import Dispatcher
from support.processes import LocalWorker, wait_until

pytestmark = pytest.mark.smoke

SESSIONS = 400


def pool_of(worker: LocalWorker) -> list[int]:
    """The pool's processes."""
    return [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]


def test_ending_a_users_sessions_is_taken_up_again_after_its_process_died(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(idle_timeout="600", max_duration="0")  # nobody goes by itself
    worker = cluster.worker("a", pool="prefork")
    sessions = cluster.sessions()

    def alive() -> int:
        books = sessions.store.execute(op.Counters("00"))
        return int(books["created"] - books.get("ended", 0))

    with contextlib.closing(Dispatcher(sessions.settings)) as dispatcher:
        for _ in range(5):
            for _ in range(SESSIONS):
                sessions.create(user="ana")
            assert alive() == SESSIONS
            dispatcher.dispatch(names.END_USER, {"user": "ana"})
            wait_until(lambda: alive() < SESSIONS, 20, "it begins")
            for pid in pool_of(worker):
                os.kill(pid, signal.SIGKILL)
            left = alive()
            wait_until(lambda: not alive(), 30, "the rest is ended by another process")
            if left:
                break
        else:
            pytest.fail("it was faster than we, five times")
