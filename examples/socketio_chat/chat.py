"""The chat on one node: a session for each socket, and for each user the pool of sockets that are open on any node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import socketio

from sessionsweep import AsyncSession, AsyncSessions, LimitReachedError, SessionEndedError, StoreError
from sessionsweep.engine.inprocess import InProcessSweeper

log = logging.getLogger("socketio_chat")

RETELL = 15.0  # seconds at most between two looks at the pools: a node that was killed tells nobody
MAX_TEXT = 2_000  # characters of a message
MAX_FRAME = 20_000  # bytes that a client may send at once

Pool = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Socket:
    """One that this node holds."""

    user: str
    session: AsyncSession
    held: asyncio.Task[None]


class Chat:
    """One node. Events: `say` (a text) to everybody, `who` (a user) answers how many sockets that user has open.

    It sends `said`, `pool` (your own sockets, on whichever node) and `over` (why your session has ended).
    """

    def __init__(self, sessions: AsyncSessions, pages: Any = None) -> None:
        """`pages` is an ASGI app that answers what isn't Socket.IO's."""
        settings = sessions.settings
        self.sessions = sessions
        self.sio = socketio.AsyncServer(
            async_mode="asgi",
            transports=["websocket"],  # long polling would need a balancer that sends a client to one node always
            max_http_buffer_size=MAX_FRAME,
            client_manager=None  # in memory there is one process only
            if settings.in_memory
            else socketio.AsyncRedisManager(settings.redis_url, channel=f"{settings.namespace}:socketio"),
        )
        for event in (self.connect, self.disconnect, self.say, self.who):
            self.sio.on(event.__name__, event)
        self.app = socketio.ASGIApp(self.sio, pages, on_startup=self.start, on_shutdown=self.stop)
        self._sockets: dict[str, Socket] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._sweeper: InProcessSweeper | None = None

    async def start(self) -> None:
        """Tells pools anew from time to time; sweeps here if the settings say so."""
        self._spawn(self._retell(min(RETELL, self.sessions.settings.cleanup_interval)))
        if self.sessions.settings.sweeper == "in-process":
            self._sweeper = InProcessSweeper(self.sessions.core, self.sessions.blocking)
            self._sweeper.ensure()

    async def stop(self) -> None:
        """Ends the sessions of the sockets that are still open: their clients come back on another node."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for sid in list(self._sockets):
            await self.disconnect(sid, self.sio.reason.SERVER_DISCONNECT)
        if self._sweeper is not None:
            await asyncio.to_thread(self._sweeper.stop)
        await self.sessions.close()

    # Socket.IO's events

    async def connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        """A socket with a session of its own, named after its sid."""
        user = user_of(auth)
        try:
            session = await self.sessions.track(key_of(sid), user=user)
            opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            held = asyncio.create_task(self._hold(sid, session, opened))
            await asyncio.wait({held, opened}, return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                await held  # raises why
        except ValueError as error:  # no name for a user
            raise socketio.exceptions.ConnectionRefusedError(str(error)) from error
        except LimitReachedError as limit:
            raise socketio.exceptions.ConnectionRefusedError(f"{limit.limit} reached") from limit
        except (SessionEndedError, StoreError) as error:  # ended before it began; the server is away
            raise socketio.exceptions.ConnectionRefusedError("try again later") from error
        self._sockets[sid] = Socket(user, session, held)
        self._spawn(self._welcome(sid))  # runs when the client knows that it is connected

    async def disconnect(self, sid: str, reason: str) -> None:
        """The socket is closed, by whomever: nothing of it stays in the pool."""
        socket = self._sockets.pop(sid, None)
        if socket is None:
            return
        if socket.held is not asyncio.current_task():  # else it was its session that ended
            socket.held.cancel()
            await asyncio.gather(socket.held, return_exceptions=True)
        try:
            await self.sessions.end(key=key_of(sid), reason="logout")
        except StoreError as error:  # nobody extends it from now on: it ends when it is idle for too long
            log.warning("a session can't be ended now: %s", error)
        await self._tell(socket.user)

    async def say(self, sid: str, text: Any) -> dict[str, str] | None:
        """A message is activity. Socket.IO's own pings never come here, so they keep no session alive."""
        socket = self._sockets.get(sid)
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
            return {"error": f"say a text of at most {MAX_TEXT} characters"}
        if socket is None:  # closed while this was on its way
            return {"error": "your session is over"}
        try:
            await socket.session.extend()
        except SessionEndedError:  # whatever ended it disconnects the socket
            return {"error": "your session is over"}
        except StoreError:  # without an answer the client would wait for ever
            return {"error": "try again later"}
        await self.sio.emit("said", {"user": socket.user, "text": text})
        return None

    async def who(self, sid: str, user: Any) -> int | dict[str, str]:
        """How many sockets a user has open on all nodes. A page may ask often: asking is no activity."""
        if not isinstance(user, str) or sid not in self._sockets:
            return 0
        try:
            return len(await self.pool(user))
        except StoreError:
            return {"error": "try again later"}

    # pools

    async def pool(self, user: str) -> Pool:
        """The user's open sockets, oldest first."""
        return [
            {"id": one.id, "node": one.process.rsplit(".", 2)[0], "since": one.opened_at.isoformat()}
            for one in await self.sessions.connections(user)
        ]

    async def _hold(self, sid: str, session: AsyncSession, opened: asyncio.Future[None]) -> None:
        """Stands for the socket: registered while this runs, and left when the session ends on any node."""
        try:
            async with session.stream("socket") as stream:
                opened.set_result(None)
                try:
                    await asyncio.Future()
                finally:
                    if stream.reason is not None:  # whoever ended the session learns that the socket is closed
                        await self.sio.emit("over", {"reason": stream.reason}, to=sid, ignore_queue=True)
                        await self.sio.disconnect(sid)
        except SessionEndedError:
            if not opened.done():
                raise

    async def _welcome(self, sid: str) -> None:
        socket = self._sockets.get(sid)
        if socket is None:  # gone already
            return
        if socket.held.done():  # its session ended before the socket was open, and so could not close it
            await self.sio.disconnect(sid)
            return
        await self.sio.enter_room(sid, room_of(socket.user))
        await self._tell(socket.user)

    async def _tell(self, user: str, *, here: bool = False) -> None:
        """Sends a user's pool to each of the user's sockets, on all nodes or only `here`."""
        try:
            pool = await self.pool(user)
        except StoreError as error:  # it is told anew within RETELL seconds
            log.warning("the pool of a user can't be told now: %s", error)
            return
        await self.sio.emit("pool", pool, to=room_of(user), ignore_queue=here)

    async def _retell(self, interval: float) -> None:
        """What another node said may be lost or overtaken, and one that was killed says nothing at all."""
        while True:
            await asyncio.sleep(interval)
            for user in self._users():
                try:
                    await self._tell(user, here=True)
                except Exception:  # one pool that can't be told must not end this for all the others
                    log.exception("the pool of a user can't be told now")

    def _users(self) -> Iterable[str]:
        return {socket.user for socket in self._sockets.values()}

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def user_of(auth: Any) -> str:
    """Whose socket it is. A real app verifies a signed token here, and takes the user from its claims.

    Raises:
        ConnectionRefusedError: nobody's.
    """
    user = auth.get("user") if isinstance(auth, dict) else None
    if not isinstance(user, str) or not user:
        raise socketio.exceptions.ConnectionRefusedError("say who you are: auth={'user': …}")
    return user


def key_of(sid: str) -> str:
    """What names the session of a socket."""
    return f"sio:{sid}"


def room_of(user: str) -> str:
    """Where all sockets of a user are; no sid looks like it."""
    return f"user:{user}"
