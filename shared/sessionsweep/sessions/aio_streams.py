"""An open stream in asynchronous code: a block that is left with an error when its session ends anywhere."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING

from sessionsweep.errors import SessionEndedError, StoreError
from sessionsweep.sessions import files
from sessionsweep.sessions.streams import Stream

if TYPE_CHECKING:
    from sessionsweep.sessions.aio import AsyncSession

log = logging.getLogger(__name__)


class AsyncStream:
    """`async with session.stream("chat"):` registers a stream for as long as the block runs.

    When the session ends, on whichever node and for whatever reason, the block is cancelled where it waits, as
    `asyncio.timeout` does it, and left with SessionEndedError, whose `reason` says why. The end of the block is what
    the listening thread acknowledges: what closes the connection belongs into the block's own `finally`.
    """

    def __init__(self, session: AsyncSession, purpose: str, linger: float) -> None:
        self._session = session
        self._streams = session._sessions.streams
        self._linger = linger
        self._stream = Stream(session.id, purpose, self._end)
        self._closed: Future[None] = Future()
        self._left = self._cancelled = False

    @property
    def id(self) -> str:
        """The stream's resource id."""
        return self._stream.id

    @property
    def reason(self) -> str | None:
        """Why it was closed from elsewhere; None: it wasn't."""
        return self._stream.reason

    async def __aenter__(self) -> AsyncStream:
        """Raises SessionEndedError, LimitReachedError (MAX_STREAMS_PER_SESSION), StoreError."""
        task = asyncio.current_task()
        assert task is not None, "a stream is opened in a task"
        self._loop, self._task, self._cancelling = asyncio.get_running_loop(), task, task.cancelling()
        await asyncio.to_thread(self._streams.begin)
        if not self._streams.admit(self._stream, self._linger):
            await self._register()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        try:
            if self._streams.leave(self._stream, self._linger):
                await asyncio.shield(self._give_back())
        finally:
            if not self._closed.done():
                self._closed.set_result(None)
        if self._cancelled:
            alone = self._task.uncancel() <= self._cancelling  # nobody else wants this task cancelled
            if kind is None or (alone and kind is asyncio.CancelledError):
                raise SessionEndedError(self.reason, self._session.id) from error

    async def _register(self) -> None:
        s, stream = self._session, self._stream
        register = files.register(
            s._core, s._record, stream.id, "stream", stream.location, 0, stream.purpose, live=True
        )
        try:
            await s._run(register)
        except BaseException:
            self._streams.drop(stream)
            await asyncio.shield(self._give_back())  # cancelled, or only its answer was lost: it may be registered
            raise
        stream.registered = True

    async def _give_back(self) -> None:
        try:
            await self._session._sessions.store.execute(self._streams.gone(self._stream))
        except StoreError as error:
            log.warning("a stream that is over is given back later: %s", error)
            self._streams.give_back_later(self._stream)

    def _end(self, reason: str) -> Future[None]:
        """In the listening thread."""
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # the loop is closed, and every connection of it with it
            if not self._closed.done():
                self._closed.set_result(None)
        return self._closed

    def _cancel(self) -> None:
        if not self._left:
            self._cancelled = True
            self._task.cancel()
