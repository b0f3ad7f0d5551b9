"""The asynchronous Redis store: one link per event loop, concurrent operations of one tick in one pipeline."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import redis.asyncio

from sessionsweep.errors import StoreError
from sessionsweep.store.keys import Keys
from sessionsweep.store.operations import Operation
from sessionsweep.store.redis import scripts
from sessionsweep.store.redis.link import BROKEN, Link
from sessionsweep.store.redis.wire import WIRE

R = TypeVar("R")


class AsyncRedisStore:
    """See store.protocol.AsyncStore. Any number of event loops and forks may use one: each gets its own link."""

    def __init__(
        self, url: str, namespace: str = "ss", *, socket_timeout: float = 5.0, test_clock: bool = False
    ) -> None:
        self.url = url
        self.keys = Keys(namespace)
        self._timeout = socket_timeout
        self._clock = namespace if test_clock else None
        self._links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = weakref.WeakKeyDictionary()
        self._latest: tuple[asyncio.AbstractEventLoop, Link, int] | None = None
        self._pid = os.getpid()
        self._closed = False

    async def execute(self, operation: Operation[R]) -> R:
        """Carries one out; see AsyncStore.execute."""
        wire = WIRE[type(operation)]
        packed = wire.pack(operation, self.keys, self._sha)
        reply = await self._link().call(packed, wire.script, operation.repeatable)
        return wire.decode(operation, reply)  # type: ignore[no-any-return]

    async def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """Many in one round trip; a failed one answers its error in its place."""
        link = self._link()
        wires = [WIRE[type(operation)] for operation in operations]
        calls = [
            link.call(wire.pack(operation, self.keys, self._sha), wire.script, operation.repeatable)
            for operation, wire in zip(operations, wires, strict=True)
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        out: list[Any | StoreError] = []
        for operation, wire, answer in zip(operations, wires, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, StoreError):
                raise answer
            out.append(answer if isinstance(answer, StoreError) else wire.decode(operation, answer))
        return out

    async def nudges(self, locations: Sequence[str], poll: float) -> AsyncIterator[str]:
        """Locations that became due, as they are published; "" every `poll` seconds without one."""
        while not self._closed:
            client = redis.asyncio.Redis.from_url(self.url, protocol=2)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(*[self.keys.nudge(location) for location in locations])
                    while not self._closed:
                        message = await pubsub.get_message(timeout=poll)
                        # anybody may publish: what is no location is looked at like the end of a wait
                        yield message["data"].decode("utf-8", "replace") if message else ""
            except BROKEN:
                await asyncio.sleep(min(poll, 1.0))
                yield ""
            finally:
                await client.aclose()

    async def close(self) -> None:
        """Closes this loop's link. Idempotent."""
        self._closed = True
        self._latest = None
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.close()

    def _link(self) -> Link:
        loop, pid = asyncio.get_running_loop(), os.getpid()
        latest = self._latest
        if latest is not None and latest[0] is loop and latest[2] == pid:
            return latest[1]
        if self._pid != pid:
            # a fork: what was inherited belongs to the parent and is never spoken on here
            self._pid = pid
            self._links = weakref.WeakKeyDictionary()
        link = self._links.get(loop)
        if link is None:
            link = self._links[loop] = Link(self.url, self._timeout, self._clock)
        self._latest = (loop, link, pid)  # a look into the dictionary of weak references costs 1 us
        return link

    def _sha(self, name: str) -> str:
        return scripts.shas(self._clock)[name]
