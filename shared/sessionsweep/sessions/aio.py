"""Sessions for asynchronous code: the same names as the synchronous ones, awaited; file work runs in threads."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from sessionsweep.deployment import Core
from sessionsweep.errors import InvalidTokenError
from sessionsweep.model.session import Client, SessionRecord
from sessionsweep.model.states import EndReason
from sessionsweep.sessions import books, files, lifecycle, listing
from sessionsweep.sessions.aio_streams import AsyncStream
from sessionsweep.sessions.connect import environment_settings, leave, make_async_store
from sessionsweep.sessions.connections import connections as live_connections
from sessionsweep.sessions.streams import Streams
from sessionsweep.sessions.view import Connection, Resource, SessionView, Stats
from sessionsweep.store.flow import Flow, run_async
from sessionsweep.store.protocol import AsyncStore
from sessionsweep.units import parse_duration
from sessionsweep.volumes.files import NewFile

if TYPE_CHECKING:
    from sessionsweep.settings import Settings

R = TypeVar("R")
NOBODY = Client()
COPY_CHUNK = 1_048_576  # bytes of an upload read at once


class AsyncSessions:
    """See Sessions; every call that reaches the store is awaited. Usable from any number of event loops."""

    def __init__(self, settings: Settings | None = None, *, store: AsyncStore | None = None) -> None:
        self.settings = settings or environment_settings()
        self.core = Core(self.settings)
        self.store = store or make_async_store(self.settings, self.core)
        # a thread listens for streams, with a store of its own: a loop that is busy must not look like a dead process
        self.blocking = self.store.blocking()
        self.streams = Streams(self.core, self.blocking)

    @classmethod
    def from_env(cls) -> AsyncSessions:
        """From the SESSIONSWEEP_… variables. Raises ConfigurationError."""
        return cls(environment_settings())

    async def create(
        self, client: Client = NOBODY, user: str | None = None, data: Mapping[str, Any] | None = None
    ) -> tuple[AsyncSession, str]:
        """See Sessions.create."""
        creating = lifecycle.create(self.core, client, user, lifecycle.encode_data(data or {}))
        (record, now), token = await self._run(creating)
        return AsyncSession(self, record, now, by_token=True), token

    async def open(self, token: str, client: Client = NOBODY, *, touch: bool = True) -> AsyncSession:
        """See Sessions.open."""
        return AsyncSession(
            self, *await self._run(lifecycle.open_session(self.core, token, client, touch)), by_token=True
        )

    async def attach(self, session_id: str) -> AsyncSession:
        """See Sessions.attach."""
        return AsyncSession(self, *await self._run(lifecycle.attach(self.core, session_id)))

    async def get(self, session_id: str) -> AsyncSession | None:
        """See Sessions.get."""
        try:
            return await self.attach(session_id)
        except InvalidTokenError:
            return None

    async def track(self, key: str, user: str | None = None, data: Mapping[str, Any] | None = None) -> AsyncSession:
        """See Sessions.track."""
        return AsyncSession(self, *await self._run(lifecycle.track(self.core, key, user, data or {})))

    async def end(
        self, session_id: str | None = None, *, key: str | None = None, reason: str = EndReason.ADMIN
    ) -> bool:
        """See Sessions.end."""
        return await self._run(lifecycle.end_named(self.core, session_id, key, reason))

    async def end_user(self, user: str, *, except_id: str | None = None, reason: str = EndReason.USER) -> int:
        """See Sessions.end_user."""
        return await self._run(lifecycle.end_user(self.core, user, except_id, reason))

    async def list(
        self, user: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[AsyncSession], str | None]:
        """See Sessions.list."""
        found, following = await self._run(listing.live(self.core, user, cursor, limit))
        return [AsyncSession(self, record, now) for record, now in found], following

    async def connections(self, user: str) -> builtins.list[Connection]:
        """See Sessions.connections."""
        return await self._run(live_connections(self.core, user))

    async def stats(self) -> Stats:
        """See Sessions.stats."""
        return await self._run(books.stats(self.core))

    async def close(self) -> None:
        """See Sessions.close; other event loops that use this keep their connections."""
        await asyncio.to_thread(self.core.close)
        if leave(self.core):
            await self.store.close()
            await asyncio.to_thread(self.blocking.close)

    async def _run(self, flow: Flow[R]) -> R:
        return await run_async(flow, self.store)


class AsyncSession(SessionView):
    """See Session."""

    def __init__(self, sessions: AsyncSessions, record: SessionRecord, now: int, *, by_token: bool = False) -> None:
        super().__init__(record, now, by_token=by_token)
        self._sessions = sessions

    async def log_in(self, user: str) -> str:
        """See Session.log_in."""
        return await self._rotated(user)

    async def rotate(self) -> str:
        """See Session.rotate."""
        return await self._rotated(None)

    async def extend(self, idle: float | None = None, max_duration: float | None = None) -> None:
        """See Session.extend."""
        self._renewed(*await self._run(lifecycle.extend(self._core, self.id, idle, max_duration)))

    async def save(self) -> bool:
        """See Session.save."""
        changes = self._changes()
        if changes:
            self._renewed(*await self._run(lifecycle.save(self._core, self.id, changes, self._mac)), data=True)
        return bool(changes)

    async def end(self, reason: str = EndReason.LOGOUT) -> bool:
        """See Session.end."""
        return (await self._run(lifecycle.end(self._core, self.id, reason))).done

    def new_file(
        self, purpose: str = "", suffix: str = "", *, max_size: int | None = None, volume: str | None = None
    ) -> AsyncSessionFile:
        """See Session.new_file; an asynchronous context manager."""
        return AsyncSessionFile(self, purpose, suffix, max_size, volume)

    def temp_file(self, suffix: str = "", *, max_size: int | None = None) -> AsyncSessionFile:
        """See Session.temp_file."""
        return AsyncSessionFile(self, "temp", suffix, max_size, None, temporary=True)

    async def adopt_file(
        self, path: str | Path, purpose: str = "", *, suffix: str | None = None, volume: str | None = None
    ) -> str:
        """See Session.adopt_file."""
        return await self._run(files.adopt(self._core, self._record, Path(path), purpose, suffix, volume))

    async def resources(self) -> list[Resource]:
        """See Session.resources."""
        return [Resource.of(record) for record in await self._run(files.listed(self.id))]

    async def open_file(self, resource_id: str) -> BinaryIO:
        """See Session.open_file; the file itself blocks: read it in a thread."""
        volume = await self._run(files.located(self._core, self.id, resource_id))
        return await asyncio.to_thread(volume.open_file, self.id, resource_id)

    async def delete(self, resource_id: str) -> None:
        """See Session.delete."""
        await self._run(files.delete(self.id, resource_id))

    async def promote(self, resource_id: str, to: str | Path | None = None) -> Path:
        """See Session.promote."""
        target = Path(to) if to is not None else None
        return await self._run(files.promote(self._core, self.id, resource_id, target))

    def stream(self, purpose: str = "", *, linger: float = 0.0) -> AsyncStream:
        """An open connection: `async with` registers it, and is left with SessionEndedError when the session ends.

        `linger`: see Session.stream.
        """
        return AsyncStream(self, purpose, linger)

    @asynccontextmanager
    async def keep_alive(self, max: float | str = "1h") -> AsyncIterator[AsyncSession]:
        """See Session.keep_alive."""
        token = secrets.token_hex(8)
        await self._run(lifecycle.keep_alive(self._core, self.id, token, parse_duration(max)))
        try:
            yield self
        finally:
            await asyncio.shield(self._run(lifecycle.let_go(self._core, self.id, token)))

    @asynccontextmanager
    async def pin(self, resource_id: str, max: float | str = "1h") -> AsyncIterator[BinaryIO]:
        """See Session.pin."""
        token = secrets.token_hex(8)
        await self._run(lifecycle.keep_alive(self._core, self.id, token, parse_duration(max), resource_id))
        try:
            with await self.open_file(resource_id) as opened:
                yield opened
        finally:
            await asyncio.shield(self._run(lifecycle.let_go(self._core, self.id, token)))

    @property
    def _core(self) -> Core:
        return self._sessions.core

    async def _rotated(self, user: str | None) -> str:
        (record, now), token = await self._run(lifecycle.rotate(self._core, self._record, user))
        self._renewed(record, now)
        return token

    async def _run(self, flow: Flow[R]) -> R:
        return await run_async(flow, self._sessions.store)


class AsyncSessionFile:
    """See SessionFile. Writes run in threads; a reservation grows on the event loop before the bytes are written."""

    def __init__(
        self,
        session: AsyncSession,
        purpose: str,
        suffix: str,
        max_size: int | None,
        volume: str | None,
        temporary: bool = False,
    ) -> None:
        self._session = session
        self._wanted = (purpose, suffix, max_size, volume)
        self._temporary = temporary
        self._file: NewFile | None = None
        self._renewed = 0.0
        self._limit = 0
        self.id = ""

    async def __aenter__(self) -> AsyncSessionFile:
        s = self._session
        self.id, self._volume, self._limit = await s._run(files.begin(s._core, s._record, *self._wanted))
        self._renewed = time.monotonic()
        try:
            make = partial(self._volume.create, s.id, self.id, limit=self._limit)
            self._file = await asyncio.to_thread(make)
        except BaseException:
            await asyncio.shield(s._run(files.abandon(s.id, self.id)))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # shielded: a cancelled request still commits or discards as a whole
        await asyncio.shield(self._leave(discard=kind is not None or self._temporary))

    @property
    def file(self) -> NewFile:
        """The open file on its volume; it blocks."""
        if self._file is None:
            raise ValueError("use it as a context manager: async with session.new_file(...) as f")
        return self._file

    @property
    def path(self) -> Path:
        """See SessionFile.path."""
        return self.file.path

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.file.size

    async def write(self, data: bytes) -> int:
        """See SessionFile.write."""
        end = await asyncio.to_thread(self.file.tell) + len(data)
        stale = time.monotonic() - self._renewed > self._session._core.settings.intent_timeout / 3
        if end > self._limit or stale:
            await self._grow(max(end, self.size))
        return await asyncio.to_thread(self.file.write, data)

    async def copy_from(self, source: Any) -> int:
        """Copies a path, a binary file, or an upload with an asynchronous `read(size)`; bytes copied."""
        if isinstance(source, str | Path):
            with await asyncio.to_thread(Path(source).open, "rb") as opened:
                return await self.copy_from(opened)
        copied = 0
        while True:
            if inspect.iscoroutinefunction(source.read):
                chunk = await source.read(COPY_CHUNK)
            else:
                chunk = await asyncio.to_thread(source.read, COPY_CHUNK)
            if not chunk:
                return copied
            copied += await self.write(chunk)

    async def _leave(self, *, discard: bool) -> None:
        s = self._session
        if discard:
            await self._discard()
            return
        try:
            size = await asyncio.to_thread(self.file.finish)
            if size > self._limit:
                await self._grow(size)
            await s._run(files.commit(s._core, s._record, self.id, size))
        except BaseException:
            await self._discard()
            raise
        await asyncio.to_thread(self.file.close)

    async def _grow(self, needed: int) -> None:
        s = self._session
        self._limit = await s._run(files.grow(s._core, s._record, self.id, self._limit, needed))
        self.file.limit = self._limit
        self._renewed = time.monotonic()

    async def _discard(self) -> None:
        s = self._session
        try:
            removed = await asyncio.to_thread(self.file.discard)
        except OSError:
            removed = False
        await s._run(files.dropped(s._core, s.id, self.id, self._volume.id, removed))
