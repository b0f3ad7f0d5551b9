"""The beat scheduler: each slot once, from however many beats, over faults of the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.schedules import BaseSchedule, crontab
from kombu.transport.redis import Channel
from worker_cluster import KEY

from sessionsweep import Settings
from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.application import build
from sessionsweep_workers.beat import MARGIN, RETRY, LeasedScheduler, Slot, StoreClock
from sessionsweep_workers.context import current
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import wait_until
from support.proxy import FaultyProxy


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


def test_a_beat_without_a_broker_claims_no_slot_and_another_sends_it(
    make_app: Callable[..., Celery], redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultyProxy(redis_url, "beat") as proxy:
        # connected, and cut off since: a fault that only shows when the connection is used
        cut_off = LeasedScheduler(make_app(redis_url, namespace, broker_url=proxy.url, cleanup_interval=3600))
        cut_off._reach_broker()
        proxy.lose_request = 1.0
        app = make_app(redis_url, namespace, cleanup_interval=3600)
        sound = LeasedScheduler(app)
        assert [cut_off.tick(), cut_off.tick()] == [RETRY, RETRY]
        assert messages(app, namespace) == 0
        assert caplog.text.count("beat waits for the broker") == 1
        store = current(app).store
        assert int(store.execute(op.Meta())["beat_seen"]) > 0  # no alarm: it runs
        sound.tick()
        assert messages(app, namespace) == 4
        proxy.behave()
        assert cut_off.tick() > 0  # it looks at its slots again, and finds them sent
        assert "beat goes on" in caplog.text
        assert messages(app, namespace) == 4
        cut_off.close()
        sound.close()


def test_a_message_whose_acknowledgement_was_lost_is_not_sent_again(
    make_app: Callable[..., Celery], redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyProxy(redis_url, "beat") as proxy:
        app = make_app(redis_url, namespace, broker_url=proxy.url, cleanup_interval=3600)
        beat = LeasedScheduler(app)
        send, push = beat.apply_async, Channel._put

        def loses_the_answer(*args: object, **options: object) -> None:
            proxy.lose_reply = 1.0  # the broker has the message; nobody learns it
            push(*args, **options)

        def then_behaves(*args: object, **options: object) -> None:
            try:
                send(*args, **options)
            finally:
                proxy.behave()

        monkeypatch.setattr(Channel, "_put", loses_the_answer)
        monkeypatch.setattr(beat, "apply_async", then_behaves)
        assert beat.tick() > 0
        assert proxy.lost_replies == 4
        monkeypatch.undo()
        other = LeasedScheduler(make_app(redis_url, namespace, cleanup_interval=3600))
        for one in (beat, other):
            one.tick()
            one.close()
        assert messages(app, namespace) == 4


def test_a_beat_that_was_paused_does_not_send_what_another_sent_long_ago(
    make_app: Callable[..., Celery], redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(redis_url, namespace, cleanup_interval=3600)
    store = current(app).store
    beat = LeasedScheduler(app)
    now = store.execute(op.Facts()).now
    # as if it woke up long after it looked at the clock: the leases of that time have run out
    monkeypatch.setattr(StoreClock, "now", lambda _: now - 3 * 3_600_000)
    beat.tick()
    assert messages(app, namespace) == 0
    monkeypatch.undo()
    beat.tick()
    assert messages(app, namespace) == 4
    beat.close()


def test_a_slot_can_be_claimed_only_while_any_lease_on_it_lasts() -> None:
    for slot in (Slot.of_interval(1_000_000, 60.0), Slot.of_interval(1_000_000, 0.4), Slot.of_calendar(1_000_000)):
        assert slot.begin <= 1_000_000 < slot.ends
        assert slot.last_claim < slot.begin + 2 * slot.width + MARGIN  # the earliest lease's end


@pytest.mark.parametrize("skew", [-20_000, -1, 1, 20_000])
def test_hosts_whose_clocks_disagree_about_the_minute_agree_on_its_slot(skew: int) -> None:
    full_minute = 29_000_000 * 60_000
    assert Slot.of_calendar(full_minute + skew) == Slot.of_calendar(full_minute)


def test_an_entry_that_can_not_be_reckoned_stops_no_other(
    make_app: Callable[..., Celery], redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Dawn(BaseSchedule):  # type: ignore[misc]
        def is_due(self, last_run_at: object) -> tuple[bool, float]:
            raise ArithmeticError("the sun doesn't rise this month")

    app = make_app(redis_url, namespace)
    never = {"task": names.SWEEP_IDLE, "schedule": Dawn(app=app)}
    app.conf.beat_schedule = {"never": never, **app.conf.beat_schedule}
    beat = LeasedScheduler(app)
    beat.tick()
    assert "can't reckon when never is due" in caplog.text
    assert messages(app, namespace) == 4
    beat.close()


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
