"""The files of a request's session: `request.session.resources`, and the same with an `a` in front, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sessionsweep.errors import ResourceNotFoundError
from sessionsweep.integrations.blocks import Block, asynchronous
from sessionsweep.sessions.aio import AsyncSession, AsyncSessionFile
from sessionsweep.sessions.sync import Session, SessionFile
from sessionsweep.sessions.view import Resource

if TYPE_CHECKING:
    from sessionsweep.integrations.django.store import SessionStore

_list = list  # the name means the method below


class Resources:
    """What a Django session owns. Keeping something makes the session where there is none; Django sends its cookie.

    Such a session ends after an hour unless it is saved, which Django's middleware does when the view has answered with
    less than 500.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def require(self) -> Session:
        """The library's session, made now if there is none: for `stream`, `keep_alive` and what else it has.

        Raises:
            LimitReachedError, StoreFullError
        """
        session = self._store.owner(make=True)
        assert session is not None
        return session

    async def arequire(self) -> AsyncSession:
        """See require."""
        session = await self._store.aowner(make=True)
        assert session is not None
        return session

    def new_file(
        self, purpose: str = "", suffix: str = "", *, max_size: int | None = None, volume: str | None = None
    ) -> Block[SessionFile]:
        """A new file, as a context manager; see `Session.new_file`."""
        return Block(
            lambda: self.require().new_file(purpose, suffix, max_size=max_size, volume=volume), "resources.anew_file"
        )

    @asynchronous
    async def anew_file(
        self, purpose: str = "", suffix: str = "", *, max_size: int | None = None, volume: str | None = None
    ) -> AsyncIterator[AsyncSessionFile]:
        """See new_file."""
        session = await self.arequire()
        async with session.new_file(purpose, suffix, max_size=max_size, volume=volume) as file:
            yield file

    def temp_file(self, suffix: str = "", *, max_size: int | None = None) -> Block[SessionFile]:
        """A file that is deleted at the end of the block."""
        return Block(lambda: self.require().temp_file(suffix, max_size=max_size), "resources.atemp_file")

    @asynchronous
    async def atemp_file(self, suffix: str = "", *, max_size: int | None = None) -> AsyncIterator[AsyncSessionFile]:
        """See temp_file."""
        session = await self.arequire()
        async with session.temp_file(suffix, max_size=max_size) as file:
            yield file

    def adopt_file(
        self, path: str | Path, purpose: str = "", *, suffix: str | None = None, volume: str | None = None
    ) -> str:
        """Takes an existing file into the session: its resource id."""
        return self.require().adopt_file(path, purpose, suffix=suffix, volume=volume)

    async def aadopt_file(
        self, path: str | Path, purpose: str = "", *, suffix: str | None = None, volume: str | None = None
    ) -> str:
        """See adopt_file."""
        return await (await self.arequire()).adopt_file(path, purpose, suffix=suffix, volume=volume)

    def list(self) -> _list[Resource]:
        """What the session owns, oldest first; nothing without a session."""
        session = self._store.owner()
        return [] if session is None else session.resources()

    async def alist(self) -> _list[Resource]:
        """See list."""
        session = await self._store.aowner()
        return [] if session is None else await session.resources()

    def open_file(self, resource_id: str) -> BinaryIO:
        """A file of this session, for reading.

        Raises:
            ResourceNotFoundError: also where there is no session. VolumeNotHereError: with the nodes to ask.
        """
        return self._owner(resource_id).open_file(resource_id)

    async def aopen_file(self, resource_id: str) -> BinaryIO:
        """See open_file; the file itself blocks: read it in a thread."""
        return await (await self._aowner(resource_id)).open_file(resource_id)

    def delete(self, resource_id: str) -> None:
        """Gives a file up. Raises ResourceNotFoundError."""
        self._owner(resource_id).delete(resource_id)

    async def adelete(self, resource_id: str) -> None:
        """See delete."""
        await (await self._aowner(resource_id)).delete(resource_id)

    def promote(self, resource_id: str, to: str | Path | None = None) -> Path:
        """Makes a file the app's own. Raises ResourceNotFoundError, VolumeNotHereError."""
        return self._owner(resource_id).promote(resource_id, to)

    async def apromote(self, resource_id: str, to: str | Path | None = None) -> Path:
        """See promote."""
        return await (await self._aowner(resource_id)).promote(resource_id, to)

    def pin(self, resource_id: str, max: float | str = "1h") -> AbstractContextManager[BinaryIO]:
        """Keeps a file from being destroyed while the block reads it."""
        return Block(lambda: self._owner(resource_id).pin(resource_id, max), "resources.apin")

    @asynchronous
    async def apin(self, resource_id: str, max: float | str = "1h") -> AsyncIterator[BinaryIO]:
        """See pin."""
        session = await self._aowner(resource_id)
        async with session.pin(resource_id, max) as file:
            yield file

    def _owner(self, resource_id: str) -> Session:
        session = self._store.owner()
        if session is None:
            raise ResourceNotFoundError(resource_id)
        return session

    async def _aowner(self, resource_id: str) -> AsyncSession:
        session = await self._store.aowner()
        if session is None:
            raise ResourceNotFoundError(resource_id)
        return session
