"""Open WebSockets of a session: registered while they last, closed when it ends on any node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from sessionsweep.sessions.aio_streams import AsyncStream

CLOSED = 4401  # WebSocket close code, of the range that RFC 6455 (7.4.2) leaves to applications; HTTP's 401
CLOSING = 4.0  # s that the closing handshake may take; the listening thread waits a second longer


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
