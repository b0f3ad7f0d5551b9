"""Open WebSockets and event streams of a session: registered while they last, closed when it ends on any node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from sessionsweep.errors import SessionEndedError
from sessionsweep.integrations import events
from sessionsweep.sessions.aio_streams import AsyncStream

log = logging.getLogger(__name__)

CLOSED = 4401  # WebSocket close code, of the range that RFC 6455 (7.4.2) leaves to applications; HTTP's 401
CLOSING = 4.0  # s that the closing handshake may take; the listening thread waits a second longer
SILENCE = 15.0  # s after which a comment keeps proxies from closing the connection


class WebSocketLike(Protocol):
    """What Starlette's WebSocket has, and any other may have."""

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Closes it."""


@asynccontextmanager
async def closed_with_its_session(
    websocket: WebSocketLike, stream: AsyncStream, code: int
) -> AsyncIterator[AsyncStream]:
    """Registers a WebSocket for the block; when its session ends, the block is cancelled and the socket closed."""
    async with stream:
        try:
            yield stream
        finally:
            if stream.reason is not None:
                # before the stream is acknowledged; a peer that is gone keeps nobody waiting
                with suppress(TimeoutError, RuntimeError, OSError):
                    async with asyncio.timeout(CLOSING):
                        await websocket.close(code, f"session ended: {stream.reason}")


class EventStream:
    """Server-sent events, as an asynchronous iterator of bytes: see `RequestSession.events`.

    The app's iterator runs in a task of its own: what ends the session cancels that, never the server's own sending.
    """

    def __init__(self, source: AsyncIterable[Any], stream: AsyncStream) -> None:
        self._source = source
        self._stream = stream
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
            self._begun = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._pump(self._begun), name="sessionsweep-events")
        await asyncio.shield(self._begun)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> bytes:
        if self._closed:
            raise StopAsyncIteration
        await self.begin()
        try:
            async with asyncio.timeout(SILENCE):
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

    async def _pump(self, begun: asyncio.Future[None]) -> None:
        try:
            async with self._stream:
                begun.set_result(None)
                async for item in self._source:
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
