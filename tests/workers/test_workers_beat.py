"""The beat scheduler: each slot once, from however many beats, over faults of the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.schedules import crontab
from worker_cluster import KEY

from sessionsweep import Settings
from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.application import build
from sessionsweep_workers.beat import RETRY, LeasedScheduler
from sessionsweep_workers.context import current
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import wait_until


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    apps: list[Celery] = []

    def make(url: str, namespace: str, **settings: object) -> Celery:
        app = build(Settings(redis_url=url, namespace=namespace, secret_key=KEY, **settings))
        apps.append(app)
        return app

    yield make
    for app in apps:
        current(app).store.close()
        app.close()


def messages(app: Celery, namespace: str) -> int:
    with redis.Redis.from_url(app.conf.broker_url) as client:
        return int(client.llen(f"{namespace}:celery:{names.QUEUE}"))


def test_of_several_beats_one_sends_each_slot(make_app: Callable[..., Celery], redis_url: str, namespace: str) -> None:
    app = make_app(redis_url, namespace, cleanup_interval=0.4, orphan_interval=0.4)
    beats = [LeasedScheduler(app) for _ in range(5)]
    store = current(app).store
    store.execute(op.Facts())
    slots = set()
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        for beat in beats:
            beat.tick()
            slots.add(store.execute(op.Facts()).now // 400)
    # four entries, one message each in every slot that was seen; one more may have begun since the last look
    assert 4 * (len(slots) - 1) <= messages(app, namespace) <= 4 * (len(slots) + 1)
    assert len(slots) >= 5
    for beat in beats:
        beat.close()


def test_it_sleeps_until_something_is_due(make_app: Callable[..., Celery], redis_url: str, namespace: str) -> None:
    beat = LeasedScheduler(make_app(redis_url, namespace, cleanup_interval=0.4))
    assert 0 <= beat.tick() <= 0.4
    lazy = LeasedScheduler(make_app(redis_url, namespace + "z", cleanup_interval=10**8, orphan_interval=10**8))
    assert lazy.tick() == 5
    beat.close()
    lazy.close()


def test_a_slot_that_one_beat_could_not_send_is_sent_by_another(
    make_app: Callable[..., Celery], redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(redis_url, namespace, cleanup_interval=3600)
    broken, sound = LeasedScheduler(app), LeasedScheduler(app)

    def fails(*_: object, **__: object) -> None:
        raise OSError("the broker is away")

    monkeypatch.setattr(broken, "apply_async", fails)
    assert broken.tick() == RETRY
    assert messages(app, namespace) == 0
    sound.tick()
    assert messages(app, namespace) == 4
    monkeypatch.undo()
    broken.tick()  # tries its slots again, and finds them sent
    assert messages(app, namespace) == 4
    broken.close()
    sound.close()


def test_it_waits_for_a_store_that_is_away_and_goes_on(
    make_app: Callable[..., Celery], own_server: Callable[..., EmbeddedServer], namespace: str, tmp_path: Path
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    app = make_app(server.url, namespace, cleanup_interval=0.3, socket_timeout=1)
    beat = LeasedScheduler(app)
    beat.tick()
    before = messages(app, namespace)
    assert before == 4
    server.kill()
    wait_until(lambda: beat.tick() == RETRY, what="it noticed")
    server.restart()
    wait_until(lambda: beat.tick() >= 0 and messages(app, namespace) > before, what="it sends again")
    beat.close()


def test_it_says_that_it_runs(make_app: Callable[..., Celery], redis_url: str, namespace: str) -> None:
    app = make_app(redis_url, namespace)
    beat = LeasedScheduler(app)
    beat.tick()
    store = current(app).store
    assert store.execute(op.Facts()).now - int(store.execute(op.Meta())["beat_seen"]) < 5000
    beat.close()


def test_an_entry_by_the_calendar_is_sent_once_a_minute(
    make_app: Callable[..., Celery], redis_url: str, namespace: str
) -> None:
    app = make_app(redis_url, namespace)
    app.conf.beat_schedule = {"mine": {"task": names.SWEEP_IDLE, "schedule": crontab()}}
    beats = [LeasedScheduler(app) for _ in range(3)]
    for beat in beats:
        entry = beat.schedule["mine"]
        entry.last_run_at = entry.last_run_at.replace(year=2020)  # overdue
        beat.tick()
        beat.tick()
        beat.close()
    assert 1 <= messages(app, namespace) <= 2  # two, should the minute have ended meanwhile
