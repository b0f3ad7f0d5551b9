"""`install` in somebody else's Celery app: everything is added, none of its settings changes, a real worker runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery
from worker_cluster import KEY, Cluster, session_with_files, wait_gone, wait_settled

from sessionsweep import Settings
from sessionsweep.store import operations as op
from sessionsweep_workers import install, names
from support.processes import wait_until

FOREIGN = """
import os
from celery import Celery
from celery.schedules import crontab
from sessionsweep_workers import install

app = Celery("theirs", broker=os.environ["SESSIONSWEEP_REDIS_URL"])
app.conf.update(
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle"],
    task_default_queue="theirs",
    task_create_missing_queues=False,
    task_routes={"*": {"queue": "theirs"}},
    broker_transport_options={"global_keyprefix": os.environ["SESSIONSWEEP_NAMESPACE"] + ":theirs:"},
)

@app.task(name="theirs.add")
def add(a, b):
    with open("added", "a") as f:
        f.write(f"{a + b}\\n")

install(app)
install(app)
app.conf.beat_schedule = {"theirs": {"task": "theirs.add", "schedule": 1.0, "args": (1, 2)}}
"""


def settings(**values: object) -> Settings:
    return Settings(redis_url="redis://localhost:6379/0", secret_key=KEY, **values)


def theirs() -> Celery:
    app = Celery("theirs", broker="redis://localhost:6379/0", set_as_current=False)
    app.conf.update(
        task_serializer="pickle", accept_content=["pickle"], task_default_queue="theirs", timezone="Asia/Tokyo"
    )
    app.conf.beat_schedule = {"theirs": {"task": "theirs.add", "schedule": 60.0}}
    return app


def test_it_changes_no_setting_of_the_apps() -> None:
    app = theirs()
    before = {name: value for name, value in dict(app.conf).items() if name != "beat_schedule"}
    install(app, settings())
    after = {name: value for name, value in dict(app.conf).items() if name != "beat_schedule"}
    assert after == before
    assert app.conf.beat_schedule["theirs"] == {"task": "theirs.add", "schedule": 60.0}


def test_a_second_call_replaces_what_the_first_added() -> None:
    app = theirs()
    install(app, settings(cleanup_interval=60))
    first = set(app.conf.beat_schedule)
    tasks = {name: app.tasks[name] for name in names.TASKS}
    steps = {blueprint: {step.name for step in app.steps[blueprint]} for blueprint in ("worker", "consumer")}
    install(app, settings(cleanup_interval=5))
    assert set(app.conf.beat_schedule) == first
    assert {entry["schedule"] for name, entry in app.conf.beat_schedule.items() if "idle" in name} == {5.0}
    assert all(app.tasks[name] is not tasks[name] for name in names.TASKS)
    for blueprint, known in steps.items():
        assert sorted(step.name for step in app.steps[blueprint]) == sorted(known), f"{blueprint}: once each"


@pytest.mark.smoke
def test_a_worker_and_a_plain_beat_of_theirs_clean_ours(cluster: Cluster, tmp_path: Path) -> None:
    (cluster.folder / "theirs.py").write_text(FOREIGN)
    worker = cluster.worker("a", app="theirs", pool="prefork", env={"C_FORCE_ROOT": "1"})
    sessions = cluster.sessions()
    # Celery's own scheduler, not ours: its messages get their slot all the same
    cluster.beat("beat", "--schedule", str(tmp_path / "schedule"), app="theirs")
    _, idle = session_with_files(sessions, 3)
    ended, at_once = session_with_files(sessions, 3)
    ended.end()
    wait_gone([*idle, *at_once])
    wait_settled(sessions)
    worker.wait_for_log("sessionsweep.sweep_idle")
    worker.wait_for_log("theirs.add")
    added = cluster.folder / "added"
    wait_until(lambda: added.exists() and "3" in added.read_text(), what="their own pickled task ran")
    assert sessions.store.execute(op.Meta())["beat_seen"]
    stray = ("sessionsweep", "theirs", "celery", "unacked", "_kombu")
    assert not [key for key in cluster.broker().keys("*") if key.startswith(stray)]
    assert "Traceback" not in worker.logs()


def test_a_message_for_our_tasks_that_is_no_json_is_dropped_unread(cluster: Cluster, tmp_path: Path) -> None:
    (cluster.folder / "theirs.py").write_text(FOREIGN)
    worker = cluster.worker("a", app="theirs", env={"C_FORCE_ROOT": "1"})
    app = Celery("attacker", broker=cluster.url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": f"{cluster.namespace}:theirs:"}
    evil = Exploit(str(tmp_path / "unpickled"))
    app.send_task(
        names.END_USER,
        kwargs={"user": evil},
        argsrepr="",
        kwargsrepr="",
        queue=names.declared(names.QUEUE),
        serializer="pickle",
    )
    worker.wait_for_log("our tasks read JSON")
    assert not (tmp_path / "unpickled").exists()
    app.send_task("theirs.add", args=(20, 22), queue=names.declared("theirs"), serializer="pickle")
    added = cluster.folder / "added"
    wait_until(lambda: added.exists() and "42" in added.read_text(), what="the worker goes on")
    app.close()


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")
