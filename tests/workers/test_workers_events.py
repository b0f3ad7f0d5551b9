"""Events told by real workers: killed in the middle of it, with hooks that hang, with hooks that aren't there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from worker_cluster import Cluster, session_with_files, wait_gone

from sessionsweep import Sessions
from sessionsweep.engine.forward import BATCH
from sessionsweep.store import operations as op
from support.processes import wait_until

pytestmark = pytest.mark.smoke

HOOKS = """
import os, threading, time
OUT = os.open({out!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

def tell(event):
    time.sleep(0.01)  # so that a kill comes amid a batch
    os.write(OUT, f"{{event.id}}\\n".encode())

def hang(event):
    tell(event)
    threading.Event().wait()
"""


def hooks_of(cluster: Cluster) -> Callable[[], list[str]]:
    """The ids that the hook was told, in its order. The hooks' module lies where workers start."""
    out = cluster.folder / "told"
    (cluster.folder / "my_hooks.py").write_text(HOOKS.format(out=str(out)))
    return lambda: out.read_text().splitlines() if out.exists() else []


def kept(sessions: Sessions) -> list[str]:
    return [event.id for event in sessions.store.execute(op.Events("00")).events]


def with_hook(cluster: Cluster, function: str) -> dict[str, str | None]:
    path = os.pathsep.join(filter(None, (str(cluster.folder), os.environ.get("PYTHONPATH"))))
    return {"SESSIONSWEEP_EVENT_HOOKS": f"my_hooks:{function}", "PYTHONPATH": path}


def test_a_killed_worker_leaves_no_event_untold(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(idle_timeout="600", max_duration="600")
    told = hooks_of(cluster)
    sessions = cluster.sessions()
    for _ in range(150):
        sessions.create()
    worker = cluster.worker("a", env=with_hook(cluster, "tell"))
    wait_until(lambda: len(told()) > BATCH + 10, what="it tells")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    order = {one: place for place, one in enumerate(kept(sessions))}
    before = [order[one] for one in told()]
    assert before == list(range(len(before))), "in order until the kill"
    assert BATCH < len(before) < 150
    worker.start()
    wait_until(lambda: set(told()) >= set(order), 30, "all of it is told")
    again = [order[one] for one in told()[len(before) :]]
    assert again == list(range(again[0], 150)), "in order again"
    assert len(before) - BATCH <= again[0] <= len(before), "none was left out, and at most a batch is told again"


def test_a_hook_that_hangs_keeps_no_worker_from_cleaning_or_ending(
    cluster: Cluster,
) -> None:
    told = hooks_of(cluster)
    sessions = cluster.sessions()
    worker = cluster.worker("a", env=with_hook(cluster, "hang"))
    session, paths = session_with_files(sessions, 2)
    _, idle = session_with_files(sessions, 2)
    wait_until(told, what="the hook hangs")
    session.end()
    wait_gone([*paths, *idle], 20)
    assert len(told()) == 1
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: not worker.running, 20, "it ends")
    assert worker.returncode == 0


def test_a_hook_that_is_not_there_keeps_a_worker_from_beginning(cluster: Cluster) -> None:
    worker = cluster.worker("a", env=with_hook(cluster, "tell"), start=False)
    worker.start(wait=False)
    wait_until(lambda: not worker.running, 30, "it refuses to begin")
    assert worker.returncode != 0
    assert "SESSIONSWEEP_EVENT_HOOKS: 'my_hooks:tell': there is no module 'my_hooks' here" in worker.tail()


def test_a_workers_log_has_the_events(cluster: Cluster) -> None:
    sessions = cluster.sessions()
    worker = cluster.worker("a")
    session, _ = sessions.create()
    worker.wait_for_log("session_created event_id=00:")
    worker.wait_for_log(f"session_id={session.id}")
