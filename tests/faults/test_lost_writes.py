"""Promises 8 and 9: a store that lost writes, or all of them, or is another one, destroys nothing that lives."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from faults.actor import Journal, Known, Web
from faults.world import Nursery, World
from sessionsweep import InvalidTokenError
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node
from support.processes import wait_until

pytestmark = pytest.mark.faults

TIMED = {
    "idle_timeout": 10,
    "max_duration": 0,
    "grace_period": 1,
    "cleanup_interval": 1,
    "orphan_interval": 1000,
    "hold": 10,
    "lease": 5,
    "intent_timeout": 900,
}


class Client:
    """A web node inside this process, on the test's time."""

    def __init__(self, world: World, seed: str) -> None:
        self.world = world
        self.web = Web(world.order("web", "a", seed, test_clock=True), Journal(str(world.journal_path)))
        self.moved = 0.0

    def act(self, times: int) -> None:
        """A busy moment, some time passing."""
        for _ in range(times):
            self.web.act()

    def advance(self, seconds: float) -> None:
        self.moved += seconds
        self.world.advance(seconds)

    def touch(self) -> list[Known]:
        """Every client comes back; those whose session the store doesn't know any more."""
        lost = []
        for known in self.web.mine:
            try:
                self.web.sessions.open(known.token)
            except InvalidTokenError:
                lost.append(known)
        return lost

    def read_everything(self) -> None:
        """Each file of each session that a client was told of has its bytes."""
        for known in self.web.mine:
            self.web._check(known, self.web.sessions.open(known.token), 0.0)


def aof(server: EmbeddedServer) -> Path:
    """The file that the server appends its writes to."""
    (path,) = server.folder.glob("appendonlydir/*.incr.aof")
    return path


@pytest.fixture
def server(own_server: Callable[..., EmbeddedServer], tmp_path: Path) -> EmbeddedServer:
    """With an AOF whose every write is in the file before the reply."""
    return own_server(
        data_dir=tmp_path / "server", extra_config={"appendfsync": "no", "auto-aof-rewrite-percentage": "0"}
    )


def lose(server: EmbeddedServer, world: World, client: Client, length: int) -> None:
    """What an asynchronous replica that is promoted has not: everything after `length` bytes."""
    path = aof(server)
    server.kill()
    with path.open("r+b") as appended:
        appended.truncate(length)
    server.restart()
    # the tests' clock lies in the store, too: time itself was not lost
    connection = redis.Redis.from_url(server.url)
    connection.set(f"{world.namespace}:test:offset", round(client.moved * 1000))
    connection.close()


@pytest.mark.schedules(0.3)
def test_lost_writes_strip_no_session_that_is_still_used(
    seed: str, folder: Path, server: EmbeddedServer, fresh_name: Callable[[], str]
) -> None:
    dice = random.Random(seed)
    world = World(folder, server.url, fresh_name(), **{**TIMED, "intent_timeout": 15})
    client = Client(world, seed)
    world.pass_once()
    client.act(dice.randrange(20, 40))
    settled = {known.token for known in client.web.mine}
    least = aof(server).stat().st_size
    # since then: touches, files, deletions and ends, some of which the store will have forgotten
    client.advance(7)
    assert client.touch() == []
    client.act(dice.randrange(5, 20))
    most = aof(server).stat().st_size
    client.advance(dice.choice([2, 5]))
    world.nodes["b"].upkeep.run_once()
    remembered = {known.token for known in client.web.mine} & settled
    lose(server, world, client, dice.randint(least, most))
    first = dice.choice(["a worker", "a client"])
    for number in range(5):  # clients come back within the hold
        if number or first == "a worker":
            world.pass_once()
        lost = client.touch()
        assert not {known.token for known in lost} & remembered, "a session that the store remembers was ended"
        on_disk = {path.name for path in world.files()}
        for known in client.web.mine:
            assert known in lost or not set(known.files) - on_disk, "a live session's bytes are gone"
        client.advance(4)
    client.web.mine = [known for known in client.web.mine if known not in lost]
    world.pass_once()  # the hold is over: what was forgotten is found; and intents whose commit was lost are overdue
    client.read_everything()
    assert world.facts("wrong") == []
    world.canaries_are_whole()
    assert set(world.holds()) <= {"idle"}
    client.web.mine.clear()
    world.settle(advance=5)
    books = world.counters()
    assert (books["active"], books["owed"]) == (0, 0)
    world.canaries_are_whole()
    world.close()
    client.web.sessions.close()


def flush(server: EmbeddedServer, world: World, client: Client) -> str:
    """Everything is gone; the volumes are not."""
    redis.Redis.from_url(server.url).flushall()
    return "foreign-deployment"


def other_database(server: EmbeddedServer, world: World, client: Client) -> str:
    """A wrong URL: an empty store answers."""
    world.close()
    world.url = server.url[:-1] + "1"
    world.nodes = {name: world.node(name) for name in "ab"}
    return "foreign-deployment"


def old_snapshot(server: EmbeddedServer, world: World, client: Client) -> str:
    """The state of long ago comes back, without what was made since."""
    kept = aof(server).stat().st_size
    client.advance(400)
    client.act(20)
    world.pass_once()
    lose(server, world, client, kept)
    return "rolled-back"


def unmounted(server: EmbeddedServer, world: World, client: Client) -> str:
    """The disk is away, its empty mount point is there."""
    for name in ("a", "b", "shared"):
        disk = world.folder / "disks" / name
        disk.rename(world.folder / name)
        disk.mkdir()
    return "marker-missing"


@pytest.mark.parametrize("fault", [flush, other_database, old_snapshot, unmounted])
@pytest.mark.schedules(0.1)
def test_a_store_or_a_disk_that_is_not_what_it_was_destroys_nothing(
    seed: str,
    fault: Callable[[EmbeddedServer, World, Client], str],
    folder: Path,
    server: EmbeddedServer,
    fresh_name: Callable[[], str],
) -> None:
    world = World(folder, server.url, fresh_name(), **TIMED)
    client = Client(world, seed)
    client.act(40)
    world.pass_once()
    reason = fault(server, world, client)
    away = fault is unmounted
    if away:
        for known in client.web.mine:
            client.web.sessions.end(known.session_id)
    before = sorted(folder.glob("*/files/*/*/*" if away else "disks/*/files/*/*/*"))
    assert before
    for _ in range(4):
        world.pass_once()
        client.advance(400)
    assert sorted(folder.glob("*/files/*/*/*" if away else "disks/*/files/*/*/*")) == before
    assert reason in world.holds().values(), world.holds()
    if away:
        for name in ("a", "b", "shared"):
            disk = folder / "disks" / name
            assert list(disk.iterdir()) == [], "an empty mount point stays empty"
            disk.rmdir()
            shutil.move(folder / name, disk)
        world.settle(advance=400)
    world.canaries_are_whole()
    world.close()
    client.web.sessions.close()


@pytest.mark.parametrize(("action", "step"), [("reclaim", "after LeaseHeld"), ("orphans", "after Sight")])
@pytest.mark.schedules(0.1)
def test_a_permit_ends_with_the_servers_run(
    seed: str,
    action: str,
    step: str,
    folder: Path,
    server: EmbeddedServer,
    nursery: Nursery,
    fresh_name: Callable[[], str],
) -> None:
    world = World(folder, server.url, fresh_name(), **{**TIMED, "lease": 60})
    node = world.nodes["a"]
    session, _, path = node.session_with_file()
    if action == "orphans":  # sighted once already: the next pass would destroy it
        forget(node, session.id)
        node.orphans.run_once()
        world.advance(2)
    else:
        session.end()
    order = world.order("step", "a", seed, action=action, at=1, only=step, signal=signal.SIGSTOP, test_clock=True)
    pid = nursery.start(**order)
    wait_until(lambda: world.facts("boundary"), what="it is about to destroy")
    server.kill()
    server.restart()  # with all it had: the lease, too; but it might have been another
    os.kill(pid, signal.SIGCONT)
    assert nursery.reap(pid) == 0
    assert world.facts("wrong") == []
    assert path.exists(), "the server that gave the permit is gone"
    world.close()


@pytest.mark.schedules(0.1)
def test_orphans_wait_for_the_hold_and_go_after_it(
    seed: str, folder: Path, server: EmbeddedServer, fresh_name: Callable[[], str]
) -> None:
    world = World(folder, server.url, fresh_name(), **TIMED)
    node = world.nodes["a"]
    session, _, path = node.session_with_file()
    forget(node, session.id)
    node.sweep.run_once()
    server.kill()
    server.restart()
    node.sweep.run_once()
    for _ in range(4):
        node.orphans.run_once()
        world.advance(2)
        assert path.exists(), "the server may have forgotten its owner, who may come back"
    world.advance(3)
    for _ in range(3):
        node.orphans.run_once()
        world.advance(2)
    assert not path.exists(), "a true orphan is found within one scan after the hold"
    world.close()


def test_an_orphan_from_the_future_is_old_enough(make_node: Callable[..., Node]) -> None:
    """A node whose clock was ahead wrote it; nobody waits for the day that it shows."""
    node = make_node(orphan_interval=1000, orphan_min_age=600)
    session, _, path = node.session_with_file()
    node.orphans.run_once()
    forget(node, session.id)
    for written, goes in ((time.time() - 60, False), (time.time() + 86_400, True)):
        os.utime(path, (written, written))
        for _ in range(3):
            node.orphans.run_once()
            node.advance(2)
        assert path.exists() is not goes


def forget(node: Node, session_id: str) -> dict[str, bytes]:
    """The store loses a session; what it was, for RESTORE."""
    lost = {}
    for key in (node.store.keys.session(session_id), node.store.keys.resources(session_id)):
        lost[key] = node.store._send(["DUMP", key], "", False)
        node.store._send(["DEL", key], "", False)
    return lost


@pytest.mark.schedules(0.1)
def test_an_owner_who_comes_back_at_the_last_moment_keeps_the_file(
    seed: str, folder: Path, redis_url: str, nursery: Nursery, fresh_name: Callable[[], str]
) -> None:
    world = World(folder, redis_url, fresh_name(), **TIMED)
    node = world.nodes["a"]
    session, rid, path = node.session_with_file()
    lost = forget(node, session.id)
    node.orphans.run_once()
    world.advance(2)
    order = world.order(
        "step", "a", seed, action="orphans", at=1, only="after Sight", signal=signal.SIGSTOP, test_clock=True
    )
    pid = nursery.start(**order)
    wait_until(lambda: world.facts("boundary"), what="it is about to destroy")
    for key, value in lost.items():
        node.store._send(["RESTORE", key, 0, value], "", False)
    os.kill(pid, signal.SIGCONT)
    assert nursery.reap(pid) == 0
    assert path.exists()
    assert [one.id for one in session.resources()] == [rid]
    world.close()


@pytest.mark.schedules(0.1)
def test_orphans_that_multiply_stop_the_pass_before_the_first_goes(
    seed: str, make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsweep.engine.orphans.CAP_FLOOR", 3)
    node = make_node(orphan_interval=1000)
    made = [node.session_with_file() for _ in range(5)]
    node.orphans.run_once()
    for number in (2, 5):
        for session, _, _ in made[:number]:
            forget(node, session.id)
        node.advance(2)
        node.orphans.run_once()
    assert all(path.exists() for _, _, path in made), "two were sighted before, but five at once are a loss"
    assert "too-many-orphans" in {hold.reason for hold in node.holds().values()}
