"""The passes over a real store and real volumes: sweep, reclaim, dead letters, locks, leases, observe mode."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sessionsweep.engine.silence import CONFIRM
from sessionsweep.model.books import imbalance
from sessionsweep.store import operations as op
from support.nodes import Node


def balance(node: Node) -> int:
    """The books' difference; 0 unless something was lost."""
    return imbalance(node.store.execute(op.Counters("00")))


def test_each_server_deletes_what_lies_on_it(make_node: Callable[..., Node]) -> None:
    a, b = make_node("a"), make_node("b")
    session, _, on_a = a.session_with_file()
    there = b.sessions.attach(session.id)
    _, on_b = b.write(there)
    session.end()
    assert a.reclaim.run_once().deleted == 1
    assert (on_a.exists(), on_b.exists()) == (False, True)
    assert b.reclaim.run_once().deleted == 1
    assert not on_b.exists()
    assert a.store.execute(op.PeekSession(session.id)).tombstone is not None, "a receipt remains for a while"
    assert balance(a) == 0


def test_grace_is_counted_from_the_moment_of_death(node: Node) -> None:
    # time stands still but for `advance`: a loaded machine must not live through the grace between two lines
    node.store.freeze(node.store.execute(op.Facts()).now)
    _, _, path = node.session_with_file()
    node.advance(10.5)
    assert node.sweep.run_once().idle == 1
    assert node.reclaim.run_once().deleted == 0
    assert path.exists()
    node.advance(0.6)
    assert node.reclaim.run_once().deleted == 1


def test_a_keep_alive_defers_the_idle_end_but_not_a_log_out(node: Node) -> None:
    session, _, path = node.session_with_file()
    with session.keep_alive(max="1m"):
        node.advance(30)
        node.sweep.run_once()
        assert node.sessions.get(session.id) is not None
        session.end()
        assert node.sessions.get(session.id) is None
        node.reclaim.run_once()
        assert path.exists(), "the job still reads it"
    assert node.reclaim.run_once().deleted == 1


def test_a_keep_alive_never_outlasts_the_maximum(node: Node) -> None:
    session, _, path = node.session_with_file()
    with session.keep_alive(max="10m"):
        node.advance(101)
        assert node.sweep.run_once().expired == 1
        node.advance(2)
        node.reclaim.run_once()
        assert path.exists()
    node.reclaim.run_once()
    assert not path.exists()


def test_a_killed_jobs_keep_alive_runs_out(node: Node) -> None:
    session, _, path = node.session_with_file()
    node.store.execute(op.Defer(session.id, "a job that was killed", 60_000))
    node.advance(59)
    assert node.sweep.run_once().idle == 0
    node.advance(3)
    assert node.sweep.run_once().idle == 1
    node.advance(2)
    assert node.reclaim.run_once().deleted == 1
    assert not path.exists()


def test_an_abandoned_intent_is_cleaned_up(node: Node) -> None:
    session, _ = node.sessions.create()
    pending = session.new_file()
    pending.__enter__()
    pending.write(b"x")
    path = pending.path
    pending.file.let_go()  # as if its process was killed: the lock goes with it, the bytes stay
    for _ in range(115):
        node.advance(8)
        node.store.execute(op.ExtendSession(session.id, max=10_000_000))
    assert node.sweep.run_once().intents == 1
    node.advance(1)
    assert node.reclaim.run_once().deleted == 1
    assert not path.exists()
    assert balance(node) == 0


def test_a_locked_file_is_spared_until_it_is_released(node: Node) -> None:
    session, _, path = node.session_with_file()
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        session.end()
        result = node.reclaim.run_once()
        assert (result.busy, result.failed, path.exists()) == (1, 0, True)
        for _ in range(20):
            node.advance(1.1)
            assert node.reclaim.run_once().dead == 0, "waiting uses no try"
    node.advance(1.1)
    assert node.reclaim.run_once().deleted == 1


@pytest.fixture
def stubborn(node: Node, tmp_path: Path) -> Path:
    """A folder where a file should be: nothing of ours deletes it."""
    session, _, path = node.session_with_file()
    path.unlink()
    path.mkdir()
    node.write(session)
    session.end()
    return path


def test_what_cannot_be_deleted_blocks_nothing_and_becomes_a_dead_letter(node: Node, stubborn: Path) -> None:
    result = node.reclaim.run_once()
    assert (result.deleted, result.failed) == (1, 1)
    for _ in range(node.settings.reclaim_tries):
        node.advance(4000)
        result = node.reclaim.run_once()
    (letter,) = node.store.execute(op.DeadLetters("00"))
    assert letter.record.error
    assert stubborn.exists()
    assert balance(node) == 0
    stubborn.rmdir()
    stubborn.write_bytes(b"back to normal")
    assert node.store.execute(op.RetryDead(letter.session_id, letter.record.resource_id))
    assert node.reclaim.run_once().deleted == 1
    assert balance(node) == 0


def test_a_file_that_is_gone_already_closes_the_debt(node: Node) -> None:
    session, _, path = node.session_with_file()
    path.unlink()
    session.end()
    assert node.reclaim.run_once().gone == 1
    assert balance(node) == 0


def test_observe_mode_destroys_nothing_and_says_what_it_would(make_node: Callable[..., Node]) -> None:
    node = make_node(mode="observe")
    _, _, path = node.session_with_file()
    other, _, logged_out = node.session_with_file()
    other.end()
    node.advance(12)
    assert node.sweep.run_once().would_end == 1
    assert node.reclaim.run_once().would_delete == 1
    assert path.exists()
    assert logged_out.exists()


def test_a_dead_workers_batch_is_finished_after_its_lease(make_node: Callable[..., Node]) -> None:
    node = make_node(lease=5)
    session, _, path = node.session_with_file()
    session.end()
    location = f"v.{node.core.mounts.here()[0].id}"
    taken = node.store.execute(op.Lease("00", location, "killed", 5000))
    assert len(taken.entries) == 1
    assert node.reclaim.run_once().deleted == 0
    assert path.exists()
    node.advance(5.1)
    assert node.reclaim.run_once().deleted == 1


def test_a_worker_paused_past_its_lease_stops(make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node(lease=5)
    sessions = [node.session_with_file() for _ in range(3)]
    for session, _, _ in sessions:
        session.end()
    execute = node.store.execute

    def paused_after_leasing(operation: op.Operation[object]) -> object:
        answer = execute(operation)
        if isinstance(operation, op.Lease) and answer.entries:  # type: ignore[attr-defined]
            deadline = time.monotonic() + 7
            key = node.store.keys.batch("00", operation.location, operation.lease_id)
            node.store._send(["PEXPIRE", key, 1], "", False)  # the lease's time runs out in the server itself
            while execute(op.LeaseHeld("00", operation.location, operation.lease_id)):
                assert time.monotonic() < deadline
        return answer

    monkeypatch.setattr(node.store, "execute", paused_after_leasing)
    result = node.reclaim.run_once()
    assert (result.deleted, result.more) == (0, True)
    assert all(path.exists() for _, _, path in sessions)


def test_the_same_attempt_told_twice_counts_once(node: Node) -> None:
    from sessionsweep.model.states import Outcome

    session, rid, _ = node.session_with_file()
    session.end()
    settle = op.Settle(session.id, f"v.{node.core.mounts.here()[0].id}", (op.Attempt(rid, Outcome.DELETED),))
    assert node.store.execute(settle).counted == 1
    assert node.store.execute(settle).counted == 0
    assert balance(node) == 0


def test_streams_of_a_dead_process_are_closed_as_gone(node: Node) -> None:
    session, _ = node.sessions.create()
    stream = op.Register(session.id, "0" * 16, "s", "p.web1", 0, "ws", live=True)
    assert node.store.execute(stream).status == "ok"
    now = node.store.execute(op.Facts()).now
    node.store.execute(op.TablePut("p", "web1", str(now)))
    assert node.upkeep.run_once().streams == 0
    node.advance(9)
    node.store.execute(op.ExtendSession(session.id, idle=100_000))
    node.advance(52)
    assert node.upkeep.run_once().streams == 0, "it may have had nobody to speak to"
    node.advance(CONFIRM)
    assert node.upkeep.run_once().streams == 1
    assert node.sessions.attach(session.id).stream_count == 0
    assert balance(node) == 0


def test_an_ephemeral_volumes_debt_closes_with_its_node(make_node: Callable[..., Node], tmp_path: Path) -> None:
    pod = make_node("pod", volumes=f"pod={tmp_path}/pod?ephemeral")
    other = make_node("a")
    session, _, _ = pod.session_with_file()
    session.end()
    assert other.upkeep.run_once().node_gone == 0, "its node has not yet had the time to say that it lives"
    pod.upkeep.run_once()
    assert other.upkeep.run_once().node_gone == 0
    other.advance(pod.settings.node_timeout + 1)
    assert other.upkeep.run_once().node_gone == 0, "it may have had nobody to speak to"
    other.advance(CONFIRM)
    assert other.upkeep.run_once().node_gone == 1
    assert balance(other) == 0


def test_what_lost_writes_broke_is_mended(node: Node) -> None:
    session, _, path = node.session_with_file()
    unfiled, _ = node.sessions.create()
    keys = node.store.keys
    node.store._send(["DEL", keys.session(session.id)], "", False)  # the record is lost, its resources are not
    node.store._send(["DEL", keys.wheel("00")], "", False)
    for slot in node.store._send(["KEYS", f"{keys.wheel('00')}:*"], "", False):
        node.store._send(["DEL", slot], "", False)
    mended = node.upkeep.run_once().mended
    while node.store.execute(op.Table("mend"))["00"] != "0":  # a slice of all keys at a time
        mended += node.upkeep.run_once().mended
    assert mended == 2
    node.advance(1.1)
    assert node.reclaim.run_once().deleted == 1
    assert not path.exists()
    node.advance(10)
    assert node.sweep.run_once().idle == 1
    assert node.sessions.get(unfiled.id) is None


@pytest.mark.parametrize("newer", [False, True])
def test_one_record_that_cannot_be_read_keeps_no_other_from_its_sweep(
    make_node: Callable[..., Node], caplog: pytest.LogCaptureFixture, newer: bool
) -> None:
    node = make_node(partitions=2)
    victims = []
    while len({session.id[:2] for session in victims}) < 2 or len(victims) < 6:
        victims.append(node.sessions.create()[0])
    broken = next(session for session in victims if session.id.startswith("00"))
    key = node.store.keys.session(broken.id)
    node.store._send(["SETRANGE", key, 0, b"\x02"] if newer else ["SET", key, b"\x01short"], "", False)
    node.advance(11)
    node.sweep.run_once()
    left = {s.id for s in victims if node.store._send(["EXISTS", node.store.keys.session(s.id)], "", False)}
    if newer:  # a newer sweeper goes on from there
        assert broken.id in left
        assert not [one for one in left if one.startswith("01")]
        assert "newer release's sweep: upgrade" in caplog.text
    else:
        assert left == {broken.id}
        for _ in range(1000):
            if node.upkeep.run_once().damaged:
                break
        assert f"r:{broken.id}" in caplog.text


def test_a_sweep_that_is_a_dry_run_is_not_the_last_sweep(node: Node) -> None:
    node.sweep.run_once(renew=False)
    assert "last_sweep" not in node.store.execute(op.Meta()), "workers would not notice that none runs"
    node.sweep.run_once()
    assert int(node.store.execute(op.Meta())["last_sweep"]) > 0


def test_a_stopped_reclaim_begins_no_other_batch(make_node: Callable[..., Node], tmp_path: Path) -> None:
    """One more batch in each partition of each volume is a deletion that outlasts the stop by far."""
    node = make_node(partitions=2, volumes=f"a={tmp_path}/a,b={tmp_path}/b")
    sessions = [node.sessions.create()[0]]
    while len({session.id[:2] for session in sessions}) < 2:
        sessions.append(node.sessions.create()[0])
    for session in sessions:
        node.write(session, volume="a")
        node.write(session, volume="b")
        session.end()
    stop = threading.Event()
    stop.set()
    result = node.reclaim.run_once(stop=stop)
    assert (result.deleted, result.more) == (0, True)
    assert node.reclaim.run_once().deleted == 2 * len(sessions)


def test_a_reclaim_that_is_stopped_in_a_batch_goes_on_to_no_other_partition(
    make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(partitions=2)
    sessions = [node.session_with_file()[0]]
    while len({session.id[:2] for session in sessions}) < 2:
        sessions.append(node.session_with_file()[0])
    for session in sessions:
        session.end()
    stop, really = threading.Event(), node.store.execute

    def stopped_by_its_first_lease(operation: op.Operation[object]) -> object:
        answer = really(operation)
        if isinstance(operation, op.Lease):
            stop.set()
        return answer

    monkeypatch.setattr(node.store, "execute", stopped_by_its_first_lease)
    result = node.reclaim.run_once(stop=stop)
    first = sum(session.id.startswith("00") for session in sessions)
    assert (result.deleted, result.more) == (first, True), "what was begun is done, and no more"
