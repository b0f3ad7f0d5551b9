"""sessionsweep: sessions, and everything a session leaves behind, reclaimed on the machine that holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sessionsweep.errors import (
    ClientMismatchError,
    ConfigurationError,
    HeldError,
    InvalidTokenError,
    LimitReachedError,
    OutcomeUnknownError,
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
from sessionsweep.sessions.sync import Session, SessionFile, Sessions
from sessionsweep.sessions.view import Resource, Stats
from sessionsweep.settings import Settings

if TYPE_CHECKING:
    from sessionsweep.sessions.aio import AsyncSession, AsyncSessionFile, AsyncSessions

__all__ = [
    "AsyncSession",
    "AsyncSessionFile",
    "AsyncSessions",
    "Client",
    "ClientMismatchError",
    "ConfigurationError",
    "HeldError",
    "InvalidTokenError",
    "LimitReachedError",
    "OutcomeUnknownError",
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
    "VolumeError",
    "VolumeNotHereError",
    "VolumeUntrustedError",
]


def __getattr__(name: str) -> Any:
    """The asynchronous side, on first use: a synchronous app doesn't pay for importing asyncio."""
    if name in ("AsyncSession", "AsyncSessionFile", "AsyncSessions"):
        from sessionsweep.sessions import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
