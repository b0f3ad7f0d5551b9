"""The asynchronous Redis store: one link per event loop, concurrent operations of one tick in one pipeline."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import redis.asyncio
from redis import exceptions as driver

from sessionsweep.errors import StoreError, StoreUnavailableError
from sessionsweep.store.keys import Keys
from sessionsweep.store.operations import Operation
from sessionsweep.store.redis import replies, scripts
from sessionsweep.store.redis.link import Link
from sessionsweep.store.redis.sync import RedisStore
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
        self._links: dict[asyncio.AbstractEventLoop, Link] = {}
        self._closed: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()  # loops that have closed theirs
        self._latest: tuple[asyncio.AbstractEventLoop, Link, int] | None = None
        self._pid = os.getpid()

    async def execute(self, operation: Operation[R]) -> R:
        """Carries one out; see AsyncStore.execute."""
        wire = WIRE[type(operation)]
        packed = wire.pack(operation, self.keys, self._sha)
        reply = await self._link().call(packed, wire.script, operation.repeatable)
        return wire.read(operation, reply)  # type: ignore[no-any-return]

    async def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """Many in one round trip; a failed one answers its error in its place."""
        try:
            link = self._link()
        except StoreUnavailableError as error:
            return [error] * len(operations)
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
            out.append(wire.outcome(operation, answer))
        return out

    async def nudges(self, locations: Sequence[str], poll: float) -> AsyncIterator[str]:
        """See RedisStore.nudges."""
        told = False
        loop = asyncio.get_running_loop()
        while loop not in self._closed:
            client = redis.asyncio.Redis.from_url(self.url, socket_timeout=self._timeout, protocol=2)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(*[self.keys.nudge(location) for location in locations])
                    while loop not in self._closed:
                        yield replies.location(await pubsub.get_message(timeout=poll))
            except (driver.RedisError, OSError, EOFError) as error:
                if isinstance(error, driver.ResponseError) and not told:
                    told = True
                    replies.warn_deaf(error)
                await asyncio.sleep(min(poll, 1.0))
                yield ""
            finally:
                await client.aclose()

    def blocking(self) -> RedisStore:
        """See AsyncStore.blocking."""
        return RedisStore(
            self.url, self.keys.namespace, socket_timeout=self._timeout, test_clock=self._clock is not None
        )

    async def close(self) -> None:
        """Closes this loop's link for good; other loops keep theirs. Idempotent."""
        loop = asyncio.get_running_loop()
        self._closed.add(loop)
        self._latest = None
        link = self._links.pop(loop, None)
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
            self._links = {}
        if loop in self._closed:
            raise replies.closed()
        link = self._links.get(loop)
        if link is None:
            for other in list(self._links):
                if other.is_closed():  # it ended without `close`
                    self._links.pop(other, None)
            link = self._links[loop] = Link(self.url, self._timeout, self._clock)
        self._latest = (loop, link, pid)
        return link

    def _sha(self, name: str) -> str:
        return scripts.shas(self._clock)[name]
