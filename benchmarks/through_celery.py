"""P13: what Celery takes off the engine's speed, and what a second worker process adds."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from celery import Celery

from benchmarks.deployment import SECRET, Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from sessionsweep.engine.sweep import Sweep
from sessionsweep.model import books
from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.application import build

WAIT = 120.0  # seconds for a worker to be ready, or for a backlog to be gone


def through_celery(scale: Scale) -> list[Row]:
    """The engine in this process, one worker, then two: the same backlog each, all with the default pacing."""
    count, rounds = (20_000, 3) if scale.quick else (50_000, 5)
    direct, one, both = list[float](), list[float](), list[float]()
    # an interval of a minute: the workers' own timers, which sweep when no task does, stay out of it
    with Deployment(cleanup_interval=60, node="bench") as d, ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        app = build(d.settings)
        stack.callback(app.close)
        sweep = Sweep(d.sessions.core, d.store)
        stack.enter_context(_worker(d, folder, "one"))
        _drain(d, app, 1000, 1)
        for _ in range(rounds):
            direct.append(_direct(d, sweep, count))
            one.append(_drain(d, app, count, 1))
        stack.enter_context(_worker(d, folder, "two"))
        for _ in range(rounds):
            both.append(_drain(d, app, count, 2))
    return [
        Row("P13", "ended through Celery against the engine's own loop", per_second(statistics.median(one)),
            per_second(statistics.median(direct)),
            statistics.median(a / b for a, b in zip(one, direct, strict=True)), Goal(least=0.9)),
        Row("P13", "two worker processes against one", per_second(statistics.median(both)),
            per_second(statistics.median(one)),
            statistics.median(a / b for a, b in zip(both, one, strict=True)), Goal(least=1.2)),
    ]  # fmt: skip


def _due(d: Deployment, count: int) -> int:
    """Makes `count` due sessions; how many will have been ended when they are."""
    d.fill(count, idle=0.001)
    d.wait_until(d.now() + 1 + 2 * d.sessions.core.width)
    return _ended(d) + count


def _ended(d: Deployment) -> int:
    return int(d.store.execute(op.Counters("00")).get(books.ENDED, 0))


def _direct(d: Deployment, sweep: Sweep, count: int) -> float:
    target = _due(d, count)
    begun = time.perf_counter()
    while sweep.run_once().more:
        pass
    seconds = time.perf_counter() - begun
    assert _ended(d) == target
    return count / seconds


def _drain(d: Deployment, app: Celery, count: int, messages: int) -> float:
    target = _due(d, count)
    begun = time.perf_counter()
    for _ in range(messages):
        app.tasks[names.SWEEP_IDLE].apply_async()
    while _ended(d) < target:
        if time.perf_counter() - begun > WAIT:
            raise TimeoutError(f"{target - _ended(d)} sessions were still due after {WAIT} s")
        time.sleep(0.01)
    return count / (time.perf_counter() - begun)


@contextmanager
def _worker(d: Deployment, folder: Path, name: str) -> Iterator[None]:
    """A worker process of one's own, stopped by its own id at the end."""
    variables = {
        "SESSIONSWEEP_REDIS_URL": d.server.url,
        "SESSIONSWEEP_SECRET_KEY": SECRET,
        "SESSIONSWEEP_CLEANUP_INTERVAL": "60",
        "SESSIONSWEEP_NODE": name,
    }
    command = [sys.executable, "-m", "celery", "-A", "sessionsweep_workers", "worker"]
    command += ["-P", "solo", "-l", "INFO", "-n", f"{name}@%h"]
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        child = subprocess.Popen(command, env={**os.environ, **variables}, stdout=out, stderr=out, cwd=folder)
    try:
        deadline = time.monotonic() + WAIT
        while b" ready." not in log.read_bytes():
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker didn't start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
