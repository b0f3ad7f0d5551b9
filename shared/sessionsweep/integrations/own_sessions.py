"""A user's own sessions, as the user may see them: device, address, last seen, never a token (ASVS 7.5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sessionsweep.sessions.view import SessionView

MOST = 1000  # sessions that are listed at most


@dataclass(frozen=True, slots=True)
class OwnSession:
    """One of a user's sessions. Times are aware datetimes in UTC; `id` is public and allows nothing."""

    id: str
    current: bool
    ip: str | None
    user_agent: str | None
    created_at: datetime
    last_seen: datetime
    expires_in: float  # seconds

    @classmethod
    def of(cls, session: SessionView, current_id: str | None) -> OwnSession:
        """From a session as it was read."""
        return cls(
            session.id,
            session.id == current_id,
            session.ip,
            session.user_agent,
            session.created_at,
            session.last_activity,
            session.expires_in,
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON: times in ISO 8601."""
        return {
            "id": self.id,
            "current": self.current,
            "ip": self.ip,
            "user_agent": self.user_agent,
            "created_at": self.created_at.isoformat(),
            "last_seen": self.last_seen.isoformat(),
            "expires_in": self.expires_in,
        }


def is_own(session: SessionView | None, user: str | None) -> bool:
    """Whether a session that somebody named is theirs: of the same logged-in user."""
    return session is not None and user is not None and session.user == user
