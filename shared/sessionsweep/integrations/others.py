"""The user's other sessions as a page shows them: by public id, with device, address and when it was last seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sessionsweep.sessions.view import SessionView


@dataclass(frozen=True, slots=True)
class OtherSession:
    """One of a user's sessions. `device` is the user agent and `address` the client's when it began; times are UTC."""

    id: str
    device: str | None
    address: str | None
    created_at: datetime
    last_seen: datetime

    @classmethod
    def of(cls, session: SessionView) -> OtherSession:
        """From a session."""
        return cls(session.id, session.user_agent, session.ip, session.created_at, session.last_activity)
