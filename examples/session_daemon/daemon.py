"""The daemon: `python -m session_daemon.daemon`. A client says hello with an id; each of its messages is activity."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from session_daemon.manager import SessionManager, settings_from
from session_daemon.page import answer
from sessionsweep import AsyncSessions, LimitReachedError, SessionEndedError, StoreError
from sessionsweep.engine.inprocess import InProcessSweeper

log = logging.getLogger("session_daemon")

SESSION_OVER, TRY_AGAIN_LATER, BAD_MESSAGE = 4401, 1013, 1007


class Daemon:
    """One process: its sessions, and the thread that ends those which are silent for too long."""

    def __init__(self, sessions: AsyncSessions) -> None:
        self.sessions = sessions
        self.manager = SessionManager(sessions)

    async def run(self, host: str, port: int, stop: asyncio.Event, ready: asyncio.Future[int] | None = None) -> None:
        """Serves until `stop` is set; `ready` is told the port."""
        sweeper = None
        if self.sessions.settings.sweeper == "in-process":
            sweeper = InProcessSweeper(self.sessions.core, self.sessions.blocking)
            sweeper.ensure()
        try:
            async with serve(self.talk, host, port, process_request=answer) as server:
                if ready is not None:
                    ready.set_result(next(iter(server.sockets)).getsockname()[1])
                await stop.wait()
        finally:
            if sweeper is not None:
                await asyncio.to_thread(sweeper.stop)
            await self.sessions.close()

    async def talk(self, connection: ServerConnection) -> None:
        """One client from its hello on."""
        try:
            session_id = (await self._receive(connection))["session_id"]
            if not isinstance(session_id, str):
                raise TypeError("no text")  # noqa: TRY301
            session = await self.manager.ensure(session_id)
            # registered for as long as it is open; left with SessionEndedError when the session ends, on any daemon
            async with session.stream("daemon"):
                await connection.send(json.dumps({"op": "welcome", "session_id": session_id}))
                while True:
                    message = await self._receive(connection)
                    await self.manager.update_activity(session_id)
                    await connection.send(json.dumps(await self.reply(message)))
        except SessionEndedError as ended:
            await connection.close(SESSION_OVER, f"session over: {ended.reason}")
        except LimitReachedError as limit:
            await connection.close(TRY_AGAIN_LATER, f"{limit.limit} reached")
        except StoreError as error:  # the server is away: the client comes back, and its session is still there
            log.warning("a client is sent away: %s", error)
            await connection.close(TRY_AGAIN_LATER, "try again later")
        except (ValueError, KeyError, TypeError):
            await connection.close(BAD_MESSAGE, "send JSON objects; the first names a session_id")
        except ConnectionClosed:
            log.debug("a client is gone; its session lives until it is idle for too long")

    async def reply(self, message: dict[str, Any]) -> dict[str, Any]:
        """What the daemon does with a message."""
        if message.get("op") == "list":
            return {"op": "sessions", "ids": await self.manager.list_ids()}
        return {"op": "echo", "message": message}

    @staticmethod
    async def _receive(connection: ServerConnection) -> dict[str, Any]:
        message = json.loads(await connection.recv())
        if not isinstance(message, dict):
            raise TypeError("not an object")
        return message


async def main() -> None:
    """Runs until SIGINT or SIGTERM."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    daemon = Daemon(AsyncSessions(settings_from(os.environ)))
    ready: asyncio.Future[int] = loop.create_future()
    ready.add_done_callback(lambda port: print(f"ready on port {port.result()}", flush=True))  # noqa: T201
    await daemon.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8765")), stop, ready)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("websockets").setLevel(logging.WARNING)  # it calls each answer that is a page a rejection
    asyncio.run(main())
