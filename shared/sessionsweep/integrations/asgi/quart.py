"""Quart's `session` over the middleware's: `app.session_interface = ScopeSessionInterface()`."""

from __future__ import annotations

from collections import UserDict
from typing import Any

from quart import Quart
from quart.sessions import SessionInterface, SessionMixin

from sessionsweep.integrations.asgi.request import SCOPE_KEY, RequestSession


class ScopeSession(UserDict[str, Any], SessionMixin):
    """`quart.session`: another face of the same dict as `current_session(request.scope).data`."""

    def __init__(self, session: RequestSession) -> None:
        self.data = session.raw_data

    @property
    def permanent(self) -> bool:
        """Always False, whatever it is set to: the cookie goes with the browser, the settings say how long it lasts."""
        return False

    @permanent.setter
    def permanent(self, value: bool) -> None:
        # Not kept: an app that sets it for every visitor would make a session of each.
        pass


class ScopeSessionInterface(SessionInterface):
    """Gives each request the session that `SessionSweepMiddleware` opened, which also saves it and sets the cookie."""

    async def open_session(self, app: Quart, request: Any) -> ScopeSession | None:
        """None, so that Quart refuses its use, where the path has no session."""
        session = request.scope.get(SCOPE_KEY)
        return None if session is None else ScopeSession(session)

    async def save_session(self, app: Quart, session: SessionMixin, response: Any) -> None:
        """Nothing: it is saved when the response starts."""
