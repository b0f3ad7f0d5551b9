"""Deployments and foreign Celery apps on one Redis database: none sees another's keys, tasks or files."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from worker_cluster import Cluster, left, session_with_files, wait_gone, wait_settled

from sessionsweep_workers import names
from sessionsweep_workers.application import build
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import LocalWorker, wait_until

pytestmark = pytest.mark.smoke

SLOW = """
import os, time
from celery import Celery

app = Celery("foreign", broker=os.environ["SESSIONSWEEP_REDIS_URL"])
app.conf.broker_connection_retry_on_startup = True

@app.task(name="foreign.slow", acks_late=True)
def slow():
    with open("slow", "a") as f:
        f.write("run\\n")
    time.sleep(4)
    return "slept"
"""


def test_two_namespaces_and_a_foreign_app_on_one_database(
    make_cluster: Callable[..., Cluster], own_server: Callable[..., EmbeddedServer]
) -> None:
    server = own_server()
    ours, others = make_cluster(server.url, "ours"), make_cluster(server.url, "others")
    (ours.folder / "foreign.py").write_text(SLOW)
    foreign = LocalWorker(
        "foreign",
        ["python", "-m", "celery", "-A", "foreign", "worker", "-P", "solo", "-l", "INFO", "-n", "foreign@test"],
        ours.folder,
        env=ours.env("foreign"),
        cwd=ours.folder,
        ready_when=re.compile(r" ready\.$", re.MULTILINE),
    )
    with foreign:
        ask = ["python", "-m", "celery", "-A", "foreign", "call", "foreign.slow"]
        caller = LocalWorker("caller", ask, ours.folder, env=ours.env("foreign"), cwd=ours.folder)
        caller.start()
        ours.beat()
        worker = ours.worker("a")
        mine, theirs = ours.sessions(), others.sessions()
        _, gone = session_with_files(mine, 2)
        _, stay = session_with_files(theirs, 2)
        wait_gone(gone)
        wait_settled(mine)
        assert left(stay) == 2  # nobody works for the other deployment yet
        app = build(mine.settings)
        nodes = app.control.ping(timeout=1.0)
        assert [name for node in nodes for name in node if "foreign" in name or "others" in name] == []
        assert any("worker-a" in name for node in nodes for name in node)
        app.close()
        others.worker("a")
        wait_gone(stay)
        wait_settled(theirs)
        foreign.wait_for_log(re.compile("foreign.slow.* succeeded"), 10)
        assert "sessionsweep" not in foreign.logs()
        assert "foreign.slow" not in worker.logs()
        assert (ours.folder / "slow").read_text() == "run\n"  # our short visibility timeout didn't run it again
        keys = [key for key in ours.broker().keys("*") if not key.startswith(("ours:", "others:"))]
        assert all(key.startswith(("_kombu", "unacked", "celery")) for key in keys), keys
        caller.stop()


def test_variables_of_another_celery_app_change_nothing(cluster: Cluster) -> None:
    (cluster.folder / "evil_config.py").write_text("raise SystemExit('read a foreign configuration')\n")
    foreign = {
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "CELERY_BROKER_READ_URL": "redis://127.0.0.1:1/0",
        "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/1",
        "CELERY_CONFIG_MODULE": "evil_config",
        "CELERY_LOADER": "default",
    }
    worker = cluster.worker("a", env=foreign)
    sessions = cluster.sessions()
    ended, paths = session_with_files(sessions, 2)
    ended.end()
    wait_gone(paths)
    worker.wait_for_log(re.compile(rf"{names.RECLAIM}.* succeeded"))
    assert "127.0.0.1:1/" not in worker.logs()


def test_a_worker_with_queues_of_its_own_still_consumes_its_volumes(cluster: Cluster) -> None:
    worker = cluster.worker("a", "-Q", "special")
    ended, paths = session_with_files(cluster.sessions(), 2)
    ended.end()
    wait_gone(paths)
    worker.wait_for_log(re.compile(rf"{names.RECLAIM}.* succeeded"))
    wait_until(lambda: "sessionsweep.volume." in worker.logs() and "special" in worker.logs())
