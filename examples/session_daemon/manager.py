"""The three words that a WebSocket daemon needs of its sessions: ensure, update_activity, list_ids."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakValueDictionary

from sessionsweep import AsyncSession, AsyncSessions, Settings


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The daemon's own variables as settings: SESSION_TIMEOUT_SECS (3600), SESSION_CLEANUP_INTERVAL (300) and
    SESSION_MAX_CONCURRENT (100). With SESSIONSWEEP_REDIS_URL several daemons share their sessions.
    """
    values: dict[str, object] = {
        "idle_timeout": environment.get("SESSION_TIMEOUT_SECS", "3600"),
        "max_duration": 0,
        "cleanup_interval": environment.get("SESSION_CLEANUP_INTERVAL", "300"),
        "max_sessions": environment.get("SESSION_MAX_CONCURRENT", "100"),
        "redis_url": environment.get("SESSIONSWEEP_REDIS_URL", "memory://"),
    }
    return Settings(**values)


class SessionManager:
    """Sessions by the daemon's own ids."""

    def __init__(self, sessions: AsyncSessions) -> None:
        self._sessions = sessions
        # An id may have several connections: each holds the same object, and with the last of them it goes.
        self._open: WeakValueDictionary[str, AsyncSession] = WeakValueDictionary()

    async def ensure(self, session_id: str) -> AsyncSession:
        """The session with that id, made if it is unknown or over; it counts as activity. Hold it while connected.

        Raises:
            LimitReachedError: SESSION_MAX_CONCURRENT are alive. Those that are over lock nobody out, swept or not.
        """
        session = await self._sessions.track(session_id, data={"id": session_id})
        known = self._open.get(session_id)
        if known is None or known.id != session.id:  # the known one is over, and its connection about to close
            known = self._open[session_id] = session
        return known

    async def update_activity(self, session_id: str) -> None:
        """A message came: the session lives for another SESSION_TIMEOUT_SECS.

        Raises:
            SessionEndedError: it is over, swept or not.
        """
        await self._open[session_id].extend()

    async def list_ids(self) -> list[str]:
        """The ids of all live sessions, on whichever daemon."""
        found: list[str] = []
        cursor: str | None = None
        while True:
            page, cursor = await self._sessions.list(cursor=cursor)
            found += [session.data["id"] for session in page if "id" in session.data]
            if cursor is None:
                return sorted(set(found))
