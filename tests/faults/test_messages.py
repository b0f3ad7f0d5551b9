"""Promises 4, 5 and 13: lost messages only delay, doubled ones change nothing, and any number of beats will do."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from faults.world import World
from sessionsweep.settings import Settings
from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.application import build
from sessionsweep_workers.beat import LeasedScheduler
from sessionsweep_workers.keeper import Keeper
from support.processes import wait_until

pytestmark = pytest.mark.faults

INTERVAL = 0.4


@pytest.fixture
def world(folder: Path, redis_url: str, namespace: str) -> Iterator[World]:
    """A deployment in real time."""
    world = World(folder, redis_url, namespace, cleanup_interval=INTERVAL, idle_timeout=2, max_duration=0)
    yield world
    world.close()


@pytest.fixture
def worker(world: World) -> Callable[[str], Celery]:
    """An app per node, whose messages lie in this process's memory where nobody consumes them: each one is lost."""

    def make(node: str) -> Celery:
        options = {**world.settings, "redis_url": world.url, "namespace": world.namespace, "node": node}
        return build(Settings(**options, volumes=world.volumes(node), broker_url="memory://"))

    return make


def fill(world: World, dice: random.Random) -> None:
    """Ended sessions, and one that will be idle, with files on each disk."""
    for _ in range(dice.randrange(3, 8)):
        node = world.nodes[dice.choice("ab")]
        session, _, _ = node.session_with_file()
        node.write(session, volume="shared")
        if dice.random() < 0.7:
            session.end()


def settled(world: World) -> bool:
    """Whether workers have done all."""
    books = world.counters()
    return not (books["active"] or books["owed"] or books["created"] - books["ended"] or world.files())


@pytest.mark.schedules(0.2)
def test_every_message_lost_and_no_beat_all_is_clean_within_two_intervals(
    seed: str, world: World, worker: Callable[[str], Celery]
) -> None:
    dice = random.Random(seed)
    keepers = [Keeper(worker(node)) for node in "ab"]
    for keeper in keepers:
        keeper.start()
    try:
        fill(world, dice)
        begun = time.monotonic()
        # the idle timeout, the grace, two intervals; then half as much for a machine that is busy otherwise
        wait_until(lambda: settled(world), 15, "clean without any message")
        assert time.monotonic() - begun < (2 + 0.1 + 2 * INTERVAL) * 2
    finally:
        for keeper in keepers:
            keeper.stop()
    world.judge()


@pytest.mark.schedules(0.2)
def test_every_task_delivered_up_to_ten_times_changes_nothing(
    seed: str, world: World, worker: Callable[[str], Celery]
) -> None:
    dice = random.Random(seed)
    apps = [worker(node) for node in "ab"]
    tasks: list[tuple[str, dict[str, Any]]] = [
        (names.SWEEP_IDLE, {}),
        (names.SWEEP_EXPIRED, {}),
        (names.SWEEP_ORPHANS, {}),
        (names.RECLAIM, {}),
    ]
    fill(world, dice)
    ended, _, _ = world.nodes["a"].session_with_file()
    tasks.append((names.END_SESSION, {"session_id": ended.id}))

    def deliver(app: Celery, name: str, arguments: dict[str, Any]) -> None:
        app.tasks[name].apply(kwargs=arguments, throw=True)

    with ThreadPoolExecutor(4) as pool:

        def round_() -> bool:
            copies = [
                (dice.choice(apps), name, arguments) for name, arguments in tasks for _ in range(dice.randrange(1, 11))
            ]
            dice.shuffle(copies)
            list(pool.map(lambda copy: deliver(*copy), copies))
            return settled(world)

        wait_until(round_, 20, "clean")
    world.judge()
    assert world.counters()["ended:admin"] == 1


@pytest.mark.parametrize("beats", [1, 2, 5])
@pytest.mark.schedules(0.1)
def test_any_number_of_beats_sends_each_slot_once(
    seed: str, beats: int, world: World, worker: Callable[[str], Celery], monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(f"{seed} {beats}")
    sent: Counter[tuple[str, int]] = Counter()
    store = world.nodes["a"].store

    def apply_async(scheduler: LeasedScheduler, entry: Any, **_: Any) -> None:
        sent[entry.name, store.execute(op.Facts()).now // round(entry.schedule.run_every.total_seconds() * 1000)] += 1

    monkeypatch.setattr(LeasedScheduler, "apply_async", apply_async)
    running = [LeasedScheduler(worker("a"), lazy=False) for _ in range(beats)]
    deadline = time.monotonic() + 5 * INTERVAL
    with ThreadPoolExecutor(beats) as pool:
        while time.monotonic() < deadline:
            if len(running) > 1 and dice.random() < 0.01:
                running.pop()  # killed; the others go on
            list(pool.map(lambda beat: beat.tick(), running))
    sweeps = [slot for name, slot in sent if "idle" in name]
    assert set(sent.values()) == {1}, sent
    assert sorted(sweeps) == list(range(min(sweeps), max(sweeps) + 1)), "no slot was skipped"
    assert len(sweeps) >= 4
