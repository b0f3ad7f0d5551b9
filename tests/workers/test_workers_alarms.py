"""What workers raise an alarm about by themselves: books that differ, though nobody looks at them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery
from worker_cluster import KEY, Cluster

from sessionsweep import Sessions, Settings
from sessionsweep.operator import vitals
from sessionsweep.operator.findings import Code, Level
from sessionsweep.operator.verdict import judge
from sessionsweep.store import operations as op
from sessionsweep_workers.alarms import BOOKS, TABLE, BooksAlarm
from sessionsweep_workers.application import build
from sessionsweep_workers.context import Context, current
from support.processes import wait_until

Write = Callable[..., None]


@pytest.fixture
def app(redis_url: str, namespace: str) -> Iterator[Celery]:
    made = build(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY, partitions=3, cleanup_interval=0.1))
    yield made
    current(made).store.close()
    made.close()


@pytest.fixture
def past_us(redis_url: str, app: Celery) -> Iterator[Write]:
    """Adds to a counter of a partition past the library."""
    keys = current(app).store.keys
    with redis.Redis.from_url(redis_url) as server:

        def write(partition: str, counter: str, amount: int) -> None:
            server.hincrby(keys.counters(partition), counter, amount)

        yield write


def alarm(context: Context) -> str:
    return context.store.execute(op.Table(TABLE)).get(BOOKS, "")


def test_books_that_differ_twice_raise_an_alarm_until_they_balance(
    app: Celery, past_us: Write, caplog: pytest.LogCaptureFixture
) -> None:
    context = current(app)
    watch, other = BooksAlarm(context), BooksAlarm(context)
    past_us("01", "active", 2)
    past_us("02", "active", -2)
    now = context.store.execute(op.Facts()).now
    watch.look(now)
    assert not alarm(context), "once is no fault yet"
    watch.look(now)
    assert "partition 01 by -2, 02 by +2" in alarm(context)
    (said,) = [one for one in caplog.records if "docs/operations.md: the books differ" in one.message]
    assert said.levelno == logging.ERROR
    watch.look(now)
    assert len([one for one in caplog.records if "don't balance" in one.message]) == 1, "told once"

    seen = vitals.look(context.core, context.store)
    assert (seen.imbalance, seen.stats.imbalance) == (4, 4), "one partition's surplus hides no other's loss"
    assert Sessions(context.settings, store=context.store).stats().imbalance == 4
    (found,) = [one for one in judge(seen, context.settings) if one.code in (Code.BOOKS, Code.MARKS)]
    assert (found.level, found.text) == (Level.FAILURE, "4 resources unaccounted for: partition 01 by -2, 02 by +2")

    past_us("02", "active", 2)
    for _ in range(2):
        other.look(now)
    assert "partition 01 by -2 (" in alarm(context)
    past_us("01", "reg", 2)
    other.look(now)
    assert not alarm(context)
    assert "the books balance again" in caplog.text
    assert not vitals.look(context.core, context.store).imbalance


def test_a_difference_that_is_gone_at_the_next_look_is_no_alarm(app: Celery, past_us: Write) -> None:
    watch = BooksAlarm(current(app))
    for amount in (1, 1, -2):
        past_us("00", "owed", amount)
        watch.look(0)
    assert not alarm(current(app))


def test_each_worker_looks_by_itself(cluster: Cluster, redis_url: str) -> None:
    store = cluster.sessions().store
    cluster.worker()
    with redis.Redis.from_url(redis_url) as server:
        server.hincrby(store.keys.counters("00"), "active", 1)
    wait_until(
        lambda: "partition 00 by -1" in store.execute(op.Table(TABLE)).get(BOOKS, ""), what="the alarm is raised"
    )
