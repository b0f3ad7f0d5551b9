"""Sessions in ASGI apps: a middleware for Starlette, FastAPI and others, and the session of the request at hand.

The middleware is plain ASGI and imports no framework. `CurrentSession` is FastAPI's form of `current_session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sessionsweep.integrations.asgi.endpoints import session_stream
from sessionsweep.integrations.asgi.middleware import SessionSweepMiddleware
from sessionsweep.integrations.asgi.request import RequestSession, current_session
from sessionsweep.integrations.others import OtherSession
from sessionsweep.integrations.paths import no_activity

if TYPE_CHECKING:
    CurrentSession = RequestSession

__all__ = [
    "CurrentSession",
    "OtherSession",
    "RequestSession",
    "SessionSweepMiddleware",
    "current_session",
    "no_activity",
    "session_stream",
]


def __getattr__(name: str) -> Any:
    if name == "CurrentSession":  # only FastAPI apps pay for it, and only they have it
        from sessionsweep.integrations.asgi.fastapi import CurrentSession

        return CurrentSession
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
