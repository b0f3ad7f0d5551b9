"""What soak and load test measure with: slopes over restarts, verdicts, a generator that waits for no answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from benchmarks.load import trends
from benchmarks.load.http11 import Address
from benchmarks.load.openloop import Generator, percentiles
from benchmarks.load.probes import Look
from benchmarks.load.tables import verdict
from benchmarks.load.visitors import Record, Visitor

AT_ONCE = 5
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def looks(pid: int, begun: float, start: int, growth: float) -> list[Look]:
    """A life of 100 looks, one a second, with an outlier here and there."""
    dice = random.Random(pid)
    return [
        Look(begun + s, "web-a", pid, round(start + growth * s) + 10**9 * (dice.random() < 0.1), 10, 8, 0.0)
        for s in range(100)
    ]


def test_growth_is_seen_within_each_life_and_a_restart_is_none() -> None:
    flat = [*looks(1, 0, 90_000, 0), *looks(2, 100, 50_000, 0), *looks(3, 200, 99_000, 0)]
    assert trends.slope(trends.lives(flat, "rss", 10)) == 0
    sawtooth = [*looks(1, 0, 90_000, 7), *looks(2, 100, 50_000, 7), *looks(3, 200, 99_000, 7)]
    slope = trends.slope(trends.lives(sawtooth, "rss", 10))
    assert slope is not None
    assert round(slope) == 7
    assert trends.longest(trends.lives(sawtooth, "rss", 10)) == 89
    assert trends.slope([[(0.0, 1.0), (1.0, 2.0)]]) is None, "too few to say anything"


def test_what_cannot_be_judged_is_neither_met_nor_short() -> None:
    assert verdict("x", 1.0, 1.0).said == "met"
    assert verdict("x", 1.1, 1.0).said == "SHORT"
    assert verdict("x", None, 1.0).said == "SHORT", "nothing was measured that should have been"
    assert verdict("x", 9.9, 1.0, judged=False).said == "not judged"


@contextlib.asynccontextmanager
async def node_that_answers_none_before_many_asked() -> AsyncIterator[Address]:
    """No answer leaves before so many requests wait for theirs: who asks one at a time never gets any."""
    asked, enough, serving = 0, asyncio.Event(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
                await reader.readexactly(length)
                asked += 1
                if asked == AT_ONCE:
                    enough.set()
                await enough.wait()
                writer.write(FAILED)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]
        await asyncio.gather(*serving)  # each ends when its client has closed


async def test_requests_are_sent_when_they_are_meant_to_be_and_not_when_an_answer_came() -> None:
    record, enough = Record(), asyncio.Event()
    async with node_that_answers_none_before_many_asked() as node:
        visitors = [Visitor(n, "seed", [node], record, 60) for n in range(50)]
        generator = asyncio.create_task(Generator(visitors, "seed").run(500, 600, enough))
        while record.counts["create"] < AT_ONCE:
            await asyncio.sleep(0)
        enough.set()
        measured = await generator
    assert measured.failures == record.counts["create"] >= AT_ONCE
    assert set(measured.failed) == {"status 500"}, "each was answered, though none before the fifth was asked"
    assert percentiles(measured.answered)["max"] == 0, "an answer that isn't the wanted one is no latency"
