"""An empty, wrong or rolled-back store, an unmounted or swapped volume: nothing is destroyed, and the hold says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from sessionsweep import StoreUnavailableError, VolumeUntrustedError
from sessionsweep.engine.trust import Trust
from sessionsweep.model.holds import ALL, IDLE, Hold, volume_scope
from sessionsweep.operator import holds, volumes
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node


def run_everything(node: Node) -> int:
    """Every pass, three times over with time in between; how many files were destroyed."""
    destroyed = 0
    for _ in range(3):
        node.advance(3)
        node.upkeep.run_once()
        node.sweep.run_once()
        destroyed += node.reclaim.run_once().deleted + node.orphans.run_once().destroyed
    return destroyed


def test_an_emptied_store_destroys_nothing(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node]
) -> None:
    server = own_server()
    node = make_node(url=server.url)
    _, _, path = node.session_with_file()
    node.upkeep.run_once()
    redis.Redis.from_url(server.url).flushall()
    assert run_everything(node) == 0
    assert path.exists()
    (hold,) = [h for scope, h in node.holds().items() if scope.startswith("volume:")]
    assert hold.reason == "foreign-deployment"
    assert "volumes adopt" in hold.text
    session, rid, _ = node.session_with_file()
    assert session.resources()[0].id == rid, "the app goes on"
    assert run_everything(node) == 0


def test_another_deployments_volume_is_left_alone(make_node: Callable[..., Node], tmp_path: Path) -> None:
    ours, theirs = make_node("a"), make_node("b", namespace="other" + tmp_path.name[-8:].replace("_", ""))
    theirs.session_with_file()
    _, _, path = ours.session_with_file()
    shutil.rmtree(tmp_path / "b")
    shutil.move(tmp_path / "a", tmp_path / "b")  # somebody mounted the wrong disk
    theirs.mount()
    assert run_everything(theirs) == 0
    assert (tmp_path / "b" / path.relative_to(tmp_path / "a")).exists()
    assert theirs.holds()


def test_an_unmounted_volume_is_not_made_anew(make_node: Callable[..., Node], tmp_path: Path) -> None:
    node = make_node()
    session, _, path = node.session_with_file()
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    (tmp_path / "a").mkdir()  # the empty mount point
    session.end()
    assert run_everything(node) == 0
    again = make_node()
    (problem,) = again.mount()
    assert isinstance(problem, VolumeUntrustedError)
    assert problem.reason == "marker-missing"
    assert list((tmp_path / "a").iterdir()) == []
    (hold,) = [h for scope, h in again.holds().items() if scope.startswith("mount:")]
    assert hold.reason == "marker-missing"
    depth = again.store.execute(op.Queues("00"))[0]
    assert depth.entries == 1, "still owed"
    (tmp_path / "a").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "a")
    assert run_everything(again) == 1
    assert not path.exists()
    assert not again.holds(), "lifted by itself when the disk is back"


def test_swapped_volumes_are_known_by_their_markers(make_node: Callable[..., Node], tmp_path: Path) -> None:
    node = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    first, _, on_one = node.session_with_file()
    kept, _ = node.sessions.create()
    node.write(kept, volume="two")
    (tmp_path / "one").rename(tmp_path / "x")
    (tmp_path / "two").rename(tmp_path / "one")
    (tmp_path / "x").rename(tmp_path / "two")
    node.store.execute(op.ExtendSession(kept.id, idle=1_000_000, max=0))
    first.end()
    again = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    assert run_everything(again) == 1
    assert not (tmp_path / "two" / on_one.relative_to(tmp_path / "one")).exists()
    assert len(kept.resources()) == 1
    assert [p for p in (tmp_path / "one" / "files").rglob("*") if p.is_file()]


def test_an_old_snapshot_stops_all_destruction(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node]
) -> None:
    server = own_server()
    node = make_node(url=server.url)
    client = redis.Redis.from_url(server.url)
    session, token = node.sessions.create()
    node.upkeep.run_once()
    snapshot = {key: client.dump(key) for key in client.keys("*") if b":test:" not in key}
    node.advance(400)
    session.end()
    newer, _, path = node.session_with_file()
    node.upkeep.run_once()
    for key in client.keys("*"):
        if b":test:" not in key:
            client.delete(key)
    for key, value in snapshot.items():
        client.restore(key, 0, value)
    assert run_everything(node) == 0
    hold = node.holds()[ALL]
    assert hold.reason == "rolled-back"
    assert "logged out" in hold.text, "a roll-back can revive tokens: it says so"
    assert path.exists()
    assert newer.id
    assert token


@pytest.mark.parametrize("of_all", [True, False])
def test_a_hold_on_record_stops_destruction_and_is_said(node: Node, of_all: bool) -> None:
    session, _, path = node.session_with_file()
    session.end()
    scope = ALL if of_all else volume_scope(node.core.mounts.here()[0].id)
    node.store.execute(op.TablePut("holds", scope, Hold(scope, "state", "look first", 0, "a").encode()))
    result = node.reclaim.run_once()
    assert (result.deleted, len(result.held)) == (0, 1)
    assert path.exists()
    run(holds.lift(node.core, scope), node.store)
    assert node.reclaim.run_once().deleted == 1


def test_a_restarted_server_ends_nobody_for_idleness(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node], tmp_path: Path
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    node = make_node(url=server.url, hold=5, idle_timeout=10)
    session, token = node.sessions.create()
    logged_out, _, gone = node.session_with_file()
    node.sweep.run_once()
    node.advance(9)
    server.kill()
    server.restart()
    node.advance(2)  # idle by what the server remembers, but a later touch may have been lost
    assert node.sweep.run_once().idle == 0
    assert IDLE in node.holds()
    assert node.sessions.open(token).id == session.id, "the client comes back and is let in"
    logged_out.end()
    assert node.reclaim.run_once().deleted == 1, "explicit ends go on"
    assert not gone.exists()
    node.advance(11)
    assert node.sweep.run_once().idle == 1
    assert node.orphans.run_once().held == []


@pytest.mark.parametrize("adopted", [False, True])
def test_a_failover_before_the_first_pass_is_noticed(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node], tmp_path: Path, adopted: bool
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    node = make_node(url=server.url)
    node.mount()
    if adopted:  # by an emptied store
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        run(volumes.adopt(node.core, "a"), node.store)
    server.kill()
    server.restart()
    node.sweep.run_once()
    assert IDLE in node.holds(), "what it forgot may be anybody's"


def test_too_many_orphans_stop_the_pass_until_an_operators_word(
    make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsweep.engine.orphans.CAP_FLOOR", 3)
    node = make_node()
    sessions = [node.session_with_file() for _ in range(5)]
    for session, _, _ in sessions:
        for key in ("session", "resources"):
            node.store._send(["DEL", getattr(node.store.keys, key)(session.id)], "", False)
    for _ in range(3):
        node.orphans.run_once()
        node.advance(2)
    assert all(path.exists() for _, _, path in sessions)
    (hold,) = node.holds().values()
    assert (hold.scope.partition(":")[0], hold.reason) == ("orphans", "too-many-orphans")
    session, _, owed = node.session_with_file()
    session.end()
    assert node.reclaim.run_once().deleted == 1, "what is owed goes: fakes that somebody made don't stop that"
    assert not owed.exists()
    assert node.orphans.run_once().held
    run(holds.lift(node.core, hold.scope), node.store)
    assert node.orphans.run_once().destroyed == 4, "sightings are kept up to one more than the cap"
    node.orphans.run_once()
    node.advance(2)
    assert node.orphans.run_once().destroyed == 1


def test_an_orphan_is_seen_twice_before_it_goes(node: Node) -> None:
    session, _, path = node.session_with_file()
    for key in ("session", "resources"):
        node.store._send(["DEL", getattr(node.store.keys, key)(session.id)], "", False)
    assert node.orphans.run_once().candidates == 1
    assert node.orphans.run_once().destroyed == 0, "a grace must lie between"
    node.advance(1.1)
    assert node.orphans.run_once().destroyed == 1
    assert not path.exists()


def test_a_file_that_a_live_session_forgot_is_registered_again(node: Node) -> None:
    session, rid, path = node.session_with_file()
    node.store._send(["HDEL", node.store.keys.resources(session.id), rid], "", False)
    assert node.orphans.run_once().readopted == 1
    assert [r.id for r in session.resources()] == [rid]
    node.advance(2)
    node.orphans.run_once()
    assert path.exists()


def test_a_record_without_bytes_is_closed_as_gone(node: Node) -> None:
    session, _, path = node.session_with_file()
    path.unlink()
    assert node.orphans.run_once().missing == 0
    node.advance(1.1)
    assert node.orphans.run_once().missing == 1
    assert session.resources() == []
    assert node.sessions.attach(session.id).bytes_used == 0


def test_a_fresh_file_of_an_unknown_session_is_not_even_a_candidate(make_node: Callable[..., Node]) -> None:
    node = make_node(orphan_min_age=3600)
    session, _, path = node.session_with_file()
    for key in ("session", "resources"):
        node.store._send(["DEL", getattr(node.store.keys, key)(session.id)], "", False)
    assert node.orphans.run_once().candidates == 0
    assert path.exists()


def test_a_damaged_time_mark_stops_that_volume_alone(make_node: Callable[..., Node], tmp_path: Path) -> None:
    node = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    session, _, on_one = node.session_with_file()
    _, on_two = node.write(session, volume="two")
    (tmp_path / "one" / ".sessionsweep-state").write_bytes(b"\xff garbage")
    session.end()
    assert run_everything(node) == 1
    assert (on_one.exists(), on_two.exists()) == (True, False)
    (hold,) = node.holds().values()
    assert hold.reason == "state-unreadable"
    (tmp_path / "one" / ".sessionsweep-state").unlink()
    node.store.execute(op.TableDrop("holds", hold.scope))
    assert run_everything(node) == 1
    assert not on_one.exists()


@pytest.mark.parametrize("ahead", [301, 10**12])
def test_a_time_mark_that_no_server_can_have_told_stops_that_volume_alone(
    make_node: Callable[..., Node], tmp_path: Path, ahead: int
) -> None:
    """A snapshot sets the store's mark back and not its clock: what lies ahead of the clock tells of no roll-back."""
    node = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    session, _, on_one = node.session_with_file()
    _, on_two = node.write(session, volume="two")
    node.upkeep.run_once()
    mark = node.store.execute(op.Facts()).now + ahead * 1000
    (tmp_path / "one" / ".sessionsweep-state").write_text(json.dumps({"format": 1, "high_water_ms": mark}))
    session.end()
    assert run_everything(node) == 1
    assert (on_one.exists(), on_two.exists()) == (True, False)
    (hold,) = node.holds().values()
    assert (hold.scope.partition(":")[0], hold.reason) == ("volume", "state-unreadable")
    run(holds.lift(node.core, hold.scope), node.store)
    assert run_everything(node) == 1
    assert not on_one.exists()


def test_a_web_node_opens_a_volume_again_that_was_adopted(make_node: Callable[..., Node]) -> None:
    web, operator = make_node(), make_node()
    session, rid, _ = web.session_with_file()
    operator.mount()
    operator.core.mounts.here()[0].restamp("0" * 16)
    session.open_file(rid).close()
    web.write(session)


def test_a_copied_disk_is_not_mounted_beside_its_original(make_node: Callable[..., Node], tmp_path: Path) -> None:
    node = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    node.mount()
    session, _, path = node.session_with_file()
    shutil.rmtree(tmp_path / "two")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    again = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    (problem,) = again.mount()
    assert isinstance(problem, VolumeUntrustedError)
    assert problem.reason == "twice-mounted"
    session.end()
    assert run_everything(again) == 1
    assert not path.exists()
    assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).exists(), "the copy is nobody's to touch"


def test_the_first_client_after_a_restart_is_let_in_before_any_pass_has_run(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node], tmp_path: Path
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    node = make_node(url=server.url, hold=10)
    session, token = node.sessions.create()
    node.advance(12)  # idle by what the server remembers; a later touch may have been lost
    server.kill()
    server.restart()
    assert node.sessions.open(token).id == session.id


def test_partitions_of_a_larger_setting_are_held_too(make_node: Callable[..., Node]) -> None:
    before = make_node(partitions=4)
    used: set[str] = set()
    while len(used) < 4:
        used.add(before.sessions.create()[0].id[:2])
    before.sweep.run_once()
    node = make_node(partitions=1)
    node.trust.watch_server()
    node.store.advance(60_000)  # the server's clock alone: a jump
    assert node.sweep.run_once().idle == 0, "nobody is ended for idleness, whatever partition it lives in"
    assert node.holds()[IDLE].reason == "clock-jumped"


@pytest.mark.parametrize("late", ["request", "reply", "meta"])
def test_a_slow_answer_is_no_jump_of_the_servers_clock(node: Node, monkeypatch: pytest.MonkeyPatch, late: str) -> None:
    really = node.store.execute
    slow = op.Meta if late == "meta" else op.Facts

    def execute(operation: op.Operation[Any]) -> Any:
        if isinstance(operation, slow) and late != "reply":
            node.advance(30)
        answer = really(operation)
        if isinstance(operation, slow) and late == "reply":
            node.advance(30)
        return answer

    node.trust.watch_server()
    with monkeypatch.context() as patch:
        patch.setattr(node.store, "execute", execute)
        node.trust.watch_server()
    node.trust.watch_server()
    assert not node.holds()
    node.store.advance(-6_000)  # the server's clock alone, and backwards
    node.trust.watch_server()
    assert node.holds()[IDLE].reason == "clock-jumped"


@pytest.mark.parametrize("step", [op.HoldIdle, op.TablePut, op.SetMeta])
def test_a_worker_that_dies_while_it_notes_a_restart_leaves_the_hold_to_the_next(
    make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch, step: type[op.Operation[Any]]
) -> None:
    node = make_node()
    node.trust.watch_server()
    node.store.execute(op.SetMeta({"run_id": "of the run before"}))
    really = node.store.execute

    def execute(operation: op.Operation[Any]) -> Any:
        if isinstance(operation, step):
            raise SystemExit
        return really(operation)

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "execute", execute)
        with pytest.raises(SystemExit):
            Trust(node.core, node.store).watch_server()
    facts = Trust(node.core, node.store).watch_server()
    assert node.holds()[IDLE].reason == "restarted"
    assert node.store.execute(op.Meta())["run_id"] == facts.run_id


def test_a_jump_that_could_not_be_noted_is_noted_by_the_next_look(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.trust.watch_server()
    node.store.advance(60_000)
    really = node.store.execute

    def execute(operation: op.Operation[Any]) -> Any:
        if isinstance(operation, op.HoldIdle):
            raise StoreUnavailableError("cut")
        return really(operation)

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "execute", execute)
        with pytest.raises(StoreUnavailableError):
            node.trust.watch_server()
    node.trust.watch_server()
    assert node.holds()[IDLE].reason == "clock-jumped"


def test_records_without_bytes_are_closed_in_partitions_of_a_larger_setting(make_node: Callable[..., Node]) -> None:
    before = make_node(partitions=4)
    before.sweep.run_once()
    files = []
    while len({session.id[:2] for session, _, _ in files}) < 4:
        files.append(before.session_with_file())
    node = make_node(partitions=1)
    for _, _, path in files:
        path.unlink()
    assert node.orphans.run_once().missing == 0
    node.advance(2)
    assert node.orphans.run_once().missing == len(files)
