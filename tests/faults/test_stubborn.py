"""Promises 14, 15 and 18: dead nodes and swapped disks, files that can't be deleted, and files that are in use."""

from __future__ import annotations

import fcntl
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.world import World
from sessionsweep.store import operations as op
from support.nodes import Node

pytestmark = pytest.mark.faults

TIMED = {"idle_timeout": 100, "max_duration": 0, "grace_period": 1, "cleanup_interval": 1, "orphan_interval": 1000}


@pytest.fixture
def world(folder: Path, redis_url: str, namespace: str) -> Iterator[World]:
    """A deployment on the test's time."""
    world = World(folder, redis_url, namespace, **TIMED, reclaim_tries=3, lease=60)
    yield world
    world.close()


@pytest.mark.schedules(0.2)
def test_one_percent_that_cannot_be_deleted_keeps_nothing_else_from_its_turn(seed: str, world: World) -> None:
    dice = random.Random(seed)
    node = world.nodes["a"]
    paths: list[Path] = []
    for _ in range(10):
        session, _ = node.sessions.create()
        paths += [node.write(session, volume=dice.choice(["a", "shared"]))[1] for _ in range(20)]
        session.end()
    stubborn = dice.sample(paths, 2)
    for path in stubborn:
        path.unlink()
        path.mkdir()
    world.pass_once()
    assert [path for path in paths if path.exists()] == sorted(stubborn, key=paths.index), "the other 99 %, at once"
    for _ in range(6):
        world.advance(4000)
        world.pass_once()
    assert world.counters()["dead"] == 2
    assert all(path.is_dir() for path in stubborn)
    letters = node.store.execute(op.DeadLetters("00"))
    assert {letter.record.error for letter in letters} == {"not-regular"}
    for path, letter in zip(stubborn, letters, strict=True):
        path.rmdir()
        assert node.store.execute(op.RetryDead(letter.session_id, letter.record.resource_id))
    world.settle(advance=10)
    world.judge()


@pytest.mark.schedules(0.2)
def test_a_file_in_use_is_never_cut_and_goes_with_the_next_sweep_after(seed: str, world: World) -> None:
    dice = random.Random(seed)
    node = world.nodes["a"]
    with ExitStack() as using:
        spared: list[Path] = []
        for _ in range(6):
            session, rid, path = node.session_with_file()
            how = dice.choice(["lock", "pin", "keep-alive"])
            if how == "lock":
                held = using.enter_context(path.open("rb"))
                fcntl.flock(held, fcntl.LOCK_SH)
            elif how == "pin":
                using.enter_context(session.pin(rid, max="10m"))
            else:
                using.enter_context(session.keep_alive(max="10m"))
            spared.append(path)
            session.end()
        for _ in range(5):
            world.advance(dice.uniform(1, 20))
            world.pass_once()
            assert all(path.exists() for path in spared), "cut"
    world.advance(1.5)
    world.pass_once()
    assert not any(path.exists() for path in spared)
    assert world.counters()["dead"] == 0, "waiting uses no try"
    world.settle(advance=10)
    world.judge()


def swap(world: World) -> dict[str, str]:
    """Two disks change places."""
    disks = world.folder / "disks"
    (disks / "a").rename(disks / "x")
    (disks / "b").rename(disks / "a")
    (disks / "x").rename(disks / "b")
    return {"a": "a", "b": "b"}


def rename(world: World) -> dict[str, str]:
    """Both hosts get new names; their disks stay."""
    return {"c": "a", "d": "b"}


@pytest.mark.parametrize("fate", [swap, rename])
@pytest.mark.schedules(0.2)
def test_a_dead_nodes_debt_waits_for_its_disk_wherever_that_comes_back(
    seed: str, fate: Callable[[World], dict[str, str]], world: World
) -> None:
    dice = random.Random(seed)
    a, b = world.nodes["a"], world.nodes["b"]
    living: list[tuple[str, bytes, int]] = []
    for _ in range(6):
        for node in (a, b):
            session, token = node.sessions.create()
            _, path = node.write(session)
            if dice.random() < 0.5:
                session.end()
            else:
                living.append((token, path.read_bytes(), path.stat().st_ino))
    owed = world.counters()["owed"]
    world.advance(30)
    b.reclaim.run_once()  # the living node sees to its own, and leaves the other's alone
    inodes = {path.stat().st_ino for path in world.files()}
    assert all(inode in inodes for _, _, inode in living)
    world.close()
    names = fate(world)
    back = {}
    for name, disk in names.items():
        volumes = f"{disk}={world.folder / 'disks' / disk},shared={world.folder / 'disks' / 'shared'}"
        back[name] = Node(world.url, world.namespace, world.folder, name, **{**world.settings, "volumes": volumes})
    for node in back.values():
        node._advanced = 30
        node.reclaim.run_once()
        node.orphans.run_once()
    world.nodes = {"a": next(iter(back.values())), "b": list(back.values())[1]}
    books = world.counters()
    assert books["owed"] == 0, f"{owed} were owed"
    for token, _, _ in living:
        world.nodes["a"].sessions.open(token)
    if fate is swap:  # the canaries moved with their disks
        swap(world)
    assert {path.stat().st_ino for path in world.files()} == {inode for _, _, inode in living}
    world.canaries_are_whole()
