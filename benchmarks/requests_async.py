"""P2: `AsyncSessions.open` by 50 tasks at once in one process, against redis-py's asynchronous GET by as many."""

from __future__ import annotations

import asyncio
import itertools

import redis.asyncio

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from benchmarks.measure import Timings, interleaved_async
from benchmarks.requests_sync import CLIENT, DATA, MANY
from sessionsweep import AsyncSessions

CONCURRENT = 50


def async_open(scale: Scale) -> list[Row]:
    """Both sides on one event loop, in turns."""
    with Deployment() as d:
        bare = [d.sessions.create()[1] for _ in range(MANY)]
        full = [d.sessions.create(CLIENT, user="ana", data=DATA)[1] for _ in range(MANY)]
        size = int(d.client.strlen(d.store.keys.session(bare[0][:20])))
        names = [f"raw:{i:036}" for i in range(MANY)]
        d.client.mset(dict.fromkeys(names, b"x" * size))
        timings = asyncio.run(_measure(d, bare, full, names, scale))
    get = per_second(timings.rate("get"))
    return [
        Row("P2", "async open, 50 at once, against redis-py's GET", per_second(timings.rate("open")), get,
            timings.ratio("open", "get"), Goal(least=4)),
        Row("P2", "… with client, user and data", per_second(timings.rate("full")), get,
            timings.ratio("full", "get")),
    ]  # fmt: skip


async def _measure(d: Deployment, bare: list[str], full: list[str], names: list[str], scale: Scale) -> Timings:
    sessions = AsyncSessions(d.settings)
    client = redis.asyncio.Redis.from_url(d.server.url)
    bare_turns, full_turns, get_turns = itertools.cycle(bare), itertools.cycle(full), itertools.cycle(names)
    try:
        return await interleaved_async(
            {
                "open": lambda: sessions.open(next(bare_turns)),
                "full": lambda: sessions.open(next(full_turns), CLIENT),
                "get": lambda: client.get(next(get_turns)),
            },
            rounds=scale.rounds * 2,
            calls=20,
            concurrent=CONCURRENT,
        )
    finally:
        await sessions.close()
        await client.aclose()
