"""Promises 3, 6 and 24: killed or stopped at every single step boundary, of each kind of process."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from faults.world import Nursery, World
from sessionsweep import InvalidTokenError
from sessionsweep.store import operations as op
from sessionsweep_workers import names
from support.processes import wait_until

pytestmark = pytest.mark.faults

#: Time is the test's here: deadlines that never pass on their own.
SLOW = {
    "idle_timeout": 1000,
    "max_duration": 0,
    "grace_period": 1,
    "cleanup_interval": 1,
    "orphan_interval": 1000,
    "lease": 60,
    "hold": 10,
    "intent_timeout": 30,
}
CREATING = ("new_file", "adopt", "temp_file", "failing_file", "keep_alive", "tracked")
LEAVING = ("promote", "delete", "pin", "end", "rotate", "save")


@pytest.fixture
def world(folder: Path, redis_url: str, namespace: str) -> Iterator[World]:
    """A deployment whose time the test moves."""
    world = World(folder, redis_url, namespace, **SLOW)
    yield world
    world.close()


def kill_at_every_step(world: World, nursery: Nursery, seed: str, action: str, **about: object) -> list[str]:
    """One child per boundary, until one comes through; the names of the boundaries."""
    at = 0
    while True:
        at += 1
        order = world.order(
            "step", "a", f"{seed} {at}", action=action, at=at, signal=signal.SIGKILL, test_clock=True, **about
        )
        status = nursery.reap(nursery.start(**order))
        assert world.facts("wrong") == []
        if status == 0:
            break
        assert status == -signal.SIGKILL, f"step {at} of {action}: status {status}"
        assert at < 200, action
        world.nodes["a"].sweep.run_once()  # places that the dead ones owed are given back, or each had more to do
    passed = [str(fact["name"]) for fact in world.facts("boundary")]
    assert len(passed) == at - 1
    return passed


def no_file_is_untracked(world: World) -> None:
    """Whatever lies on a volume has a record: the intent came before the first byte."""
    for path in world.files():
        owned = world.nodes["a"].store.execute(op.Owned(path.parent.name, (path.name,)))
        assert any(owned.present), f"{path} lies there and no record names it"


@pytest.mark.parametrize("action", CREATING)
@pytest.mark.schedules(0.1)
def test_a_death_at_any_step_of_creating_leaves_no_untracked_byte(
    seed: str, action: str, world: World, nursery: Nursery
) -> None:
    passed = kill_at_every_step(world, nursery, seed, action)
    assert "before Register" in passed
    assert "after Register" in passed
    no_file_is_untracked(world)
    world.settle(advance=500)
    world.judge()


@pytest.mark.parametrize("action", LEAVING)
@pytest.mark.schedules(0.1)
def test_a_death_at_any_step_of_what_a_session_does_later_loses_nothing(
    seed: str, action: str, world: World, nursery: Nursery
) -> None:
    passed = kill_at_every_step(world, nursery, seed, action, files=2)
    assert len(passed) > 1
    no_file_is_untracked(world)
    world.settle(advance=500)
    world.judge()


@pytest.mark.parametrize("action", ["async_file", "async_end"])
@pytest.mark.schedules(0.1)
def test_a_death_at_any_step_of_an_asynchronous_node_loses_nothing(
    seed: str, action: str, world: World, nursery: Nursery
) -> None:
    """Promises 3 and 24: the asynchronous side stops between the same steps."""
    passed = kill_at_every_step(world, nursery, seed, action)
    assert {"async_file": "before Register", "async_end": "before EndSession"}[action] in passed
    no_file_is_untracked(world)
    world.settle(advance=500)
    world.judge()


@pytest.mark.schedules(0.1)
def test_a_death_at_any_step_of_ending_all_of_a_users_sessions_is_made_good_by_a_repeat(
    seed: str, world: World, nursery: Nursery
) -> None:
    """Promise 24: what an operator asked for and didn't see done can be asked for again, from the beginning."""
    assert len(kill_at_every_step(world, nursery, seed, "end_user")) > 3
    for fact in world.facts("mallory"):
        with pytest.raises(InvalidTokenError):
            world.nodes["b"].sessions.open(fact["token"])
    world.settle(advance=500)
    world.judge()


@pytest.mark.schedules(0.1)
def test_a_forwarder_that_dies_at_any_step_leaves_no_event_untold(seed: str, world: World, nursery: Nursery) -> None:
    """Promise 24: the next one tells what the dead one may not have told."""
    at = 0
    while True:
        at += 1
        world.expire_leases()
        order = world.order(
            "step", "a", f"{seed} {at}", action="forward", at=at, signal=signal.SIGKILL, test_clock=True
        )
        status = nursery.reap(nursery.start(**order))
        assert world.facts("wrong") == []
        if status == 0:
            break
    assert at > 4
    told = {fact["id"] for fact in world.facts("told")}
    with redis.Redis.from_url(world.url, decode_responses=True) as client:
        for key in client.scan_iter(f"{world.namespace}:*:ev"):
            partition = key.split(":")[1].strip("{}")
            untold = {f"{partition}:{place}" for place, _ in client.xrange(key)} - told
            assert not untold
    world.settle(advance=500)
    world.judge()


@pytest.mark.schedules(0.1)
def test_a_beat_that_dies_at_any_step_sends_no_slot_twice_and_the_next_goes_on(
    seed: str, world: World, nursery: Nursery
) -> None:
    """Promises 13 and 24: a slot is sent once or skipped; the successor sends the next."""
    at = 0
    while True:
        at += 1
        order = world.order("step", "a", f"{seed} {at}", action="beat", at=at, signal=signal.SIGKILL)
        order["settings"] |= {"cleanup_interval": 0.2, "orphan_interval": 0.2}
        if nursery.reap(nursery.start(**order)) == 0:
            break
    assert world.facts("wrong") == []
    assert at > 3
    with redis.Redis.from_url(world.url) as client:
        rows: Any = client.lrange(f"{world.namespace}:celery:{names.QUEUE}", 0, -1)
    assert rows, "the one that nobody killed has sent"
    sent = []
    for row in rows:
        message = json.loads(row)
        arguments = json.loads(base64.b64decode(message["body"]))[1]
        sent.append((message["headers"]["task"], arguments["slot"]))
    assert len(sent) == len(set(sent)), sent


def owe(world: World, dice: random.Random, sessions: int = 4) -> None:
    """Ended sessions with files, a session that will be idle, an abandoned intent, a true orphan."""
    node = world.nodes["a"]
    for _ in range(sessions):
        session, _, _ = node.session_with_file(dice.randrange(1, 5000))
        for _ in range(dice.randrange(3)):
            node.write(session, volume=dice.choice(["a", "shared"]))
        session.end()
    session, _, path = node.session_with_file()
    pending = session.new_file()
    pending.__enter__()
    pending.write(b"begun and never finished")
    pending.file.let_go()
    orphan = session.id[:4] + "0" * 16
    stray = path.parents[2] / orphan[2:4] / orphan / path.name
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"nobody's")


@pytest.mark.parametrize("action", ["sweep", "reclaim", "orphans", "upkeep"])
@pytest.mark.schedules(0.1)
def test_a_worker_that_dies_at_any_step_of_a_pass_is_replaced_by_the_next(
    seed: str, action: str, world: World, nursery: Nursery
) -> None:
    dice = random.Random(seed)
    node = world.nodes["a"]
    node.orphans.run_once()  # a whole walk must have been seen before anything may go
    at, killed = 0, 0
    while at < 40:  # each round may have more to do than the one before
        at += dice.choice([1, 2])
        owe(world, dice, sessions=1)
        if action == "sweep":
            world.advance(1001)
        if action == "orphans":
            node.orphans.run_once()
        world.advance(61)  # the lease of the one that died before
        _expire_leases(world)
        order = world.order("step", "a", seed, action=action, at=at, signal=signal.SIGKILL, test_clock=True)
        status = nursery.reap(nursery.start(**order))
        if status == 0:
            break
        assert status == -signal.SIGKILL, status
        killed += 1
    assert killed > 3
    _expire_leases(world)
    world.settle(advance=500)
    world.judge()


@pytest.mark.parametrize("action", ["sweep", "reclaim", "orphans"])
@pytest.mark.schedules(0.1)
def test_a_worker_stopped_at_any_step_past_its_lease_harms_nobody(
    seed: str, action: str, world: World, nursery: Nursery
) -> None:
    dice = random.Random(seed)
    a, b = world.nodes["a"], world.nodes["b"]
    a.orphans.run_once()
    at = 0
    while True:
        at += dice.choice([1, 2, 3])
        owe(world, dice, sessions=2)
        world.advance(61)
        kept, token = b.sessions.create()
        rid, path = b.write(kept, volume="shared")
        pid = start_and_stop(world, nursery, seed, action=action, at=at)
        if pid:
            # longer than its lease and than every timeout; meanwhile others do the work, and clients come and go
            world.advance(400)
            _expire_leases(world)
            b.sessions.open(token)
            world.pass_once()
            b.write(kept, volume="shared")
            os.kill(pid, signal.SIGCONT)
            assert nursery.reap(pid) == 0
        assert world.facts("wrong") == []
        assert set(world.holds()) <= {"idle"}, "a pause is no roll-back"
        assert path.exists(), "a live session's file"
        with b.sessions.open(token).open_file(rid) as opened:
            assert opened.read() == b"x" * 100
        kept.end()
        if not pid or at > 40:
            break
    assert at > 3
    world.settle(advance=500)
    world.judge()


def start_and_stop(world: World, nursery: Nursery, seed: str, **about: object) -> int:
    """Starts a pass in a child that stops itself (SIGSTOP); its pid when it has, 0 when it came through."""
    order = world.order("step", "a", seed, signal=signal.SIGSTOP, test_clock=True, **about)
    done, stopped = len(world.facts("done")), len(world.facts("boundary"))
    pid = nursery.start(**order)
    wait_until(lambda: len(world.facts("done")) > done or len(world.facts("boundary")) > stopped)
    if len(world.facts("done")) > done:
        assert nursery.reap(pid) == 0
        return 0
    wait_until(lambda: _is_stopped(pid))
    return pid


@pytest.mark.parametrize("only", ["after Meta", "after Table"])
@pytest.mark.schedules(0.1)
def test_a_worker_paused_while_it_compares_time_marks_sees_no_roll_back(
    seed: str, only: str, world: World, nursery: Nursery
) -> None:
    """The volume's mark is read first; the store's lies in a table since each volume has one of its own."""
    world.pass_once()
    for at in range(1, 20):
        pid = start_and_stop(world, nursery, seed, action="upkeep", at=at, only=only)
        if not pid:
            break
        world.advance(400)
        world.pass_once()
        os.kill(pid, signal.SIGCONT)
        assert nursery.reap(pid) == 0
        assert set(world.holds()) <= {"idle"}, "another worker raised the mark meanwhile: the store wasn't rolled back"
    assert at > 4


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _expire_leases(world: World) -> None:
    """Leases run out in the server itself, which the tests' clock doesn't move."""
    store = world.nodes["a"].store
    for pattern in ("{00}:b:*", "{g}:l:*"):
        for key in store._send(["KEYS", f"{world.namespace}:{pattern}"], "", False):
            store._send(["DEL", key], "", False)
