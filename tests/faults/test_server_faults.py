"""Promises 8, 12 and 21: each fault of the server and of the clocks by itself, shown to have bitten, and over with its
cause."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.servers import FaultyServer, libfaketime
from faults.world import Actor, Nurseries, World
from sessionsweep.model.ids import new_session_id
from support.processes import PATIENCE, wait_until
from support.proxy import FaultyProxy

pytestmark = pytest.mark.faults

DAY = 86_400
RESUMED = 60  # seconds: what is promised
EACH = 5  # requests or passes that show an actor at work
needs_libfaketime = pytest.mark.skipif(
    not os.environ.get("CI") and libfaketime() is None, reason="clocks are faked by Debian's package faketime"
)


@contextmanager
def traffic(
    world: World, nurseries: Nurseries, seed: str, url: str, *, a: int = 0, b: int = 0, roles: str = "web worker"
) -> Iterator[list[Actor]]:
    """Actors on both nodes, whose clocks are so many seconds off; none is left."""
    actors = []
    for node, offset in (("a", a), ("b", b)):
        for role in roles.split():
            nursery = nurseries.of(offset)
            pid = nursery.start(**world.order(role, node, f"{seed} {role}", url=url))
            actors.append(Actor(pid, role, node, nursery))
    try:
        yield actors
    finally:
        for actor in actors:
            actor.nursery.kill(actor.pid)


def done_since(world: World, actors: list[Actor]) -> Callable[[], int]:
    """How much the one of these actors that did least brought to its end without an error since this call."""
    before = world.done()

    def least() -> int:
        now = world.done()
        return min(now[actor.pid] - before[actor.pid] for actor in actors)

    return least


def gone(server: FaultyServer, proxy: FaultyProxy) -> int:
    server.kill()
    before = proxy.refused
    wait_until(lambda: proxy.refused - before > 20, what="nobody can connect")
    server.restart()
    return proxy.refused - before


def loading(server: FaultyServer, proxy: FaultyProxy) -> int:
    return server.load_slowly()


def out_of_memory(server: FaultyServer, proxy: FaultyProxy) -> int:
    server.fill()
    wait_until(lambda: server.met("OOM") > 3, what="writes are refused")
    return server.make_room()


def read_only(server: FaultyServer, proxy: FaultyProxy) -> int:
    server.demote()
    wait_until(lambda: server.met("READONLY") > 3, what="writes are refused")
    return server.promote()


def scripts_flushed(server: FaultyServer, proxy: FaultyProxy) -> int:
    before = server.met("NOSCRIPT")
    server.forget_scripts()
    wait_until(lambda: server.met("NOSCRIPT") > before, what="a script is missed")
    return server.met("NOSCRIPT") - before


def torn_replies(server: FaultyServer, proxy: FaultyProxy) -> int:
    proxy.tear_reply = 0.1
    wait_until(lambda: proxy.torn_replies > 3, what="replies are torn")
    proxy.behave()
    return proxy.torn_replies


def slow(server: FaultyServer, proxy: FaultyProxy) -> int:
    proxy.delay = 0.2
    wait_until(lambda: proxy.delayed > 20, what="chunks are delayed")
    proxy.behave()
    return proxy.delayed


@pytest.mark.parametrize("fault", [gone, loading, out_of_memory, read_only, scripts_flushed, torn_replies, slow])
@pytest.mark.schedules(0.1)
def test_a_fault_of_the_server_bites_and_is_over_with_its_cause(
    seed: str,
    fault: Callable[[FaultyServer, FaultyProxy], int],
    folder: Path,
    nurseries: Nurseries,
    fresh_name: Callable[[], str],
    record_property: Callable[[str, object], None],
) -> None:
    """Promise 21: requests get a typed error (the actors know no other), and all go on by themselves."""
    with FaultyServer(folder.parent / "server") as server, FaultyProxy(server.url, seed) as proxy:
        world = World(folder, server.url, fresh_name())
        with traffic(world, nurseries, seed, proxy.url) as actors:
            begun = done_since(world, actors)
            wait_until(lambda: begun() >= EACH, what="each of them works")
            assert fault(server, proxy) > 0, "nobody met it"
            resumed, over = done_since(world, actors), time.monotonic()
            wait_until(lambda: resumed() >= EACH, RESUMED / PATIENCE, "each of them goes on")
            record_property("resumed_after_s", round(time.monotonic() - over, 3))
        world.settle()
        world.judge()
        world.close()


@needs_libfaketime
@pytest.mark.parametrize(("a", "b"), [(DAY, -DAY), (-DAY, -DAY)])
@pytest.mark.schedules(0.1)
def test_workers_whose_clocks_are_a_day_off_reclaim_all_that_is_due_and_nothing_else(
    seed: str, a: int, b: int, folder: Path, redis_url: str, nurseries: Nurseries, fresh_name: Callable[[], str]
) -> None:
    """Promise 12: nodes a day off either way change nothing."""
    world = World(folder, redis_url, fresh_name())
    node = world.nodes["a"]
    kept, token = node.sessions.create()
    kept.extend(idle=600, max_duration=600)
    _, path = node.write(kept, volume="shared")
    stranger = new_session_id("00")
    orphan = world.folder / "disks" / "a" / "files" / stranger[2:4] / stranger / path.name
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"nobody's")
    with traffic(world, nurseries, seed, redis_url, a=a, b=b):
        wait_until(lambda: sum(world.did().values()) > 60, what="there is traffic")
    with traffic(world, nurseries, f"{seed} after", redis_url, a=a, b=b, roles="worker"):

        def swept() -> bool:
            books = world.counters()
            return (books["active"], books["owed"]) == (1, 0) and world.files() == [path]  # the one file in use

        world.expire_leases()
        wait_until(swept, 30, "workers whose clocks are wrong have reclaimed everything")
    assert not orphan.exists()
    assert node.sessions.open(token).id == kept.id
    assert set(world.holds()) <= {"idle"}
    kept.end()
    world.settle()
    world.judge()
    world.close()


@needs_libfaketime
@pytest.mark.parametrize("step", [-3600, -30, 30, 3600])
@pytest.mark.schedules(0.1)
def test_a_step_of_the_servers_clock_holds_idle_ends_until_clients_were_seen_again(
    seed: str, step: int, folder: Path, fresh_name: Callable[[], str]
) -> None:
    """Promise 8: a clock that steps takes no session from a client who comes back within the hold."""
    with FaultyServer(folder.parent / "server", clock=True) as server:
        settings = {"idle_timeout": 20, "max_duration": 0, "hold": 20, "grace_period": 0}
        world = World(folder, server.url, fresh_name(), **settings)
        made = []
        for node in world.nodes.values():
            session, token = node.sessions.create()
            made.append((token, node.write(session)[1]))
        world.pass_once()
        server.step(step)
        for _ in range(3):
            world.pass_once()
        assert world.holds().get("idle") == "clock-jumped"
        assert all(path.exists() for _, path in made)
        for token, _ in made:
            world.nodes["a"].sessions.open(token)
        server.step(0)  # and back: as much of a step
        world.pass_once()
        for token, path in made:
            world.nodes["b"].sessions.open(token)
            assert path.exists()
        server.step(max(step, 0))  # what was touched in the future would stay as long
        world.settle(advance=30)
        world.judge()
        world.close()
