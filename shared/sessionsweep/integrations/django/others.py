"""A user's other sessions, listed and ended: flows, written once for sync and async."""

from __future__ import annotations

from sessionsweep.deployment import Core
from sessionsweep.errors import InvalidTokenError
from sessionsweep.integrations.others import OtherSession
from sessionsweep.model.states import EndReason
from sessionsweep.sessions import lifecycle
from sessionsweep.sessions import listing as pages
from sessionsweep.sessions.view import SessionView
from sessionsweep.store.flow import Flow

PAGE = 100


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
