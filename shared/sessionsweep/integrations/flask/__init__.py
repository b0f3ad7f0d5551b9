"""Sessions in Flask: `SessionSweep(app)` puts `flask.session` and `current_session` on the store, under one cookie."""

from __future__ import annotations

from sessionsweep.integrations.flask.extension import SessionSweep
from sessionsweep.integrations.flask.interface import current_session
from sessionsweep.integrations.flask.request import RequestSession
from sessionsweep.integrations.flask.routes import session_routes
from sessionsweep.integrations.flask.streams import session_events
from sessionsweep.integrations.flask.values import StoredSession
from sessionsweep.integrations.others import OtherSession
from sessionsweep.integrations.paths import no_activity

__all__ = [
    "OtherSession",
    "RequestSession",
    "SessionSweep",
    "StoredSession",
    "current_session",
    "no_activity",
    "session_events",
    "session_routes",
]
