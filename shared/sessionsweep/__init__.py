"""sessionsweep: sessions, and everything a session leaves behind, reclaimed on the machine that holds it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sessionsweep.errors import (
    ClientMismatchError,
    ConfigurationError,
    HeldError,
    InvalidTokenError,
    LimitReachedError,
    OutcomeUnknownError,
    RecordUnreadableError,
    ResourceNotFoundError,
    ResourceTooLargeError,
    SessionEndedError,
    SessionSweepError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    VolumeError,
    VolumeNotHereError,
    VolumeUntrustedError,
)
from sessionsweep.model.session import Client
from sessionsweep.sessions.streams import Stream
from sessionsweep.sessions.sync import Session, SessionFile, Sessions
from sessionsweep.sessions.view import Connection, Resource, Stats

if TYPE_CHECKING:
    from sessionsweep.sessions.aio import AsyncSession, AsyncSessionFile, AsyncSessions
    from sessionsweep.sessions.aio_streams import AsyncStream
    from sessionsweep.settings import Settings

__all__ = [
    "AsyncSession",
    "AsyncSessionFile",
    "AsyncSessions",
    "AsyncStream",
    "Client",
    "ClientMismatchError",
    "ConfigurationError",
    "Connection",
    "HeldError",
    "InvalidTokenError",
    "LimitReachedError",
    "OutcomeUnknownError",
    "RecordUnreadableError",
    "Resource",
    "ResourceNotFoundError",
    "ResourceTooLargeError",
    "Session",
    "SessionEndedError",
    "SessionFile",
    "SessionSweepError",
    "Sessions",
    "Settings",
    "Stats",
    "StoreError",
    "StoreFullError",
    "StoreUnavailableError",
    "Stream",
    "VolumeError",
    "VolumeNotHereError",
    "VolumeUntrustedError",
]


#: Imported on first use: a synchronous app pays for no asyncio, and who only catches errors for no pydantic.
_LATER = {
    "AsyncSession": "sessionsweep.sessions.aio",
    "AsyncSessionFile": "sessionsweep.sessions.aio",
    "AsyncSessions": "sessionsweep.sessions.aio",
    "AsyncStream": "sessionsweep.sessions.aio_streams",
    "Settings": "sessionsweep.settings",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        value = globals()[name] = getattr(import_module(_LATER[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
