"""Every error sessionsweep raises, under one root.

    SessionSweepError
    ├── ConfigurationError          a setting is unknown or impossible; names the variable and the fix
    ├── InvalidTokenError           one answer, whatever is wrong with a token (ASVS 7.2.2)
    │   └── SessionEndedError       the session is over; `reason` says why where the caller may know it
    ├── ClientMismatchError         the request comes from another client than the session's
    ├── LimitReachedError           a limit on sessions, resources, streams or bytes; names it
    │   └── ResourceTooLargeError   one resource is larger than its reservation or limit
    ├── ResourceNotFoundError       no such resource in this session
    ├── VolumeError
    │   ├── VolumeNotHereError      this node doesn't mount the volume; names the nodes that do
    │   ├── VolumeUntrustedError    marker missing, foreign or not ours to make
    │   └── VolumeIOError           the file system refused; an OSError, too, with its errno
    ├── HeldError                   destruction is stopped; names the hold and how to lift it
    └── StoreError
        ├── StoreUnavailableError   the server can't be reached or refuses; nothing was done
        ├── StoreFullError          the server is at `maxmemory`; nothing was created
        ├── RecordUnreadableError   a record is damaged, or a newer release wrote it; it is left alone
        └── OutcomeUnknownError     the connection was cut after sending; it may or may not have happened

Driver errors are chained (`__cause__`), never leaked.
"""

from __future__ import annotations

from collections.abc import Sequence


class SessionSweepError(Exception):
    """Root of all errors of this library."""


class ConfigurationError(SessionSweepError):
    """A setting is missing, unknown or impossible. The message names the variable and the fix."""


class InvalidTokenError(SessionSweepError):
    """The token opens no session; one generic answer whatever is wrong with it (ASVS 7.2.2)."""

    def __init__(self, message: str = "The session token is not valid; start a new session.") -> None:
        super().__init__(message)


class SessionEndedError(InvalidTokenError):
    """The session is over: idle, expired, logged out, ended by its user, an admin or a limit."""

    def __init__(self, reason: str | None = None, session_id: str | None = None) -> None:
        what = f"Session {session_id}" if session_id else "The session"
        why = f" ({reason})" if reason else ""
        super().__init__(f"{what} has ended{why}; start a new session.")
        self.reason = reason
        self.session_id = session_id


class ClientMismatchError(SessionSweepError):
    """The request's address or user agent differs from the session's; the session was not touched."""


class LimitReachedError(SessionSweepError):
    """A limit was reached and nothing could be evicted. `limit` is the setting's name, `value` its value."""

    def __init__(self, limit: str, value: int, message: str | None = None) -> None:
        super().__init__(message or f"The limit {limit}={value} is reached; delete something or raise it.")
        self.limit = limit
        self.value = value


class ResourceTooLargeError(LimitReachedError):
    """One resource is larger than what was reserved for it or than the session may hold (bytes)."""


class ResourceNotFoundError(SessionSweepError):
    """The session owns no such resource (or no longer)."""

    def __init__(self, resource_id: str) -> None:
        super().__init__(f"This session owns no resource {resource_id!r}.")
        self.resource_id = resource_id


class VolumeError(SessionSweepError):
    """Root of what can be wrong with a volume."""


class VolumeNotHereError(VolumeError):
    """The resource lies on a volume that this node doesn't mount. `nodes` are the names of those that do."""

    def __init__(self, volume: str, nodes: Sequence[str] = ()) -> None:
        where = f"it is mounted by {', '.join(nodes)}" if nodes else "no live node mounts it"
        super().__init__(f"Volume {volume} is not mounted here; {where}.")
        self.volume = volume
        self.nodes = tuple(nodes)


class VolumeUntrustedError(VolumeError):
    """A root whose marker is missing, unreadable, foreign, or may not be made. `reason` is a short code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class VolumeIOError(VolumeError, OSError):
    """The file system refused (no space, read-only, input/output error). `errno` is the system's number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(number, message)
        self.errno = number
        self.strerror = message

    def __str__(self) -> str:
        return str(self.strerror)


class HeldError(SessionSweepError):
    """Destruction is stopped because the state can't be trusted; see `sessionsweep holds list`."""


class StoreError(SessionSweepError):
    """Root of what can be wrong with the store."""


class StoreUnavailableError(StoreError):
    """The store can't be reached, or refuses to serve; the operation did not happen."""


class StoreFullError(StoreError):
    """The store is at its memory limit; nothing was created (answer 503)."""


class RecordUnreadableError(StoreError):
    """A record in the store is damaged, or a newer release wrote it. It was left as it is; others aren't concerned."""


class OutcomeUnknownError(StoreError):
    """The connection was cut after the operation was sent: it may or may not have happened."""
