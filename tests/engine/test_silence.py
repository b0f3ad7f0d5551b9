"""One look proves no death: after an outage, a failover, a step of the clock all seem silent at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from sessionsweep.engine.silence import CONFIRM, Silence
from sessionsweep.errors import StoreUnavailableError
from sessionsweep.model.ids import new_resource_id
from sessionsweep.store import operations as op
from support.nodes import Node


def beat(node: Node, process: str = "web1") -> None:
    """A web process says that it lives."""
    node.store.execute(op.TablePut("p", process, str(node.store.execute(op.Facts()).now)))


def stream(node: Node, process: str = "web1") -> str:
    """A session that has one open stream in a process; its id."""
    session, _ = node.sessions.create()
    opened = op.Register(session.id, new_resource_id(), "s", f"p.{process}", 0, "ws", live=True)
    assert node.store.execute(opened).status == "ok"
    return session.id


def test_who_speaks_again_after_an_outage_keeps_its_streams(make_node: Callable[..., Node]) -> None:
    node = make_node(idle_timeout=10_000, max_duration=0)
    beat(node)
    session_id = stream(node)
    for _ in range(3):
        node.advance(61)  # the store was away, or its clock was set, or a lagging replica was promoted
        assert node.upkeep.run_once().streams == 0
        beat(node)
        node.advance(CONFIRM)
        assert node.upkeep.run_once().streams == 0
    assert node.sessions.attach(session_id).stream_count == 1


def test_whose_node_speaks_again_keeps_what_its_own_disk_owes(make_node: Callable[..., Node], tmp_path: Path) -> None:
    pod = make_node("pod", volumes=f"pod={tmp_path}/pod?ephemeral", node_timeout=20, idle_timeout=1000)
    other = make_node("a", node_timeout=20, idle_timeout=1000)
    session, _, path = pod.session_with_file()
    pod.upkeep.run_once()
    session.end()
    other.advance(60)
    assert other.upkeep.run_once().node_gone == 0
    pod.upkeep.beat_heart()
    other.advance(CONFIRM - 1)
    assert other.upkeep.run_once().node_gone == 0
    assert pod.reclaim.run_once().deleted == 1
    assert not path.exists()


def test_a_heartbeat_in_a_time_to_come_is_judged_by_the_present_time(
    make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is stopped right after it asked what time it is."""
    node = make_node(idle_timeout=10_000, max_duration=0)
    session_id = stream(node)
    really, said = node.store.execute, []

    def stopped_before_the_table(operation: op.Operation) -> object:
        if operation == op.Table("p"):
            node.advance(100)
            beat(node)
            said.append(really(operation)["web1"])
        return really(operation)

    monkeypatch.setattr(node.store, "execute", stopped_before_the_table)
    node.upkeep.run_once()
    monkeypatch.undo()
    assert node.store.execute(op.Table("p"))["web1"] == said[0], "its own word stays"
    assert node.sessions.attach(session_id).stream_count == 1


def test_a_session_that_cannot_be_read_keeps_no_other_stream_of_a_dead_process(make_node: Callable[..., Node]) -> None:
    node = make_node(idle_timeout=10_000, max_duration=0)
    damaged, sound = stream(node), stream(node)
    key = node.store.keys.session(damaged)
    raw = node.store._send(["GET", key], "", False)
    node.store._send(["SET", key, b"\x02" + raw[1:]], "", False)  # a newer release's
    node.upkeep.run_once()
    node.advance(CONFIRM)
    result = node.upkeep.run_once()
    assert result.streams == 1
    assert node.sessions.attach(sound).stream_count == 0
    node.store._send(["SET", key, raw], "", False)
    node.advance(CONFIRM)
    assert node.upkeep.run_once().streams == 1


def test_silence_is_counted_anew_when_the_store_was_away() -> None:
    silence = Silence(itertools.count(0, CONFIRM).__next__)
    assert silence.lasting("p", {"a": "1", "b": "1"}) == set()
    assert silence.lasting("p", {"a": "1", "b": "2"}) == {"a"}, "b has said something"
    silence.forget()
    assert silence.lasting("p", {"a": "1"}) == set()
    assert silence.lasting("vols", {"a": "1"}) == set(), "another kind"
    assert silence.lasting("p", {"a": "1"}) == {"a"}


@pytest.mark.parametrize("by", ["run_once", "tidy", "beat_heart"])
def test_an_outage_forgets_who_was_silent(
    make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    node = make_node(idle_timeout=10_000, max_duration=0)
    stream(node)
    node.upkeep.run_once()
    node.advance(CONFIRM)

    def away(_: op.Operation) -> object:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "execute", away)
        with pytest.raises(StoreUnavailableError):
            getattr(node.upkeep, by)()
    assert node.upkeep.run_once().streams == 0
    node.advance(CONFIRM)
    assert node.upkeep.run_once().streams == 1
