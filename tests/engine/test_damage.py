"""Rows, messages and names that nobody of us would write: one of them never stops what is done for all others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from sessionsweep.engine.silence import CONFIRM
from sessionsweep.engine.trust import Permit
from sessionsweep.errors import HeldError
from sessionsweep.model.holds import ALL, IDLE, Hold
from sessionsweep.operator import holds, naming, nodes, volumes
from sessionsweep.operator.queries import overview
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from support.books import members
from support.nodes import Node

NEWER = json.dumps(
    {"scope": "all", "reason": "r", "text": "t", "since": 1, "node": "", "until": 0, "since_then": "a newer field"}
)
GARBAGE = [
    '{"cut', "[]", "7", b"\xff\xfe", '{"at": "x"}', "", '{"since": 1e999, "at": NaN}',
    pytest.param("[" * 200_000, id="deep"),
    pytest.param("9" * 5000, id="long"),
    pytest.param('{"at":' * 200_000, id="deep object"),
]  # fmt: skip


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """The server as anybody reaches it who may write to it."""
    with redis.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
def damage(client: redis.Redis, namespace: str) -> Callable[[str, str, str | bytes], None]:
    """Writes a row of a table past the library."""

    def write(table: str, row: str, value: str | bytes) -> None:
        client.hset(f"{namespace}:{{g}}:{table}", row, value)

    return write


@pytest.mark.parametrize("row", GARBAGE)
@pytest.mark.parametrize("table", ["n", "vols", "p", "mend"])
def test_upkeep_goes_on_past_a_damaged_row(
    node: Node, damage: Callable[[str, str, str | bytes], None], table: str, row: str | bytes
) -> None:
    session, _, _ = node.session_with_file()
    node.upkeep.run_once()
    damage(table, "00", row)
    # what upkeep does last: it mends a session whose place in the wheel was lost
    node.store.execute(op.SweepStep("00", 1, 0, 0, 25, 0))
    redis.Redis.from_url(node.store.url).delete(f"{node.settings.namespace}:{{00}}:w")
    # a slice of all the server's keys at a time, other tests' too; twice around: a cursor may stand behind the session
    mended, rounds = 0, 0
    while rounds < 2:
        mended += node.upkeep.run_once().mended
        rounds += node.store.execute(op.Table("mend")).get("00") == "0"
    assert mended == 1
    assert node.sessions.attach(session.id)


def test_an_unreadable_node_counts_as_alive_for_a_while(
    make_node: Callable[..., Node], tmp_path: Path, damage: Callable[[str, str, str | bytes], None]
) -> None:
    temporary = make_node("a", volumes=f"a={tmp_path / 'a'}?ephemeral", node_timeout=20)
    other = make_node("b", node_timeout=20)
    session, _, _ = temporary.session_with_file()
    temporary.upkeep.run_once()
    session.end()
    damage("n", "a", '{"cut')
    assert other.upkeep.run_once().node_gone == 0
    assert other.upkeep.run_once().node_gone == 0
    other.advance(21)
    assert other.upkeep.run_once().node_gone == 0
    other.advance(CONFIRM)
    assert other.upkeep.run_once().node_gone == 1


def test_who_lives_in_a_time_to_come_is_not_alive_for_ever(
    make_node: Callable[..., Node], tmp_path: Path, damage: Callable[[str, str, str | bytes], None]
) -> None:
    temporary = make_node("a", volumes=f"a={tmp_path / 'a'}?ephemeral", node_timeout=20, idle_timeout=1000)
    other = make_node("b", node_timeout=20, idle_timeout=1000)
    session, _, _ = temporary.session_with_file()
    listener, _ = temporary.sessions.create()
    temporary.upkeep.run_once()
    session.end()
    volume = temporary.core.mounts.here()[0].id
    damage("n", "a", json.dumps({"at": 9 * 10**14, "volumes": {volume: "a"}, "queues": []}))
    damage("vols", volume, json.dumps({"at": 9 * 10**14, "name": "a", "ephemeral": True}))
    damage("p", "web1", str(9 * 10**14))
    other.store.execute(op.Register(listener.id, "0" * 16, "s", "p.web1", 0, "ws", live=True))
    first = other.upkeep.run_once()
    assert (first.node_gone, first.streams) == (0, 0), "they have the time to say that they live"
    other.advance(61)
    other.upkeep.run_once()
    other.advance(CONFIRM)
    later = other.upkeep.run_once()
    assert (later.node_gone, later.streams) == (1, 1)


@pytest.mark.parametrize("row", [NEWER, *GARBAGE])
def test_a_hold_that_cannot_be_read_holds_and_can_be_lifted(
    node: Node, damage: Callable[[str, str, str | bytes], None], row: str | bytes
) -> None:
    session, _, path = node.session_with_file()
    session.end()
    damage("holds", ALL, row)
    node.upkeep.run_once()
    assert node.reclaim.run_once().held
    assert node.orphans.run_once().held
    assert path.exists()
    (seen,), _ = run(holds.listed(), node.store)
    assert (seen.scope, seen.until) == (ALL, 0)
    assert "holds lift all" in seen.text or seen.text == "t"
    assert [hold.scope for hold in run(overview(node.core), node.store).holds] == [ALL]
    run(holds.lift(node.core, ALL), node.store)
    assert node.reclaim.run_once().deleted == 1


def test_an_unreadable_hold_on_idle_ends_keeps_orphans_until_it_is_lifted(
    node: Node, damage: Callable[[str, str, str | bytes], None]
) -> None:
    node.session_with_file()
    damage("holds", IDLE, '{"cut')
    assert node.orphans.run_once().held
    assert node.orphans.run_once().held, "a look does not lift it"
    run(holds.lift(node.core, IDLE), node.store)
    assert not node.orphans.run_once().held


def test_a_hold_on_idle_ends_that_only_a_partition_knows_is_shown_and_runs_out(node: Node, client: redis.Redis) -> None:
    session, _ = node.sessions.create()
    node.sweep.run_once()
    client.hset(node.store.keys.held("00"), "until", 9 * 10**14)
    node.advance(11)
    assert node.sweep.run_once().idle == 0
    ((seen,), now) = run(holds.listed(), node.store)
    assert seen.scope == IDLE
    assert 0 < seen.until - now <= node.core.hold
    node.advance(22)
    assert node.sweep.run_once().idle == 1
    assert run(holds.listed(), node.store)[0] == []
    assert node.sessions.get(session.id) is None


@pytest.mark.parametrize("due", ["garbage", "", "-5", "0x7fffffffffff", "1e300", "nan", "inf", b"\xff"])
def test_what_an_ended_session_left_goes_though_its_tombstone_says_no_time(
    node: Node, client: redis.Redis, due: str | bytes
) -> None:
    session, _, path = node.session_with_file()
    session.end()
    client.hset(node.store.keys.tombstone(session.id), "due", due)
    assert node.reclaim.run_once().deleted == 1
    assert not path.exists()


def test_a_hold_reads_back_as_it_was_written() -> None:
    hold = Hold("volume:x", "r", "t", 5, "a", 9)
    assert Hold.read("volume:x", hold.encode()) == hold


@pytest.mark.parametrize("row", [*GARBAGE, json.dumps({"cursor": "", "newer": 1})])
def test_a_damaged_cursor_begins_the_walk_anew(
    node: Node, damage: Callable[[str, str, str | bytes], None], row: str | bytes
) -> None:
    node.session_with_file()
    damage("scans", node.core.mounts.here()[0].id, row)
    assert node.orphans.run_once().files == 1


@pytest.mark.parametrize("cursor", ["a//b", "a/b/c/d", "\u00e9", 5, None, ["a"]])
def test_a_cursor_that_is_none_begins_the_walk_anew_and_proves_nothing(
    make_node: Callable[..., Node], tmp_path: Path, cursor: object
) -> None:
    node = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    session, _, path = node.session_with_file()
    node.write(session, volume="two")
    for key in ("session", "resources"):
        node.store._send(["DEL", getattr(node.store.keys, key)(session.id)], "", False)
    assert node.orphans.run_once().files == 2
    node.advance(2)
    volume = node.core.mounts.here()[0].id
    row = json.loads(node.store.execute(op.Table("scans"))[volume])
    node.store.execute(op.TablePut("scans", volume, json.dumps(row | {"cursor": cursor})))
    result = node.orphans.run_once()
    assert (result.files, result.destroyed) == (2, 1), "only what a whole walk was held against the cap before"
    assert path.exists()
    assert node.orphans.run_once().destroyed == 1, "the next walk goes on as ever"


def test_a_scan_whose_flags_are_none_has_proved_nothing(node: Node) -> None:
    session, _, path = node.session_with_file()
    for key in ("session", "resources"):
        node.store._send(["DEL", getattr(node.store.keys, key)(session.id)], "", False)
    node.orphans.run_once()
    node.advance(2)
    volume = node.core.mounts.here()[0].id
    row = json.loads(node.store.execute(op.Table("scans"))[volume])
    node.store.execute(op.TablePut("scans", volume, json.dumps(row | {"checked": "false"})))
    assert node.orphans.run_once().destroyed == 0
    assert path.exists()


def test_a_disk_that_goes_away_in_a_walk_stops_that_volume_alone(
    make_node: Callable[..., Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    session, _, _ = node.session_with_file()
    node.write(session, volume="two")
    really = node.store.execute

    def execute(operation: op.Operation[Any]) -> Any:
        if operation == op.Table("scans") and (tmp_path / "one").exists():
            (tmp_path / "one").rename(tmp_path / "elsewhere")
        return really(operation)

    monkeypatch.setattr(node.store, "execute", execute)
    result = node.orphans.run_once()
    assert result.files == 1, "the walk of the other goes on"
    assert len(result.held) == 1


def test_a_disk_that_goes_away_in_a_lease_stops_that_volume_alone(
    make_node: Callable[..., Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    session, _, _ = node.session_with_file()
    _, on_two = node.write(session, volume="two")
    session.end()
    really = node.trust.still

    def still(permit: Permit) -> bool:
        answer = really(permit)
        if (tmp_path / "one").exists():
            (tmp_path / "one").rename(tmp_path / "elsewhere")
        return answer

    monkeypatch.setattr(node.trust, "still", still)
    result = node.reclaim.run_once()
    assert (result.deleted, len(result.held)) == (1, 1)
    assert not on_two.exists()


@pytest.mark.parametrize("entry", [b"garbage", b"", b"user\0", b"user\0x\0\xff\0", b"user\0x\0a\0b\0", b"x" * 70_000])
def test_an_unreadable_entry_of_the_outbox_does_not_hold_up_the_others(
    node: Node, client: redis.Redis, namespace: str, entry: bytes
) -> None:
    session, _ = node.sessions.create(user="ana")
    client.rpush(f"{namespace}:{{00}}:o", entry)
    assert session.end(), "a log-out answers"
    node.sweep.run_once()
    assert node.store.execute(op.OutboxRead("00")) == ()
    assert members(node.store.execute, "ana") == ()


def test_what_strangers_publish_does_not_stop_a_worker_that_listens(
    node: Node, client: redis.Redis, namespace: str
) -> None:
    nudges = node.store.nudges(["v.x"], 5.0)
    channel = f"{namespace}:nudge:v.x"
    heard = []
    # published again with each look, until the subscription stands
    for nudge in nudges:
        heard.append(nudge)
        if heard[-1] == "v.x":
            break
        client.publish(channel, b"\xff\xfe")
        client.publish(channel, b"v.x")
        assert len(heard) < 10
    assert heard[-1] == "v.x"


def test_a_hold_s_words_are_words_and_its_scope_is_where_it_stands() -> None:
    written = json.loads(Hold("volume:x", "r", "t", 5).encode())
    assert Hold.read("volume:y", json.dumps(written)).scope == "volume:y", "by which it is lifted"
    for strange in ({"reason": ["r"]}, {"text": 5}, {"since": -1}, {"until": 10**400}, {"until": True}):
        assert Hold.read("volume:x", json.dumps(written | strange)).reason == "unreadable"


@pytest.mark.parametrize("row", GARBAGE)
def test_operators_see_past_damaged_rows(
    node: Node, damage: Callable[[str, str, str | bytes], None], row: str | bytes
) -> None:
    node.session_with_file()
    node.upkeep.run_once()
    volume = node.core.mounts.here()[0].id
    for table, name in (("holds", "all"), ("n", "b"), ("vols", "0" * 16), ("passes", f"reclaim {volume}")):
        damage(table, name, row)
    found = run(nodes.listed(node.core), node.store)
    assert [(one.name, one.readable) for one in found] == [("a", True), ("b", False)]
    assert [hold.reason for hold in run(holds.listed(), node.store)[0]] == ["unreadable"]
    assert naming.volume_name(node.store.execute(op.Table("vols"))["0" * 16]) == ""
    assert run(volumes.listed(node.core), node.store)


def test_a_held_volume_says_so(node: Node, damage: Callable[[str, str, str | bytes], None]) -> None:
    node.session_with_file()
    damage("holds", ALL, b"\xff")
    with pytest.raises(HeldError, match="holds lift all"):
        node.trust.permit(node.core.mounts.here()[0])
