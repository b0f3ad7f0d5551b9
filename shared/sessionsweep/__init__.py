"""sessionsweep: sessions, and everything a session leaves behind, reclaimed on the machine that holds it."""

from __future__ import annotations

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
from sessionsweep.sessions.aio import AsyncSession, AsyncSessionFile, AsyncSessions
from sessionsweep.sessions.sync import Session, SessionFile, Sessions
from sessionsweep.sessions.view import Resource, Stats
from sessionsweep.settings import Settings

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
