"""P6: sessions ended a second by the engine at full speed, against the bare commands that ending takes, pipelined."""

from __future__ import annotations

import statistics
import time

from benchmarks.deployment import BATCH, Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from sessionsweep.engine.sweep import Sweep
from sessionsweep.store import operations as op

FULL_SPEED = 1.0  # no rests


def sweep_rate(scale: Scale) -> list[Row]:
    """Rounds of as many sessions each: first the floor, then the engine, on the same server."""
    count = 20_000 if scale.quick else 50_000
    rounds = 5
    ratios, ended, floor, with_files = list[float](), list[float](), list[float](), list[float]()
    with Deployment(cleanup_interval=1) as d:
        sweep = Sweep(d.sessions.core, d.store)
        _engine(d, sweep, 1000, files=0)
        for _ in range(rounds):
            floor.append(_floor(d, count))
            ended.append(_engine(d, sweep, count, files=0))
            ratios.append(ended[-1] / floor[-1])
        with_files = [_engine(d, sweep, count // 5, files=3) for _ in range(3)]
    floor_rate = per_second(statistics.median(floor))
    return [
        Row("P6", "sessions ended, one engine, against GET + UNLINK + SREM pipelined",
            per_second(statistics.median(ended)), floor_rate, statistics.median(ratios), Goal(least=0.25)),
        Row("P6", "… with 3 files each", per_second(statistics.median(with_files)), floor_rate,
            statistics.median(with_files) / statistics.median(floor)),
    ]  # fmt: skip


def _engine(d: Deployment, sweep: Sweep, count: int, files: int) -> float:
    ids = d.fill(count, idle=0.001)
    if files:
        # registered while the timeout is long enough to live: these sessions are made due afterwards
        raise_idle(d, ids, 60_000)
        for begin in range(0, count, BATCH // files):
            owners = [sid for sid in ids[begin : begin + BATCH // files] for _ in range(files)]
            d.many([op.Register(sid, f"{n:016}", "f", "v.0123456789abcdef", 1024, live=True)
                    for n, sid in enumerate(owners)])  # fmt: skip
        raise_idle(d, ids, 1)
    d.wait_until(d.now() + 1 + 2 * d.sessions.core.width)
    begun = time.perf_counter()
    result = sweep.run_once(budget=600, effort=FULL_SPEED)
    seconds = time.perf_counter() - begun
    if result.idle != count:
        raise AssertionError(f"{result.idle} of {count} were ended: {result}")
    return count / seconds


def raise_idle(d: Deployment, ids: list[str], idle: int) -> None:
    """Sets the idle timeout (ms) in the records, so that no request has to."""
    for begin in range(0, len(ids), BATCH):
        pipeline = d.client.pipeline(transaction=False)
        for sid in ids[begin : begin + BATCH]:
            pipeline.setrange(d.store.keys.session(sid), 24, idle.to_bytes(5, "big"))
        pipeline.execute()


def _floor(d: Deployment, count: int) -> float:
    """What a sweeper must do at least, with nothing checked, counted or kept apart: batches of 500 in a pipeline."""
    client, keys = d.client, [f"floor:{i:030}" for i in range(count)]
    for begin in range(0, count, BATCH):
        part = keys[begin : begin + BATCH]
        client.mset(dict.fromkeys(part, b"x" * 72))
        client.sadd("floor:index", *part)
    begun = time.perf_counter()
    for begin in range(0, count, 500):
        part = keys[begin : begin + 500]
        pipeline = client.pipeline(transaction=False)
        for key in part:
            pipeline.get(key)
        pipeline.execute()
        pipeline = client.pipeline(transaction=False)
        pipeline.unlink(*part)
        pipeline.srem("floor:index", *part)
        pipeline.execute()
    return count / (time.perf_counter() - begun)
