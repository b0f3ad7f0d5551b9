"""P14: the in-memory store: opens a second against a raw GET, bytes a session, and four threads against one."""

from __future__ import annotations

import gc
import itertools
import statistics
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from benchmarks.measure import interleaved
from sessionsweep import Sessions, Settings
from sessionsweep.model.ids import new_session_id
from sessionsweep.store import operations as op
from sessionsweep.store.memory import MemoryStore

MAC = bytes(16)
OPENED = 10_000  # sessions that are opened in turn
THREADS = 4


def in_memory(scale: Scale) -> list[Row]:
    """Speed in this process, size in one of its own."""
    store = MemoryStore()
    ids = _fill(store, OPENED)
    opens = [op.OpenSession(sid, (MAC,)) for sid in ids]
    turns = itertools.cycle(opens)
    sessions = Sessions(Settings(redis_url="memory://"))
    tokens = itertools.cycle([sessions.create()[1] for _ in range(1000)])
    execute = store.execute
    with Deployment() as d:
        d.client.set("raw", b"x" * 72)
        t = interleaved(
            {
                "open": lambda: execute(next(turns)),
                "whole": lambda: sessions.open(next(tokens)),
                "get": lambda: d.client.get("raw"),
            },
            rounds=scale.rounds * 2,
            calls=500,
        )
    sessions.close()
    one, four, ratio = _threads(store, opens, scale.rounds)
    size = _bytes_each(scale.sessions)
    get = per_second(t.rate("get"))
    return [
        Row("P14", "in memory: opens by the store, against a raw GET", per_second(t.rate("open")), get,
            t.ratio("open", "get"), Goal(least=40)),
        Row("P14", "… Sessions.open as a whole, with the token's hash", per_second(t.rate("whole")), get,
            t.ratio("whole", "get")),
        Row("P14", f"… bytes a session, {scale.sessions:,}", f"{size:.0f} B", "", size, Goal(most=400)),
        Row("P14", f"… {THREADS} threads against one", per_second(four), per_second(one), ratio, Goal(least=0.7)),
    ]  # fmt: skip


def _fill(store: MemoryStore, count: int) -> list[str]:
    ids = [new_session_id("00") for _ in range(count)]
    for sid in ids:
        store.execute(op.CreateSession(sid, bytes(bytearray(16)), 3_600_000, 0, 10_000))
    return ids


def _threads(store: MemoryStore, opens: list[op.OpenSession], rounds: int) -> tuple[float, float, float]:
    """(rate of one thread, of all together, the median of the rounds' ratios)."""
    shares = [opens[n::THREADS] for n in range(THREADS)]
    ones, fours = list[float](), list[float]()
    for _ in range(rounds):
        ones.append(_together(store, [opens]))
        fours.append(_together(store, shares))
    ratio = statistics.median(b / a for a, b in zip(ones, fours, strict=True))
    return statistics.median(ones), statistics.median(fours), ratio


def _together(store: MemoryStore, shares: list[list[op.OpenSession]]) -> float:
    execute = store.execute
    start = threading.Barrier(len(shares) + 1)

    def work(share: list[op.OpenSession]) -> None:
        start.wait()
        for operation in share:
            execute(operation)

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    start.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(map(len, shares)) / (time.perf_counter() - begun)


def _bytes_each(count: int) -> float:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_grow, args=(theirs, count), daemon=True)
    child.start()
    theirs.close()
    try:
        if not ours.poll(300):
            raise TimeoutError("the process that fills a store didn't answer within 300 s")
        return float(ours.recv())
    finally:
        child.kill()
        child.join()


def _grow(pipe: Connection, count: int) -> None:
    """Fills a store in this process and answers by how many bytes a session it grew."""
    store, make = MemoryStore(), _one_at_a_time
    make(store, 1000)
    gc.collect()
    before = resident()
    make(store, count)
    gc.collect()
    pipe.send((resident() - before) / count)


def _one_at_a_time(store: MemoryStore, count: int) -> None:
    create: Callable[[op.CreateSession], object] = store.execute
    for _ in range(count):
        # an id and a hash of its own for each, as requests bring them
        create(op.CreateSession(new_session_id("00"), bytes(bytearray(16)), 3_600_000, 0, 10_000))


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
