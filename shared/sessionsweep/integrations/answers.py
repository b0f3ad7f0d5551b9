"""What an HTTP client is told about each error: a status, a JSON body, headers; never a trace (ASVS 16.5)."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sessionsweep.errors import (
    ClientMismatchError,
    HeldError,
    InvalidTokenError,
    LimitReachedError,
    ResourceNotFoundError,
    SessionSweepError,
    StoreError,
    VolumeError,
    VolumeIOError,
    VolumeNotHereError,
)

RETRY_AFTER = 5  # seconds; a server that restarts is back by then
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status, a JSON object and header fields."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def answer_to(error: SessionSweepError) -> Answer | None:
    """What to tell the client; None where the fault is the app's own (a 500, with its traceback in the log).

    The texts are ours: a driver's or the system's words name hosts and paths.
    """
    if isinstance(error, StoreError):
        return _later("The session store doesn't answer; try again in a moment.")
    if isinstance(error, LimitReachedError):
        return _limit(error)
    if isinstance(error, ResourceNotFoundError):
        return Answer(404, {"error": "There is no such file in this session."})
    if isinstance(error, InvalidTokenError | ClientMismatchError):
        return Answer(401, {"error": "The session is over; start a new one."})
    if isinstance(error, VolumeNotHereError) and error.nodes:
        # RFC 9110, 15.5.20: the request was directed at a server that can't answer it; these can.
        body = {"error": "This node doesn't have the file; ask one of `nodes`.", "nodes": list(error.nodes)}
        return Answer(421, body)
    if isinstance(error, VolumeIOError) and error.errno in FULL:
        return Answer(507, {"error": "The disk is full; try again later."})  # RFC 4918, 11.5
    if isinstance(error, VolumeError | HeldError):
        return _later("The disk that this needs isn't in service; try again later.")
    return None


def _limit(error: LimitReachedError) -> Answer:
    body = {"error": f"The limit {error.limit} is reached.", "limit": error.limit, "value": error.value}
    if "_BYTES_" in error.limit:
        return Answer(413, body)
    if error.limit == "MAX_SESSIONS":  # the server's limit, not this client's: RFC 6585's 429 would blame it
        return _later("No more sessions can be opened now; try again later.")
    return Answer(429, body)


def _later(text: str) -> Answer:
    return Answer(503, {"error": text}, {"Retry-After": str(RETRY_AFTER)})
