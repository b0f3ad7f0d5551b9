"""The session of the request or WebSocket at hand: opened when it came in, made when something is first to be kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from sessionsweep.errors import ConfigurationError, StoreError
from sessionsweep.integrations import others
from sessionsweep.integrations.aio_event_streams import AsyncEventStream
from sessionsweep.integrations.asgi.data import SessionData
from sessionsweep.integrations.asgi.streams import CLOSED, WebSocketLike, closed_with_its_session
from sessionsweep.integrations.asgi.types import Scope
from sessionsweep.integrations.blocks import asynchronous
from sessionsweep.integrations.events import SILENCE
from sessionsweep.integrations.others import OtherSession
from sessionsweep.integrations.request import RequestView
from sessionsweep.model.session import Client, check_user
from sessionsweep.sessions.aio import AsyncSession, AsyncSessionFile, AsyncSessions
from sessionsweep.sessions.aio_streams import AsyncStream
from sessionsweep.sessions.view import Resource
from sessionsweep.store.flow import Flow, run_async

R = TypeVar("R")
SCOPE_KEY = "sessionsweep"
TWO_MIDDLEWARES = (
    "two session middlewares: leave Starlette's SessionMiddleware (or what else sets scope['session']) out, since "
    "request.session is ours; a mounted app that needs its own goes into without_session"
)


class RequestSession(RequestView[AsyncSession]):
    """The client's session, if it has one. True where it has. Every use of it makes the answer depend on the cookie."""

    def __init__(
        self,
        sessions: AsyncSessions,
        client: Client,
        session: AsyncSession | None = None,
        failure: StoreError | None = None,
    ) -> None:
        #: All sessions of the deployment: to list, end or attach to any of them.
        self.sessions = sessions
        self._client = client
        self._session = session
        self._data = SessionData(session.data if session else None, failure)
        self._making = asyncio.Lock()
        self._sealed = False
        self._was_used = False
        self._events: list[AsyncEventStream] = []
        #: For the response: a new token for it, or whether to remove the old one.
        self.new_token: str | None = None
        self.removed = False

    # reading

    @property
    def session(self) -> AsyncSession | None:
        """The session itself; None for a client without a live one. Raises StoreError where that isn't known."""
        self._was_used = True
        if self._data.failure is not None:
            raise self._data.failure
        return self._session

    @property
    def data(self) -> dict[str, Any]:
        """Anything that is JSON; the same dict as `request.session`. Changes are saved when the response starts."""
        self._data.mark_accessed()
        return self._data

    def time_left(self) -> float | None:
        """Seconds until it is over if nothing touches it, as of this request; None: there is no session."""
        return None if self.session is None else self.session.expires_in

    async def resources(self) -> list[Resource]:
        """What it owns, oldest first."""
        return [] if self.session is None else await self.session.resources()

    async def open_file(self, resource_id: str) -> BinaryIO:
        """A file of this session, for reading in a thread; a FileResponse can't know whose file it is.

        Raises:
            ResourceNotFoundError: also where there is no session. VolumeNotHereError: with the nodes to ask.
        """
        return await self._owner(resource_id).open_file(resource_id)

    # keeping

    async def require(self) -> AsyncSession:
        """The session, made now if there is none.

        Raises:
            LimitReachedError, StoreFullError
        """
        async with self._making:  # two files made at once belong to one session
            return self.session or await self._create(None)

    async def save(self) -> None:
        """Saves changed data now: for WebSockets, and after the response has started.

        Raises:
            SessionEndedError: it ended meanwhile; saving never resurrects.
        """
        if self._session is None:
            if self._data.peek():
                await self.require()
            return
        self._session.data = self._data.peek()
        if await self._session.save():
            self._data.replace(self._session.data)

    @asynchronous
    async def new_file(
        self, purpose: str = "", suffix: str = "", *, max_size: int | None = None, volume: str | None = None
    ) -> AsyncIterator[AsyncSessionFile]:
        """A new file, as a context manager; see `Session.new_file`. If it fails, a session made for it stays, empty."""
        async with (await self.require()).new_file(purpose, suffix, max_size=max_size, volume=volume) as file:
            yield file

    @asynchronous
    async def temp_file(self, suffix: str = "", *, max_size: int | None = None) -> AsyncIterator[AsyncSessionFile]:
        """A file that is deleted at the end of the block."""
        async with (await self.require()).temp_file(suffix, max_size=max_size) as file:
            yield file

    async def adopt_file(
        self, path: str | Path, purpose: str = "", *, suffix: str | None = None, volume: str | None = None
    ) -> str:
        """Takes an existing file into the session: its resource id."""
        return await (await self.require()).adopt_file(path, purpose, suffix=suffix, volume=volume)

    async def delete(self, resource_id: str) -> None:
        """Gives a resource up. Raises ResourceNotFoundError."""
        await self._owner(resource_id).delete(resource_id)

    async def promote(self, resource_id: str, to: str | Path | None = None) -> Path:
        """Makes a file the app's own. Raises ResourceNotFoundError, VolumeNotHereError."""
        return await self._owner(resource_id).promote(resource_id, to)

    def pin(self, resource_id: str, max: float | str = "1h") -> AbstractAsyncContextManager[BinaryIO]:
        """Keeps a file from being destroyed while the block reads it."""
        return self._owner(resource_id).pin(resource_id, max)

    def keep_alive(self, max: float | str = "1h") -> AbstractAsyncContextManager[AsyncSession]:
        """Keeps the session alive while the block runs, at most `max`. Raises InvalidTokenError without a session."""
        return self.existing().keep_alive(max)

    async def extend(self, idle: float | None = None, max_duration: float | None = None) -> None:
        """Counts as activity; sets this session's own timeouts where given (seconds). Raises InvalidTokenError."""
        await self.existing().extend(idle, max_duration)

    async def touch(self) -> None:
        """Counts as activity: call it for each message of a stream that is a user's doing.

        Raises:
            InvalidTokenError: there is no session. SessionEndedError: no longer.
        """
        await self.extend()

    # who

    async def log_in(self, user: str) -> None:
        """Binds the session to a user under a new token; the old one dies, the files stay (ASVS 7.2.4).

        A session of another user is ended first, with all that it owns: one's files must not show up for another.

        Raises:
            LimitReachedError: MAX_SESSIONS_PER_USER, where ON_USER_LIMIT is `refuse`.
            TypeError, ValueError: no name of a user; nothing was done.
        """
        check_user(user)
        async with self._making:
            self._check_open()
            session = self.session
            if session is not None and session.user not in (None, user):
                await self.log_out()
                session = None
            if session is None:
                await self._create(user)
            else:
                self.new_token = await session.log_in(user)

    async def rotate(self) -> None:
        """A new token at once, for a change of rights; without a session nothing happens."""
        self._check_open()
        if self.session is not None:
            self.new_token = await self.session.rotate()

    async def log_out(self) -> None:
        """Ends the session: what it owned is deleted at once, its streams are closed, the cookie is removed."""
        self._check_open()
        if self.session is not None:
            await self.session.end()
        self._session = None
        self._data.replace({})
        self.new_token, self.removed = None, True

    async def others(self) -> list[OtherSession]:
        """The same user's other live sessions, the last seen first; empty for nobody."""
        return await self._run(others.listing(self.sessions.core, self.user, self.id))

    async def end_other(self, session_id: str) -> bool:
        """Ends one of the user's sessions by its public id. False: it is nobody's, or somebody else's, or this one."""
        return await self._run(others.end(self.sessions.core, self.user, self.id, session_id))

    async def log_out_others(self) -> int:
        """Ends all of the user's sessions but this one; how many."""
        return await self._run(others.end_all(self.sessions.core, self.user, self.id))

    # streams

    def stream(self, purpose: str = "", *, linger: float = 0.0) -> AsyncStream:
        """A long poll, or any connection: see `AsyncSession.stream`. Raises InvalidTokenError without a session."""
        return self.existing().stream(purpose, linger=linger)

    def websocket(
        self, websocket: WebSocketLike, purpose: str = "", *, linger: float = 0.0, code: int = CLOSED
    ) -> AbstractAsyncContextManager[AsyncStream]:
        """`async with` holds a WebSocket open for the session, accepted or not yet.

        When the session ends on any node, the block is left with SessionEndedError and the socket closed with `code`.

        Raises:
            InvalidTokenError: there is no session. LimitReachedError (MAX_STREAMS_PER_SESSION), StoreError
        """
        return closed_with_its_session(websocket, self.existing().stream(purpose, linger=linger), code)

    def events(
        self, source: AsyncIterable[Any], purpose: str = "events", *, keep_alive: float = SILENCE, linger: float = 0.0
    ) -> AsyncEventStream:
        """Server-sent events for a streaming response: what `source` yields, for as long as the session lives.

        Text is an event's data, a mapping its fields (`event`, `id`, `retry`, `data`), bytes go out as they are,
        None is skipped. While it is silent a comment goes out every `keep_alive` seconds; it is no activity. When the
        session ends on any node, the last event is `session-ended` with the reason. The stream is registered before
        the response starts, so that a limit is still a 429. `linger`: see `Session.stream`.

        Raises:
            InvalidTokenError: there is no session.
        """
        stream = AsyncEventStream(source, self.existing().stream(purpose, linger=linger), keep_alive)
        self._events.append(stream)
        return stream

    # the middleware's side

    async def finish(self) -> None:
        """Saves changed data and registers event streams; from now on nothing can be sent in headers any more."""
        try:
            if self._data.accessed:
                await self.save()
            for stream in self._events:
                await stream.begin()
        finally:
            self._sealed = True

    async def close(self) -> None:
        """The request is over: what it streamed is given back."""
        for stream in self._events:
            await stream.aclose()

    @property
    def was_read(self) -> bool:
        """Whether the response depends on the cookie."""
        return self._was_used or self._data.accessed

    @property
    def raw_data(self) -> SessionData:
        """For `scope["session"]`; handing it out is no use of it."""
        return self._data

    def peek_time_left(self) -> float | None:
        """Seconds left, for a header; no use of the session either."""
        return None if self._session is None else self._session.expires_in

    def adopt_data(self, scope: Scope) -> None:
        """Takes what the app put in place of `scope["session"]`.

        Raises:
            ConfigurationError: Starlette's own session middleware did.
        """
        found = scope.get("session")
        if type(found).__module__ == "starlette.middleware.sessions":
            raise ConfigurationError(TWO_MIDDLEWARES)
        if found is not self._data:
            self._data.replace(dict(found) if isinstance(found, dict) else {})
            self._data.accessed = True

    async def _create(self, user: str | None) -> AsyncSession:
        self._check_open()
        kept = self._data.peek()
        self._session, self.new_token = await self.sessions.create(self._client, user, kept)
        self.removed = False
        return self._session

    async def _run(self, flow: Flow[R]) -> R:
        return await run_async(flow, self.sessions.store)

    def _check_open(self) -> None:
        if self._sealed:
            raise RuntimeError("The response's headers are sent; make or change the session before it starts.")

    def __repr__(self) -> str:
        return f"<RequestSession {self._session!r}>"


def current_session(connection: Any) -> RequestSession:
    """The session of a request, a WebSocket, or an ASGI scope.

    Raises:
        RuntimeError: no SessionSweepMiddleware has seen it.
    """
    scope = connection if isinstance(connection, dict) else connection.scope
    try:
        return cast(RequestSession, scope[SCOPE_KEY])
    except KeyError:
        raise RuntimeError("There is no session here: add SessionSweepMiddleware to the app.") from None
