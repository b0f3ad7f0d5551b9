"""Promises 4, 5 and 13: lost messages only delay, doubled ones change nothing, and any number of beats will do."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from faults.world import World
from sessionsweep.settings import Settings
from sessionsweep_workers import keeper, names
from sessionsweep_workers.application import build
from sessionsweep_workers.beat import LeasedScheduler
from sessionsweep_workers.context import current
from sessionsweep_workers.disks import Disks
from support.processes import wait_until

pytestmark = pytest.mark.faults

INTERVAL = 0.4
IDLE, GRACE = 0.5, 0.1
#: The promise counts in intervals, and a keeper also looks every second: here all is a thirtieth of what it is by
#: default, so that two intervals are long beside what a busy machine adds.
SCALE = 1 / 30
BUSY = 1.0  # seconds that a busy machine may add


@pytest.fixture
def world(folder: Path, redis_url: str, namespace: str) -> Iterator[World]:
    """A deployment in real time."""
    world = World(folder, redis_url, namespace, cleanup_interval=INTERVAL, idle_timeout=2, max_duration=0)
    yield world
    world.close()


@pytest.fixture
def scaled(
    folder: Path, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[World, float]]:
    """The same with every time of a worker in the proportion that it has by default; and its interval."""
    interval = Settings.model_fields["cleanup_interval"].default * SCALE
    for name in ("LOOK", "BEAT", "PATIENCE"):
        monkeypatch.setattr(keeper, name, getattr(keeper, name) * SCALE)
    about = {"cleanup_interval": interval, "idle_timeout": IDLE, "grace_period": GRACE, "max_duration": 0}
    world = World(folder, redis_url, namespace, **about)
    yield world, interval
    world.close()


def worker(world: World, node: str) -> Celery:
    """A node's app, whose messages lie in this process's memory where nobody consumes them: each one is lost."""
    options = {**world.settings, "redis_url": world.url, "namespace": world.namespace, "node": node}
    return build(Settings(**options, volumes=world.volumes(node), broker_url="memory://"))


def keeping(app: Celery) -> keeper.Keeper:
    """What each worker does by itself, on the disks of its node."""
    disks = Disks(current(app))
    disks.mount()
    return keeper.Keeper(app, disks)


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
    seed: str, scaled: tuple[World, float], record_property: Callable[[str, object], None]
) -> None:
    dice = random.Random(seed)
    world, interval = scaled
    keepers = [keeping(worker(world, node)) for node in "ab"]
    for one in keepers:
        one.start()
    try:
        fill(world, dice)
        begun = time.monotonic()
        wait_until(lambda: settled(world), 15, "clean without any message")
        late = time.monotonic() - begun - IDLE - GRACE
        record_property("clean_after_intervals", round(late / interval, 3))
        assert late < 2 * interval + BUSY
    finally:
        for one in keepers:
            one.stop()
    world.judge()


@pytest.mark.schedules(0.2)
def test_every_task_delivered_up_to_ten_times_changes_nothing(seed: str, world: World) -> None:
    dice = random.Random(seed)
    apps = [worker(world, node) for node in "ab"]
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
    seed: str, beats: int, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sessionsweep_workers.beat")
    dice = random.Random(f"{seed} {beats}")
    options = {**world.settings, "redis_url": world.url, "namespace": world.namespace, "orphan_interval": INTERVAL}
    app = build(Settings(**options))
    started = [LeasedScheduler(app) for _ in range(beats)]
    running = list(started)
    deadline = time.monotonic() + 5 * INTERVAL
    with ThreadPoolExecutor(beats) as pool:
        while time.monotonic() < deadline or len(slots_sent(caplog.messages, "end idle")) < 4:
            if len(running) > 1 and dice.random() < 0.01:
                running.pop()  # killed; the others go on
            list(pool.map(lambda beat: beat.tick(), running))
    # told by the slot that each message was sent for, not by when: what is sent late lies in the slot after its own
    sent = slots_sent(caplog.messages, "")
    assert len(sent) == len(set(sent)), "no slot was sent twice"
    with redis.Redis.from_url(app.conf.broker_url) as client:
        assert client.llen(f"{world.namespace}:celery:{names.QUEUE}") == len(sent), "no message without its slot"
    for beat in started:
        beat.close()
    app.close()


def slots_sent(lines: Sequence[str], entry: str) -> list[tuple[str, int]]:
    """The entry and slot of each message that beats logged, of entries whose name has `entry` in it."""
    found = (re.fullmatch(r"sent (.+) \(.+\) for slot (\d+)", line) for line in lines)
    return [(match[1], int(match[2])) for match in found if match and entry in match[1]]
