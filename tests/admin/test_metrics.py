"""`/metrics`: what it says of sessions, debts, volumes, nodes, holds; at which cost; and with what missing."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from admin_client import OVER, READ, WRITE, Admin
from metrics_page import page, scrape

from sessionsweep.admin import metrics
from sessionsweep.engine import orphans
from sessionsweep.model.holds import Hold, volume_scope
from sessionsweep.operator import places
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import wait_until


def beating(admin: Admin) -> None:
    admin.node.upkeep.run_once()


def test_sessions_and_resources_are_counted(admin: Admin) -> None:
    node = admin.node
    beating(admin)
    node.session_with_file(70)
    gone, _, _ = node.session_with_file(500)
    gone.end()
    node.reclaim.run_once()
    owing, _, _ = node.session_with_file(9)
    owing.end("logout")
    seen = page(admin)
    assert seen.get("store_up") == seen.get("scrape_complete") == 1
    assert (seen.get("sessions_active"), seen.get("sessions_created_total")) == (1, 3)
    assert seen.get("sessions_ended_total", reason="logout") == 2
    assert seen.get("sessions_ended_total", reason="idle") == 0
    assert seen.get("session_duration_seconds_count") == 2
    assert [seen.get("resources", state=state) for state in ("active", "owed", "dead")] == [1, 1, 0]
    assert [seen.get("resource_bytes", state=state) for state in ("active", "owed")] == [70, 9]
    assert (seen.get("resources_registered_total"), seen.get("resources_closed_total", outcome="deleted")) == (3, 1)
    assert (seen.get("resource_deleted_bytes_total"), seen.get("books_difference")) == (500, 0)
    assert (seen.get("limit_resources_per_session"), seen.has("limit_sessions")) == (100, False)


def test_a_volumes_debt_its_node_and_its_disk(admin: Admin) -> None:
    node = admin.node
    beating(admin)
    session, _, path = node.session_with_file(9)
    path.unlink()
    path.mkdir()  # no file of ours: it can't be deleted
    session.end("logout")
    node.advance(5)
    late = page(admin)
    assert late.get("volume_due_seconds", volume="a") >= 5
    assert late.get("oldest_owed_seconds") >= 5
    node.reclaim.run_once()
    seen = page(admin)
    told = ("owing_sessions", "owed_resources", "owed_bytes", "failing_resources", "debt_complete", "workers")
    assert [seen.get(f"volume_{name}", volume="a") for name in told] == [1, 1, 9, 1, 1, 1]
    assert seen.get("volume_problems", volume="a") == 1
    (volume,) = node.core.mounts.here()
    assert seen.get("disk_free_bytes", node="a", volume="a", volume_id=volume.id) > 0
    assert seen.get("disk_used_bytes", node="a", volume="a") > 0
    assert (seen.get("node_up", node="a"), seen.get("node_heartbeat_age_seconds", node="a") >= 5) == (1, True)
    node.advance(3600)
    silent = page(admin)
    assert (silent.get("node_up", node="a"), silent.get("volume_workers", volume="a")) == (0, 0)
    assert not silent.has("disk_free_bytes")  # nobody knows any more


def test_a_full_disk_is_not_also_a_volume_that_cannot_be_written(admin: Admin) -> None:
    node = admin.node
    beating(admin)
    (volume,) = node.core.mounts.here()

    def told(free: int, error: str) -> tuple[list[float], set[str]]:
        """The metric, if it is there, and which failures are found."""
        row = json.loads(node.store.execute(op.Table("n"))["a"])
        row |= {"space": {volume.id: {"used": 100 - free, "free": free}}, "unwritable": {volume.id: error}}
        node.store.execute(op.TablePut("n", "a", json.dumps(row)))
        seen = page(admin)
        values = [sample.value for sample in seen.find("volume_unwritable", node="a", volume="a")]
        return values, {s.labels["code"] for s in seen.find("findings", level="failure")} & {"disk", "unwritable"}

    assert told(0, "ENOSPC") == ([], {"disk"})
    assert told(50, "ENOSPC") == ([1], {"unwritable"})  # no inode is left
    assert told(0, "EROFS") == ([1], {"disk", "unwritable"})  # two faults
    beating(admin)
    assert page(admin).get("volume_unwritable", node="a", volume="a") == 0


def test_how_late_the_sweep_is(admin: Admin) -> None:
    node = admin.node
    assert not page(admin).has("last_sweep_age_seconds")
    node.sessions.create()
    assert page(admin).get("sweep_lag_seconds") == 0
    node.advance(60)
    assert 45 <= page(admin).get("sweep_lag_seconds") <= 60
    node.sweep.run_once()
    swept = page(admin)
    assert swept.get("sweep_lag_seconds") == 0
    assert swept.get("sessions_ended_total", reason="idle") == 1
    node.advance(7)
    assert 7 <= page(admin).get("last_sweep_age_seconds") < 10


def test_holds_and_alarms_are_told_by_kind_and_reason(admin: Admin) -> None:
    store = admin.node.store
    now = store.execute(op.Facts()).now
    assert page(admin).get("alarms", alarm="beat") == 0
    for scope in (volume_scope("k10b39f5a78zxzce"), volume_scope("5eb6y8q7we4k7tyy")):
        store.execute(op.TablePut("holds", scope, Hold(scope, "foreign-deployment", "", now, "a").encode()))
    for scope in ("mount:a/b", "mount:a/\n"):
        store.execute(op.TablePut("holds", scope, Hold(scope, "marker-missing", "", now, "a").encode()))
    store.execute(op.TablePut("holds", 'x"\n', "{damaged"))
    store.execute(op.TablePut("alarms", "beat", Hold("beat", "beat-missing", "", now, "a").encode()))
    for scope in ("disk:a/b", "disk:b/b"):
        store.execute(op.TablePut("alarms", scope, Hold(scope, "not-answering", "", now, "a").encode()))
    store.execute(op.TablePut("alarms", "x" * 999, "{"))
    seen = page(admin)
    assert seen.get("holds", kind="volume", reason="foreign-deployment") == 2
    assert seen.get("holds", kind="other", reason="unreadable") == 1
    assert seen.get("holds", kind="mount", node="a", volume="b") == seen.get("holds", kind="mount", node="") == 1
    assert seen.get("findings", code="hold", level="failure") == 5
    assert [seen.get("alarms", alarm=alarm) for alarm in ("beat", "disk", "marks", "other")] == [1, 2, 0, 1]


def test_the_last_run_of_each_task(admin: Admin) -> None:
    beating(admin)
    store = admin.node.store
    (volume,) = admin.node.core.mounts.here()
    now = store.execute(op.Facts()).now

    def ran(row: str, state: str, result: dict[str, Any]) -> None:
        about = {"name": "x", "node": "a", "state": state, "at": now - 3000, "result": result, "parts": []}
        store.execute(op.TablePut("passes", row, json.dumps(about)))

    ran("last:sessionsweep.sweep_idle", "failed", {"error": "no"})
    found = {"seconds": 1.5, "candidates": 4, "missing": 2, "files": 90}
    ran(f"last:sessionsweep.sweep_orphans:{volume.id}", "done", found)
    ran("6f1d9c5e", "done", {"seconds": 9})  # somebody's request
    store.execute(op.TablePut("passes", "last:sessionsweep.reclaim", "{damaged"))
    seen = page(admin)
    assert {sample.labels["task"] for sample in seen.find("pass_age_seconds")} == {"sweep_idle", "sweep_orphans"}
    assert 3 <= seen.get("pass_age_seconds", task="sweep_idle") < 60
    assert seen.get("pass_state", task="sweep_idle", state="failed") == 1
    assert seen.get("pass_state", task="sweep_orphans", state="failed") == 0
    assert seen.get("pass_duration_seconds", task="sweep_orphans", volume="a") == 1.5
    kinds = ("candidates", "missing", "destroyed")
    assert [seen.get("orphans", kind=kind, volume="a") for kind in kinds] == [4, 2, 0]


def test_resources_by_kind_and_open_streams(admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(1)
    with session.stream("chat", close=lambda reason: None):
        seen = page(admin)
        kinds = {kind: seen.get("resources_registered_by_kind_total", kind=kind) for kind in ("file", "stream")}
        assert (kinds, seen.get("streams_open")) == ({"file": 1, "stream": 1}, 1)
    assert page(admin).get("streams_open") == 0


def test_what_lies_on_a_volume_as_the_last_whole_walk_found_it(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not page(admin).has("volume_files")
    admin.node.session_with_file(100)
    for _ in range(3):
        admin.node.session_with_file(50)
    assert not admin.node.orphans.run_once().more
    admin.node.session_with_file(1000)  # after the walk
    seen = page(admin)
    assert (seen.get("volume_files", volume="a"), seen.get("volume_file_bytes", volume="a")) == (4, 250)
    assert seen.get("volume_walk_age_seconds", volume="a") >= 0
    # half a walk says nothing new, not even in another run of the server
    monkeypatch.setattr(orphans, "PAGE", 2)
    stopped = threading.Event()
    stopped.set()
    assert admin.node.orphans.run_once(stop=stopped).more
    assert page(admin).get("volume_files", volume="a") == 4
    rows = admin.node.store.execute(op.Table("scans"))
    ((volume_id, row),) = rows.items()
    other = json.dumps({**json.loads(row), "run_id": "another"})
    admin.node.store.execute(op.TablePut("scans", volume_id, other))
    assert admin.node.orphans.run_once(stop=stopped).more
    assert page(admin).get("volume_file_bytes", volume="a") == 250
    monkeypatch.undo()
    assert not admin.node.orphans.run_once().more
    assert page(admin).get("volume_file_bytes", volume="a") == 1250
    admin.node.store.execute(op.TablePut("scans", volume_id, "garbage"))
    assert not page(admin).has("volume_files")


def test_names_and_texts_are_as_prometheus_wants_them(admin: Admin) -> None:
    beating(admin)
    admin.node.session_with_file(1)
    for family in page(admin).families:
        assert family.name.startswith("sessionsweep_"), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type in ("gauge", "counter", "summary"), family.name  # the text format knows no info
        assert not family.name.endswith(("_milliseconds", "_ms", "_kb", "_minutes", "_percent")), family.name
        assert all(sample.name.endswith("_total") for sample in family.samples if family.type == "counter")


def test_openmetrics_for_whoever_asks(admin: Admin) -> None:
    headers = {"X-Admin-Token": READ, "Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    answer = admin.http.get("/metrics", headers=headers)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    plain = admin.http.get("/metrics", headers={"X-Admin-Token": READ})
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("headers", [{}, {"X-Admin-Token": "wrong"}, {"Authorization": f"Bearer {OVER}"}])
def test_without_a_token_no_figure_is_told(admin: Admin, headers: dict[str, str]) -> None:
    answer = admin.http.get("/metrics", headers=headers)
    assert (answer.status_code, "sessionsweep_sessions" in answer.text) == (401, False)
    assert scrape(admin, WRITE)


def test_a_scrape_renews_nothing(admin: Admin) -> None:
    admin.node.sessions.create()
    admin.node.advance(9)
    scrape(admin)
    admin.node.advance(2)
    admin.node.sweep.run_once()
    assert page(admin).get("sessions_ended_total", reason="idle") == 1


def commands(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("stats")["total_commands_processed"])


def cost(admin: Admin, url: str) -> int:
    """Commands of one scrape, those that scripts call included."""
    scrape(admin)  # scripts are loaded, connections open
    before = commands(url)
    scrape(admin)
    return commands(url) - before


def test_a_scrape_costs_the_same_at_any_number_of_sessions(
    make_admin: Callable[..., Admin], own_server: Callable[..., EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own_server().url
    admin = make_admin(url=url, tombstone_retention=1)
    beating(admin)
    node = admin.node

    def begin(count: int) -> list[Any]:
        return [node.sessions.create()[0] for _ in range(count)]

    begin(10)
    few = cost(admin, url)
    begin(1990)
    assert cost(admin, url) == few
    # of what is owed a fixed share is looked at
    monkeypatch.setattr(places, "LOOKS", 8)
    for session in begin(60):
        node.write(session, 1)
        session.end("logout")
    owing = cost(admin, url)
    for session in begin(120):
        node.write(session, 1)
        session.end("logout")
    assert page(admin).get("volume_owing_sessions", volume="a") == 180
    assert page(admin).get("volume_debt_complete", volume="a") == 0
    assert cost(admin, url) == owing


def test_it_answers_while_the_store_is_away(
    make_admin: Callable[..., Admin], own_server: Callable[..., EmbeddedServer]
) -> None:
    server = own_server()
    admin = make_admin(url=server.url)
    assert page(admin).get("store_up") == 1
    server.stop()
    seen = page(admin)
    assert seen.get("store_up") == 0
    assert not any(name.startswith("sessionsweep_sessions") for name in seen.names)
    server.start()
    assert page(admin).get("store_up") == 1


def test_it_answers_while_the_store_hangs(
    make_admin: Callable[..., Admin], own_server: Callable[..., EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server()
    admin = make_admin(url=server.url, sweeper="workers")
    assert page(admin).get("store_up") == 1
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for patience in (metrics.STORE_PATIENCE, 0.3, 0.3, 0.3):  # none waits for the one before
            monkeypatch.setattr(metrics, "STORE_PATIENCE", patience)
            headers = {"X-Admin-Token": READ}
            answer = admin.http.get("/metrics", headers=headers, timeout=10)  # as long as Prometheus waits
            assert "sessionsweep_store_up 0.0" in answer.text
    finally:
        os.kill(server.pid, signal.SIGCONT)
    monkeypatch.undo()
    wait_until(lambda: page(admin).get("store_up") == 1)


def test_a_damaged_record_hides_only_the_debts(admin: Admin, redis_url: str, namespace: str) -> None:
    session, _, _ = admin.node.session_with_file(9)
    session.end("logout")
    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"{namespace}:{{00}}:t:{session.id}", "ended", "garbage")
    seen = page(admin)
    assert (seen.get("store_up"), seen.get("scrape_complete")) == (1, 0)
    assert seen.get("sessions_ended_total", reason="logout") == 1


def test_an_evicting_server_is_told(
    make_admin: Callable[..., Admin], own_server: Callable[..., EmbeddedServer]
) -> None:
    server = own_server()
    admin = make_admin(url=server.url)
    beating(admin)
    assert page(admin).get("store_evicts_keys") == 0
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    beating(admin)
    seen = page(admin)
    assert seen.get("store_evicts_keys") == 1
    assert seen.get("holds", kind="server", reason="memory-policy") == 1


# queues


def test_the_length_of_the_workers_queues(make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(sweeper="workers")
    beating(admin)
    (volume,) = admin.node.core.mounts.here()
    for _ in range(3):
        admin.post("/sweeps/idle", status=202)
    seen = page(admin)
    assert seen.get("queue_messages", queue="sessionsweep") == 3  # no worker runs here
    assert seen.get("queue_messages", queue=f"sessionsweep.volume.{volume.id}") == 0
    assert seen.get("broker_up") == 1


def test_no_queues_without_workers_or_with_another_broker(make_admin: Callable[..., Admin]) -> None:
    assert not page(make_admin()).has("queue_messages")
    seen = page(make_admin(sweeper="workers", broker_url="amqp://127.0.0.1:1//"))
    assert (seen.has("queue_messages"), seen.has("broker_up")) == (False, False)


def test_a_broker_that_is_away_costs_only_the_queues(make_admin: Callable[..., Admin]) -> None:
    seen = page(make_admin(sweeper="workers", broker_url="redis://127.0.0.1:1/0"))
    assert (seen.get("store_up"), seen.get("broker_up"), seen.has("queue_messages")) == (1, 0, False)


def test_how_full_the_store_is(make_admin: Callable[..., Admin], own_server: Callable[..., EmbeddedServer]) -> None:
    server = own_server()
    admin = make_admin(url=server.url)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 0)
        assert not page(admin).has("store_memory_limit_bytes")
        client.config_set("maxmemory", "100mb")
    seen = page(admin)
    assert seen.get("store_memory_limit_bytes") == 100 * 2**20
    assert 0 < seen.get("store_memory_used_bytes") < 100 * 2**20
