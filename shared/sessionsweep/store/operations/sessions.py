"""Operations over one session: create, open, peek, rotate, extend, save, end, keep alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from sessionsweep.model.session import SessionRecord, Tombstone
from sessionsweep.store.operations.base import Operation


class OpenStatus(StrEnum):
    """What the store says to a request for a session."""

    OK = "ok"
    MISMATCH = "mismatch"  # opened, but from another client (mode `log`)
    REFUSED = "refused"  # another client, and the mode forbids it: not touched
    INVALID = "invalid"  # no such session, or another secret: one answer
    ENDED = "ended"  # it was due; this very call ended it


@dataclass(frozen=True, slots=True)
class Opened:
    """`record` is None unless the status is OK or MISMATCH; `reason` tells why it was ended just now."""

    status: OpenStatus
    now: int
    record: SessionRecord | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CreateSession(Operation[Opened]):
    """Makes a session. Again with the same id and secret = success; with another secret = INVALID.

    `not_after`: deadline of the reservation in its user's book; later than that nothing is made (status ENDED,
    reason `limit`). 0: no reservation.
    """

    session_id: str
    mac: bytes
    idle: int
    max: int
    width: int  # of a wheel slot
    family: int = 0  # 4 or 6: which fingerprint is given; 0: none
    fingerprint: bytes = b"\0\0\0"
    flags: int = 0
    user: str | None = None
    alias: str = ""  # hash of an app's own key: get the session it names, or create this one
    ip: str | None = None
    user_agent: str | None = None
    node: str = ""
    data: Mapping[str, bytes] = field(default_factory=dict)
    not_after: int = 0
    grace: int = 0  # for a due session under the same alias
    hold: int = 0  # the same: how long idle ends stop when the server's run id has changed; meanwhile it is touched
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class OpenSession(Operation[Opened]):
    """Verifies and touches, one key read and written; a due session is ended by this very call.

    `macs`: the secret's hash under each valid key. `enforce`: another client is refused, and nothing is touched.
    """

    session_id: str
    macs: tuple[bytes, ...]
    touch: bool = True
    family: int = 0
    fingerprint: bytes = b"\0\0\0"
    enforce: bool = False
    grace: int = 0
    repeatable: ClassVar[bool] = True  # a touch may count twice
    hold: int = 0  # how long idle ends stop when the server's run id has changed


@dataclass(frozen=True, slots=True)
class Peeked:
    """A session as it is, without touching it. `record` is None when it isn't live.

    `idle_held`: it seems idle, but idle ends are held there, for touches may have been forgotten. Asked only then.
    """

    now: int
    record: SessionRecord | None
    tombstone: Tombstone | None
    idle_held: bool = False

    @property
    def is_due(self) -> bool:
        """Whether its record is still there, but it is dead to every request."""
        return self.record is not None and self.record.is_due(self.now, idle_held=self.idle_held)


@dataclass(frozen=True, slots=True)
class PeekSession(Operation[Peeked]):
    """Reads a session or its tombstone; writes nothing. A due but unswept session is still returned."""

    session_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class FindAlias(Operation["str | None"]):
    """The session id that an alias names, or None."""

    partition: str
    alias: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RotateSession(Operation[Opened]):
    """Replaces the secret at once and, where `user` is given, binds the session to that user.

    Success also when `new_mac` is in place already. INVALID when neither an old one nor the new one is.
    `old_macs` empty: trusted caller, the secret isn't asked.
    `not_after` as in CreateSession. `flags` are or-ed into the record's.
    Counts as activity. The record's last activity is when it was bound: later than any moment before, so that places
    of an earlier binding to the same user are told apart.
    """

    session_id: str
    old_macs: tuple[bytes, ...]
    new_mac: bytes
    user: str | None = None
    flags: int = 0
    not_after: int = 0
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ExtendSession(Operation[Opened]):
    """Counts as activity and sets (never adds to) the timeouts given. Shortening files a second wheel entry."""

    session_id: str
    idle: int | None = None
    max: int | None = None
    width: int = 10_000
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class SaveData(Operation[Opened]):
    """Sets the changed top-level keys, removes those given as None; same key: the last one wins.

    `mac`: the secret's hash as the caller read it; INVALID, with nothing changed, where the session has another one by
    now. Empty: trusted caller, the secret isn't asked.
    `renew`: also does what ExtendSession does, in the same step.
    """

    session_id: str
    changes: Mapping[str, bytes | None]
    mac: bytes = b""
    renew: bool = False
    idle: int | None = None
    max: int | None = None
    width: int = 10_000
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Ended:
    """`done`: this call ended it. Otherwise `reason` is the tombstone's, or None if nothing is known of it."""

    done: bool
    reason: str | None
    owed: int
    locations: tuple[str, ...]
    now: int
    live: bool = False  # with `only_due`: it isn't due and lives on


@dataclass(frozen=True, slots=True)
class EndSession(Operation[Ended]):
    """Ends a session, atomically: record gone, tombstone and queue entries made if it owned anything.

    `only_due`: only if it is idle or too old, and then for that reason. Answers from the tombstone if already ended.
    `idle_for` (with `only_due`): idle means untouched for so long, in place of the session's own idle timeout.
    """

    session_id: str
    reason: str
    only_due: bool = False
    grace: int = 0
    hold: int = 0
    idle_for: int = 0
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Defer(Operation["int | None"]):
    """Keeps a session alive (`resource_id` empty) or pins a resource, for `duration` ms from now, under `token`.

    Defers the idle end and destruction, never the absolute end or a log-out. Answers until when (ms), or None if
    the session has ended or the resource is no longer live. The latest of all tokens counts; again with the same
    token replaces it.
    """

    session_id: str
    token: str
    duration: int
    resource_id: str = ""
    width: int = 10_000
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Undefer(Operation[bool]):
    """Takes back what `token` deferred; other jobs' deferrals stay."""

    session_id: str
    token: str
    width: int = 10_000
    repeatable: ClassVar[bool] = True
