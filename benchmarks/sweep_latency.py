"""P7: what a request of another process waits for while a large backlog of due sessions is swept."""

from __future__ import annotations

import contextlib
import statistics
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from benchmarks.measure import percentile
from sessionsweep import Sessions, Settings
from sessionsweep.engine.results import SweepResult
from sessionsweep.engine.sweep import Sweep

BETWEEN = 0.0005  # seconds between two requests of the observer, so that it asks and doesn't crowd
SPEEDS = {"quiet": None, "paced": 0.5, "full": 1.0}  # effort; 0.5 is the engine's default


def latency_under_sweep(scale: Scale) -> list[Row]:
    """Windows in turn: no sweep, the default pacing, full speed; the same backlog and the same observer throughout."""
    window = 1.0 if scale.quick else 2.0
    rounds = 5 if scale.quick else 7
    with Deployment(cleanup_interval=10) as d:
        tokens = [d.sessions.create()[1] for _ in range(200)]
        d.fill(scale.sessions, idle=0.001)
        d.wait_until(d.now() + 2 * d.sessions.core.width)
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        observer = context.Process(target=_observe, args=(theirs, d.server.url, tokens), daemon=True)
        observer.start()
        theirs.close()  # so that an observer that dies ends the wait for it
        try:
            ours.recv()
            p99, rate = _windows(d, ours, window, rounds)
        finally:
            with contextlib.suppress(OSError):
                ours.send(None)
            observer.join(10)
            if observer.is_alive():
                observer.kill()
                observer.join()
    ratio = statistics.median(a / b for a, b in zip(p99["paced"], p99["quiet"], strict=True))
    speed = statistics.median(a / b for a, b in zip(rate["paced"], rate["full"], strict=True))
    full = statistics.median(a / b for a, b in zip(p99["full"], p99["quiet"], strict=True))
    middle = {name: statistics.median(values) for name, values in p99.items()}
    return [
        Row("P7", f"p99 of an open while {scale.sessions:,} due are swept, default pacing, against no sweep",
            f"{middle['paced']:.2f} ms", f"{middle['quiet']:.2f} ms", ratio, Goal(most=3)),
        Row("P7", "… its rate against full speed", per_second(statistics.median(rate["paced"])),
            per_second(statistics.median(rate["full"])), speed, Goal(least=0.4)),
        Row("P7", "… p99 at full speed", f"{middle['full']:.2f} ms", f"{middle['quiet']:.2f} ms", full),
    ]  # fmt: skip


def _windows(
    d: Deployment, observer: Connection, window: float, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    sweep = Sweep(d.sessions.core, d.store)
    p99: dict[str, list[float]] = {name: [] for name in SPEEDS}
    rate: dict[str, list[float]] = {"paced": [], "full": []}
    sweep.run_once(budget=0.1)
    for _ in range(rounds):
        for name, effort in SPEEDS.items():
            observer.send("begin")
            if effort is None:
                time.sleep(window)
            else:
                result: SweepResult = sweep.run_once(budget=window, effort=effort)
                rate[name].append((result.idle + result.expired) / result.seconds)
                if not result.more:  # the backlog is used up: what follows would be quiet windows under another name
                    observer.send("end")
                    observer.recv()
                    if not p99["full"]:
                        raise AssertionError("the backlog was gone before one round was over")
                    shortest = len(p99["full"])
                    return ({n: v[:shortest] for n, v in p99.items()}, {n: v[:shortest] for n, v in rate.items()})
            observer.send("end")
            p99[name].append(percentile(observer.recv(), 0.99) * 1000)
    return p99, rate


def _observe(pipe: Connection, url: str, tokens: list[str]) -> None:
    """Another process's requests: opens one session after the other and answers how long each took (s)."""
    from benchmarks.deployment import SECRET

    sessions = Sessions(Settings(redis_url=url, secret_key=SECRET))
    for token in tokens:
        sessions.open(token)
    pipe.send("ready")
    while pipe.recv() is not None:
        times = list[float]()
        while not pipe.poll(BETWEEN):
            begun = time.perf_counter()
            sessions.open(tokens[len(times) % len(tokens)])
            times.append(time.perf_counter() - begun)
        pipe.recv()
        pipe.send(times)
    sessions.close()
