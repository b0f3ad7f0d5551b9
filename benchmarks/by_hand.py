"""P11: handling 1 % due among many, against the sweeper that people write by hand: SCAN, then a pipelined HGET."""

from __future__ import annotations

import statistics
import time

import redis

from benchmarks.deployment import BATCH, Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from sessionsweep.engine.sweep import Sweep

SHARE = 100  # one in so many is due
PAGE = 1000


def against_scan(scale: Scale) -> list[Row]:
    """Both sides on servers of their own that hold as many sessions."""
    due = scale.sessions // SHARE
    with Deployment(cleanup_interval=1) as d, Deployment() as other:
        d.fill(scale.sessions - due)
        _fill_hashes(other.client, scale.sessions)
        ours, theirs, ratios = list[float](), list[float](), list[float]()
        sweep = Sweep(d.sessions.core, d.store)
        for _ in range(3):
            d.fill(due, idle=0.001)
            d.wait_until(d.now() + 1 + 2 * d.sessions.core.width)
            begun = time.perf_counter()
            result = sweep.run_once(budget=600, effort=1.0)
            ours.append(due / (time.perf_counter() - begun))
            assert result.idle == due, result
            theirs.append(_scan(other.client, due))
            ratios.append(ours[-1] / theirs[-1])
    return [
        Row("P11", f"due sessions handled, {due:,} of {scale.sessions:,}, against SCAN({PAGE}) + HGET",
            per_second(statistics.median(ours)), per_second(statistics.median(theirs)), statistics.median(ratios),
            Goal(least=50)),
    ]  # fmt: skip


def _fill_hashes(client: redis.Redis, count: int) -> None:
    for begin in range(0, count, BATCH):
        pipeline = client.pipeline(transaction=False)
        for number in range(begin, min(begin + BATCH, count)):
            last = 0 if number % SHARE == 0 else 2**40
            pipeline.hset(f"session:{number:012}", mapping={"user": "ana", "last_activity": last})
        pipeline.execute()


def _scan(client: redis.Redis, due: int) -> float:
    """Finds the due ones; they stay, so that each round is the same. Deleting them would cost it more."""
    begun, found, cursor, now = time.perf_counter(), 0, 0, int(time.time())
    while True:
        cursor, keys = client.scan(cursor, match="session:*", count=PAGE)
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hget(key, "last_activity")
        found += sum(int(last) < now for last in pipeline.execute())
        if cursor == 0:
            break
    if found < due:
        raise AssertionError(f"the scan found {found} of {due}")
    return due / (time.perf_counter() - begun)
