"""A user's other sessions as a page shows and ends them, by public id: flows, written once for every framework."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sessionsweep.deployment import Core
from sessionsweep.errors import InvalidTokenError
from sessionsweep.model.states import EndReason
from sessionsweep.sessions import lifecycle
from sessionsweep.sessions import listing as pages
from sessionsweep.sessions.view import SessionView
from sessionsweep.store.flow import Flow

PAGE = 100


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


def listing(core: Core, user: str | None, own: str | None) -> Flow[list[OtherSession]]:
    """The user's live sessions but `own`, the last seen first; none for nobody."""
    found: list[OtherSession] = []
    cursor: str | None = None
    while user is not None:
        page, cursor = yield from pages.live(core, user, cursor, PAGE)
        found.extend(OtherSession.of(SessionView(*one)) for one in page if one[0].session_id != own)
        if cursor is None:
            break
    return sorted(found, key=lambda one: one.last_seen, reverse=True)


def end(core: Core, user: str | None, own: str | None, session_id: str) -> Flow[bool]:
    """Ends one of them. False: it is nobody's, or somebody else's, or `own`."""
    if user is None or session_id == own:
        return False
    try:
        record, _ = yield from lifecycle.attach(core, session_id)
    except InvalidTokenError:
        return False
    return record.user == user and (yield from lifecycle.end(core, session_id, EndReason.USER)).done


def end_all(core: Core, user: str | None, own: str | None) -> Flow[int]:
    """Ends all of them; how many."""
    return 0 if user is None else (yield from lifecycle.end_user(core, user, own, EndReason.USER))
