"""Tasks called in this process: dry runs, stale messages, runs that go on, fan-out, and the records of all that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from worker_cluster import KEY, left, session_with_files

from sessionsweep import Settings
from sessionsweep.store import operations as op
from sessionsweep_workers import fanout, names, passes, tasks
from sessionsweep_workers.application import build
from sessionsweep_workers.context import configure, current
from sessionsweep_workers.devstack.server import EmbeddedServer
from sessionsweep_workers.keeper import _next_orphans


@pytest.fixture
def app(redis_url: str, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Celery]:
    """A node's app, without a worker: its tasks are called, and what they send is looked at."""
    volume = tmp_path_factory.mktemp("volume")
    made = build(
        Settings(
            redis_url=redis_url,
            namespace=namespace,
            secret_key=KEY,
            node="a",
            volumes=f"a={volume}",
            idle_timeout=0.05,
            grace_period=0,
            cleanup_interval=0.5,
            orphan_min_age=0,
        )
    )
    yield made
    current(made).store.close()
    made.close()


@pytest.fixture
def sent(app: Celery) -> Callable[..., list[dict[str, Any]]]:
    """The arguments of all messages in a queue, taken from it."""

    def take(queue: str = names.QUEUE) -> list[dict[str, Any]]:
        taken = []
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                taken.append(json.loads(message.body)[1])
        return taken

    return take


def heart(app: Celery, node: str, *volumes: str, age: int = 0) -> None:
    store = current(app).store
    at = store.execute(op.Facts()).now - age
    row = {"at": at, "volumes": dict.fromkeys(volumes, "x"), "queues": [names.volume_queue(v) for v in volumes]}
    store.execute(op.TablePut("n", node, json.dumps(row)))
    for volume in volumes:
        store.execute(op.TablePut("vols", volume, json.dumps({"name": "x", "ephemeral": False})))


def due_session(app: Celery) -> tuple[Any, list[Any]]:
    sessions = current(app).sessions
    session, paths = session_with_files(sessions)
    deadline = sessions.store.execute(op.Facts()).now + 400
    while sessions.store.execute(op.Facts()).now < deadline:
        pass  # real time: the workers' store has no test clock
    return session, paths


def test_a_dry_run_tells_and_ends_nothing(app: Celery) -> None:
    session, paths = due_session(app)
    result = app.tasks[names.SWEEP_IDLE](dry_run=True)
    assert result["would_end"] == 1
    assert "idle" not in result
    assert current(app).store.execute(op.PeekSession(session.id)).record is not None
    assert left(paths) == 1


def test_a_dry_run_is_no_run(app: Celery) -> None:
    _, [path] = due_session(app)
    for name in (names.SWEEP_IDLE, names.SWEEP_ORPHANS):
        app.tasks[name](dry_run=True, request_id="dry")
        assert passes.read(current(app).store, "dry") is not None
        assert passes.last_runs(current(app).store) == {}  # the keeper's own pass stays due
    assert path.exists()
    app.tasks[names.SWEEP_ORPHANS]()
    [volume] = [mounted.id for mounted in current(app).core.mounts.here()]
    assert set(passes.last_runs(current(app).store)) == {names.SWEEP_ORPHANS, f"{names.SWEEP_ORPHANS}:{volume}"}


def test_a_sweep_and_a_reclaim_say_what_they_did(app: Celery) -> None:
    _, paths = due_session(app)
    swept = app.tasks[names.SWEEP_EXPIRED]()
    assert {k: v for k, v in swept.items() if k != "seconds"} == {"idle": 1, "owed": 1}
    reclaimed = app.tasks[names.RECLAIM]()
    assert {k: v for k, v in reclaimed.items() if k != "seconds"} == {"deleted": 1, "bytes": 100}
    assert left(paths) == 0
    last = passes.last_runs(current(app).store)
    assert last[names.SWEEP_EXPIRED].result == swept
    assert (last[names.RECLAIM].state, last[names.RECLAIM].node) == ("done", "a")


def test_a_message_older_than_two_intervals_is_dropped(app: Celery) -> None:
    due_session(app)
    now = current(app).store.execute(op.Facts()).now
    for task in (names.SWEEP_IDLE, names.SWEEP_EXPIRED, names.RECLAIM):
        assert app.tasks[task](slot=now - 1100) == {"stale": True}
    assert app.tasks[names.SWEEP_ORPHANS](slot=now - 2 * 3_600_000 - 100) == {"stale": True}
    assert app.tasks[names.SWEEP_IDLE](slot=now)["idle"] == 1


def test_what_a_plain_beat_sends_carries_the_stores_time(
    app: Celery, sent: Callable[..., list[dict[str, Any]]]
) -> None:
    app.tasks[names.SWEEP_IDLE].apply_async(headers={"celery_beat_task": True})
    [arguments] = sent()
    store = current(app).store
    assert 0 <= store.execute(op.Facts()).now - arguments["slot"] < 5000
    assert int(store.execute(op.Meta())["beat_seen"]) == arguments["slot"]


def test_a_run_that_does_not_end_in_time_goes_on_in_another_message(
    app: Celery, sent: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(30):  # more than one step of a sweep
        current(app).sessions.create()
    due_session(app)
    store = current(app).store
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "BUDGET", 0)
        first = app.tasks[names.SWEEP_IDLE](request_id="r1")
    assert first["more"] is True
    found = passes.read(store, "r1")
    assert found is not None
    assert found["state"] == "running"
    [arguments] = sent()
    second = app.tasks[names.SWEEP_IDLE](**arguments)
    found = passes.read(store, "r1")
    assert found is not None
    assert found["state"] == "done"
    assert found["result"]["idle"] == first["idle"] + second["idle"] == 31


def test_orphan_passes_go_to_volumes_of_living_nodes_only(
    app: Celery, sent: Callable[..., list[dict[str, Any]]]
) -> None:
    heart(app, "alive", "1" * 16)
    heart(app, "gone", "2" * 16, age=60_000)
    assert app.tasks[names.SWEEP_ORPHANS](request_id="r2")["sent"] == 1
    [arguments] = sent(names.volume_queue("1" * 16))
    assert arguments == {"volume": "1" * 16, "dry_run": False, "request_id": f"r2.{'1' * 16}"}
    assert sent(names.volume_queue("2" * 16)) == []  # nobody would ever take it
    found = passes.read(current(app).store, "r2")
    assert found is not None
    assert found["state"] == "running"  # its part hasn't begun


def test_upkeep_keeps_naming_the_queues_that_a_worker_consumes(app: Celery) -> None:
    upkeep, store = current(app).upkeep, current(app).store
    upkeep.beat_heart([names.volume_queue("1" * 16)])
    upkeep.run_once()  # beats too: without queues, other nodes would send this one nothing for a while
    assert fanout.listened(store) == {"1" * 16}


def test_a_process_that_has_mounted_nothing_yet_sends_its_own_volumes_nowhere(
    app: Celery, sent: Callable[..., list[dict[str, Any]]]
) -> None:
    app.tasks[names.RECLAIM]()  # mounts
    [volume] = [mounted.id for mounted in current(app).core.mounts.here()]
    heart(app, "a", volume)
    configure(app, current(app).settings)  # as in a fresh process of the pool
    assert "sent" not in app.tasks[names.SWEEP_ORPHANS]()
    assert sent(names.volume_queue(volume)) == []


def test_a_run_is_failed_when_a_part_is(app: Celery) -> None:
    store = current(app).store
    for row, state in (("r3", "done"), ("r3.v", "failed")):
        record = passes.PassRecord("x", "a", state, 1, {}, ["r3.v"] if row == "r3" else [])
        store.execute(op.TablePut(passes.TABLE, row, record.encode()))
    found = passes.read(store, "r3")
    assert found is not None
    assert found["state"] == "failed"


def test_at_most_one_reclaim_waits_per_volume(app: Celery, sent: Callable[..., list[dict[str, Any]]]) -> None:
    store, task = current(app).store, app.tasks[names.RECLAIM]
    app.tasks[names.RECLAIM]()  # mounts
    [volume] = [mounted.id for mounted in current(app).core.mounts.here()]
    assert [fanout.send_reclaim(task, store, volume) for _ in range(5)] == [True, False, False, False, False]
    [arguments] = sent(names.volume_queue(volume))
    task(**arguments)  # it begins: another may be sent
    assert fanout.send_reclaim(task, store, volume)


def test_a_reclaim_that_could_not_be_sent_leaves_the_place_free(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    store, task = current(app).store, app.tasks[names.RECLAIM]

    def fails(*_: object, **__: object) -> None:
        raise OSError("the broker is away")

    with monkeypatch.context() as patch:
        patch.setattr(task, "apply_async", fails)
        with pytest.raises(OSError, match="away"):
            fanout.send_reclaim(task, store, "1" * 16)
    assert fanout.send_reclaim(task, store, "1" * 16)


def test_a_failed_run_is_on_record_too(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(current(app).sweep, "run_once", fails)
    with pytest.raises(ZeroDivisionError):
        app.tasks[names.SWEEP_IDLE](request_id="r4")
    found = passes.read(current(app).store, "r4")
    assert found is not None
    assert (found["state"], found["result"]) == ("failed", {"error": "ZeroDivisionError: by zero"})


def test_a_store_that_goes_away_costs_the_record_not_the_run(
    own_server: Callable[..., EmbeddedServer], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = own_server()
    made = build(Settings(redis_url=server.url, namespace=namespace, secret_key=KEY, socket_timeout=1))
    with passes.recorded(current(made), names.RECLAIM, "r5") as about:
        server.kill()
        about.done({"deleted": 1})
    assert "no record of sessionsweep.reclaim (done)" in caplog.text
    current(made).store.close()
    made.close()


def test_records_of_requests_are_bounded(app: Celery) -> None:
    store = current(app).store
    for number in range(passes.KEPT + 20):
        app.tasks[names.SWEEP_IDLE](request_id=f"q{number:03}")
    rows = store.execute(op.Table(passes.TABLE))
    kept = sorted(row for row in rows if not row.startswith(passes.LAST))
    assert len(kept) == passes.KEPT
    assert kept[-1] == f"q{passes.KEPT + 19:03}"
    assert passes.last_row(names.SWEEP_IDLE) in rows


@pytest.mark.parametrize(
    ("results", "summed"),
    [
        ([{"a": 1, "seconds": 0.5}, {"a": 2, "seconds": 0.25}], {"a": 3, "seconds": 0.75}),
        ([{"held": ["x"]}, {"held": ["x", "y"]}], {"held": ["x", "y"]}),
        ([{"more": True, "a": 1}, {"stale": True}], {"a": 1, "stale": True}),
        ([], {}),
    ],
)
def test_results_add_up(results: list[dict[str, Any]], summed: dict[str, Any]) -> None:
    assert passes.total(results) == summed


# rows that whoever reaches the store can write

NO_ROWS = {
    "nothing": "",
    "a word": "x",
    "a number": "5",
    "a list": "[]",
    "an empty object": "{}",
    "nesting": "[" * 200_000,
    "an object that nests": '{"at":' + "[" * 200_000,
    "bytes": b"\xff",
    "other fields": '{"name": 5, "node": [], "state": {}, "at": "x", "result": 5, "parts": 5, "newer": 1, "queues": 5}',
    "other values": json.dumps(
        {
            "name": "x", "node": "a", "state": "done", "at": 10**400, "parts": [[], 5],
            "result": {"confirm_in": "x", "held": 5, "seconds": [], "deleted": 10**400, "bytes": float("inf")},
            "volumes": {}, "queues": [5, None, "sessionsweep.volume.../x", {}],
        }
    ),
}  # fmt: skip


def put(app: Celery, table: str, row: str, text: str | bytes) -> None:
    """Writes a row as it is."""
    settings = current(app).settings
    with redis.Redis.from_url(settings.redis_url) as client:
        client.hset(f"{settings.namespace}:{{g}}:{table}", row, text)


@pytest.mark.parametrize("text", NO_ROWS.values(), ids=NO_ROWS)
def test_a_nodes_row_that_is_none_keeps_no_other_from_its_message(
    app: Celery, sent: Callable[..., list[dict[str, Any]]], text: str | bytes
) -> None:
    far = "0123456789abcdef"
    put(app, "n", "evil", text)
    heart(app, "b", far)
    put(app, "n", "zevil", text)
    assert app.tasks[names.RECLAIM]()["seconds"] >= 0
    assert app.tasks[names.SWEEP_ORPHANS]()["sent"] == 1
    assert [arguments["volume"] for arguments in sent(names.volume_queue(far))] == [far]
    assert fanout.listened(current(app).store) == {far}


def test_a_heartbeat_from_the_future_is_none(app: Celery) -> None:
    heart(app, "b", "0123456789abcdef", age=-(10**12))
    assert fanout.listened(current(app).store) == set()


@pytest.mark.parametrize("text", NO_ROWS.values(), ids=NO_ROWS)
def test_a_record_that_is_none_is_a_pass_that_failed_long_ago(app: Celery, text: str | bytes) -> None:
    store = current(app).store
    for row in ("last:x", "r5", *(f"old-{number}" for number in range(passes.KEPT))):
        put(app, passes.TABLE, row, text)
    last = passes.last_runs(store)["x"]
    assert last.at == 0
    assert _next_orphans(last, 3600) >= 0
    assert passes.total([last.result, {"deleted": 1, "seconds": 0.5}])["deleted"] == 1
    assert passes.read(store, "r5") is not None
    app.tasks[names.SWEEP_IDLE](request_id="r5")  # writes its own, and makes room
    found = passes.read(store, "r5")
    assert found is not None
    assert found["name"] == names.SWEEP_IDLE
    assert len(store.execute(op.Table(passes.TABLE))) == passes.KEPT + 2  # two are the last runs of their tasks


def test_a_part_that_is_none_has_failed(app: Celery) -> None:
    store = current(app).store
    record = passes.PassRecord("x", "a", "done", 1, {}, ["r6.v"])
    store.execute(op.TablePut(passes.TABLE, "r6", record.encode()))
    put(app, passes.TABLE, "r6.v", "[" * 200_000)
    found = passes.read(store, "r6")
    assert found is not None
    assert found["state"] == "failed"


def test_a_dry_run_is_not_the_last_sweep(app: Celery) -> None:
    store = current(app).store
    app.tasks[names.SWEEP_IDLE](dry_run=True)
    assert "last_sweep" not in store.execute(op.Meta())
    app.tasks[names.SWEEP_IDLE]()
    assert "last_sweep" in store.execute(op.Meta())
