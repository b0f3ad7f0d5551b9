"""The tasks on real workers: what they do and return, which queue brings them where, what is seen of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from pytest_celery import CeleryTestSetup
from worker_cluster import Cluster, left, session_with_files, wait_gone, wait_settled

from sessionsweep import Sessions
from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.dispatcher import Dispatcher
from support.processes import wait_until

pytestmark = pytest.mark.smoke


@pytest.fixture
def on_a(deployment: Cluster) -> Sessions:
    return deployment.sessions("a", deployment.volumes("a", "shared"))


@pytest.fixture
def on_b(deployment: Cluster) -> Sessions:
    return deployment.sessions("b", deployment.volumes("b", "shared"))


@pytest.fixture
def dispatcher(deployment: Cluster, on_a: Sessions) -> Iterator[Dispatcher]:
    made = Dispatcher(on_a.settings)
    yield made
    made.close()


@contextmanager
def events(app: Any) -> Iterator[list[dict[str, Any]]]:
    """What Flower would see meanwhile."""
    seen: list[dict[str, Any]] = []
    over, ready = threading.Event(), threading.Event()

    def listen() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": seen.append})
            with receiver.consumer_context() as (channel_owner, _, _):
                while not over.is_set():
                    with suppress(TimeoutError):
                        channel_owner.drain_events(timeout=0.1)
                    ready.set()  # the first drain subscribes

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def volume_ids(sessions: Sessions) -> dict[str, str]:
    rows = sessions.store.execute(op.Table("vols"))
    return {json.loads(row)["name"]: volume for volume, row in rows.items()}


def test_every_worker_consumes_the_common_queue_and_one_for_each_of_its_volumes(
    celery_setup: CeleryTestSetup, on_a: Sessions
) -> None:
    wait_until(lambda: {"a", "b", "shared"} <= set(volume_ids(on_a)), what="all volumes are known")
    ids = volume_ids(on_a)
    consumed: dict[str, set[str]] = {}
    for name, queues in (celery_setup.app.control.inspect(timeout=3).active_queues() or {}).items():
        consumed[name.split("-")[1]] = {queue["name"] for queue in queues}
    for node in ("a", "b"):
        assert consumed[node] == {
            names.QUEUE,
            names.volume_queue(ids[node]),
            names.volume_queue(ids["shared"]),
        }


def test_each_nodes_files_are_deleted_by_its_own_worker(
    celery_setup: CeleryTestSetup, on_a: Sessions, on_b: Sessions
) -> None:
    session, on_node_a = session_with_files(on_a, 2)
    with on_b.attach(session.id).new_file("test", ".bin") as f:
        f.write(b"x")
    with events(celery_setup.app) as seen:
        session.end()
        wait_gone([*on_node_a, f.path])

        def reclaimed() -> dict[str, int]:
            done: dict[str, int] = {}
            for event in seen:
                if event["type"] == "task-succeeded" and "'deleted'" in event["result"]:
                    node = event["hostname"].split("-")[1]
                    done[node] = done.get(node, 0) + int(event["result"].partition("'deleted': ")[2].split(",")[0])
            return done

        wait_until(lambda: reclaimed() == {"a": 2, "b": 1}, what="each node's worker says what it deleted")
    wait_settled(on_a)


def test_flower_sees_names_progress_and_results(celery_setup: CeleryTestSetup, dispatcher: Dispatcher) -> None:
    with events(celery_setup.app) as seen:
        request = dispatcher.dispatch(names.SWEEP_IDLE)
        dispatcher.wait(request, 10)

        def of(kind: str) -> list[dict[str, Any]]:
            return [event for event in seen if event["type"] == kind and event.get("uuid") == request]

        wait_until(lambda: of("task-succeeded"), what="the task succeeded")
        assert of("task-received")[0]["name"] == names.SWEEP_IDLE
        assert "sessions" in of("task-progress")[0]["result"]
        assert "'seconds'" in of("task-succeeded")[0]["result"]


def test_ending_a_session_and_a_user_by_task(dispatcher: Dispatcher, on_a: Sessions) -> None:
    session, paths = session_with_files(on_a)
    record = dispatcher.wait(dispatcher.dispatch(names.END_SESSION, {"session_id": session.id}), 10)
    assert (record["state"], record["result"], record["name"]) == ("done", {"ended": 1}, names.END_SESSION)
    assert record["node"] in ("a", "b")
    assert on_a.get(session.id) is None
    keep, kept = session_with_files(on_a, user="eva")
    keep.extend(idle=600)
    others = [session_with_files(on_a, user="eva") for _ in range(3)]
    again = dispatcher.dispatch(names.END_USER, {"user": "eva", "except_id": keep.id, "reason": "user"})
    assert dispatcher.wait(again, 10)["result"] == {"ended": 3}
    wait_gone([*paths, *(path for _, files in others for path in files)])
    assert left(kept) == 1
    keep.end()


@pytest.mark.parametrize(
    ("task", "arguments", "says"),
    [
        (names.END_SESSION, {"session_id": "../../etc"}, "session_id='../../etc' is not a session id"),
        (names.END_SESSION, {"session_id": "0" * 20, "reason": "whim"}, "reason='whim' is not one of"),
        (names.END_USER, {"user": ""}, "user='' must be"),
        (names.RECLAIM, {"volume": "../x"}, "volume='../x' is not a volume id"),
        (names.SWEEP_ORPHANS, {"volume": "0" * 16}, "is not mounted here"),
        (names.SWEEP_IDLE, {"slot": "soon"}, "slot='soon' is not a time"),
    ],
)
def test_bad_arguments_fail_with_what_is_wrong(
    celery_setup: CeleryTestSetup, task: str, arguments: dict[str, Any], says: str
) -> None:
    with events(celery_setup.app) as seen:
        sent = celery_setup.app.tasks[task].apply_async(kwargs=arguments)

        def failed() -> list[str]:
            return [e["exception"] for e in seen if e["type"] == "task-failed" and e["uuid"] == sent.id]

        wait_until(failed, what="the task failed")
        assert says in failed()[0].replace('\\"', '"').replace("\\'", "'")


def test_an_unknown_argument_is_refused_before_it_is_sent(dispatcher: Dispatcher) -> None:
    with pytest.raises(TypeError, match="bogus"):
        dispatcher.dispatch(names.SWEEP_IDLE, {"bogus": 1})


def test_orphans_are_looked_for_on_every_nodes_volumes_and_waited_for(dispatcher: Dispatcher, on_a: Sessions) -> None:
    request = dispatcher.dispatch(names.SWEEP_ORPHANS)
    record = dispatcher.wait(request, 15)
    assert record["state"] == "done"
    ids = volume_ids(on_a)
    other = "b" if record["node"] == "a" else "a"
    assert list(record["parts"]) == [f"{request}.{ids[other]}"]
    assert record["parts"][f"{request}.{ids[other]}"]["node"] == other


def test_an_expired_sweep_and_a_reclaim_on_demand(dispatcher: Dispatcher) -> None:
    for task in (names.SWEEP_EXPIRED, names.RECLAIM):
        assert dispatcher.wait(dispatcher.dispatch(task), 10)["state"] == "done"


def test_nobody_waits_for_ever(dispatcher: Dispatcher) -> None:
    request = dispatcher.dispatch(names.RECLAIM, {"volume": "0" * 16}, queue=names.volume_queue("0" * 16))
    with pytest.raises(TimeoutError, match="is one running"):
        dispatcher.wait(request, 0.3)


def test_nodes_say_what_they_mount_and_consume(celery_setup: CeleryTestSetup, on_a: Sessions) -> None:
    def rows() -> dict[str, Any]:
        return {node: json.loads(row) for node, row in on_a.store.execute(op.Table("n")).items()}

    wait_until(lambda: all(len(row["queues"]) == 3 for row in rows().values()), what="all queues are named")
    before = rows()
    assert set(before) == {"a", "b"}
    wait_until(lambda: all(rows()[node]["at"] > before[node]["at"] for node in before), what="heartbeats go on")
