"""What runs beside the requests of one app: started with its lifespan or first request, stopped with its lifespan."""

from __future__ import annotations

import asyncio
import logging

from sessionsweep.engine.inprocess import InProcessSweeper
from sessionsweep.integrations.asgi.types import Message, Send
from sessionsweep.sessions.aio import AsyncSessions

log = logging.getLogger(__name__)


class Lifespan:
    """The in-process sweeper, where the settings ask for one, and the end of it all."""

    def __init__(self, sessions: AsyncSessions, *, owned: bool) -> None:
        self._sessions = sessions
        self._owned = owned
        self._sweeper: InProcessSweeper | None = None
        if sessions.settings.sweeper == "in-process":
            store = sessions.store.blocking()
            self._sweeper = InProcessSweeper(sessions.core, store)
            if not sessions.settings.in_memory:  # that one is everybody's
                sessions.core.before_close.append(store.close)
            sessions.core.before_close.append(self._sweeper.stop)  # the last of the list is called first

    def ensure(self) -> None:
        """Starts the sweeper in this process: a server may have forked since, and its children keep no thread."""
        if self._sweeper is not None:
            self._sweeper.ensure()

    def watching(self, send: Send) -> Send:
        """The lifespan's `send`: the app starts and stops before we do, so that it may use sessions in both."""

        async def watched(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self.ensure()
            elif message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                try:
                    await self._stop()
                except Exception:
                    log.exception("sessions were not closed")  # the server still hears that the app has stopped
            await send(message)

        return watched

    async def _stop(self) -> None:
        if self._owned:
            await self._sessions.close()
        elif self._sweeper is not None:
            await asyncio.to_thread(self._sweeper.stop)
