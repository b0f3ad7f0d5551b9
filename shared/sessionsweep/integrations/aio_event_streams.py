"""Server-sent events of an asynchronous iterator: registered while they last, closed when their session ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Any

from sessionsweep.errors import SessionEndedError
from sessionsweep.integrations import events
from sessionsweep.sessions.aio_streams import AsyncStream


class AsyncEventStream:
    """The body of an ASGI response, as an asynchronous iterator of bytes; items as in `EventStream`.

    The app's iterator runs in a task of its own: what ends the session cancels that, never the server's own sending.
    """

    def __init__(self, source: AsyncIterable[Any], stream: AsyncStream, keep_alive: float) -> None:
        self._source = source
        self._stream = stream
        self._keep_alive = keep_alive
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue(1)  # None: it is over
        self._task: asyncio.Task[None] | None = None
        self._begun: asyncio.Future[None] | None = None
        self._last: bytes | None = None
        self._error: Exception | None = None
        self._closed = False

    async def begin(self) -> None:
        """Registers it; the source begins to run. Again is harmless.

        Raises:
            SessionEndedError, LimitReachedError, StoreError
        """
        if self._begun is None:
            self._loop = asyncio.get_running_loop()
            self._begun = self._loop.create_future()
            self._task = asyncio.create_task(self._pump(self._begun), name="sessionsweep-events")
        await asyncio.shield(self._begun)

    def __aiter__(self) -> AsyncEventStream:
        return self

    async def __anext__(self) -> bytes:
        if self._closed:
            raise StopAsyncIteration
        await self.begin()
        try:
            async with asyncio.timeout(self._keep_alive):
                chunk = await self._ready.get()
        except TimeoutError:
            return events.KEEP_ALIVE
        if chunk is not None:
            return chunk
        self._ready.put_nowait(None)  # for whoever asks again
        last, self._last = self._last, None
        error, self._error = self._error, None
        if last is not None:
            return last
        if error is not None:
            raise error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stops the source and gives the stream back. Idempotent."""
        self._closed = True
        if self._task is None:
            await self._close_source()
        elif not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def close(self) -> None:
        """The same from any thread, without waiting for it."""
        self._closed = True
        if self._task is not None:
            with suppress(RuntimeError):  # the loop is closed, and every task of it with it
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _pump(self, begun: asyncio.Future[None]) -> None:
        try:
            async with self._stream:
                begun.set_result(None)
                async for item in self._source:
                    if item is not None:
                        await self._ready.put(events.frame(item))
        except Exception as error:
            if not begun.done():
                begun.set_exception(error)
            elif isinstance(error, SessionEndedError):
                self._last = events.ended(error.reason or "")
            else:
                self._error = error
            while not self._ready.empty():
                self._ready.get_nowait()  # the end overtakes an event that nobody has taken
        finally:
            begun.cancel()  # unless it has begun or failed: it was cancelled before
            await self._close_source()
        await self._ready.put(None)

    async def _close_source(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()
