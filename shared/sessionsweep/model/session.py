"""A session as the store returns it, the client it belongs to, and the token that opens it."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from sessionsweep.errors import InvalidTokenError
from sessionsweep.model.ids import is_session_id
from sessionsweep.model.receipts import ReceiptPlace

SECRET_BYTES = 32  # 256 bits from the system's CSPRNG (ASVS 7.2.3)
SECRET_CHARS = 43  # those bytes in unpadded URL-safe base 64
MAC_BYTES = 16
MAX_USER = 255  # bytes
NEVER = 10**15  # ms: later than every time there is
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends a request: its address as text and its user agent. Both may be unknown."""

    ip: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One live session's record. Times are milliseconds of the server's clock, durations milliseconds."""

    session_id: str
    mac: bytes
    created: int
    last_activity: int
    idle: int
    max: int  # 0: no maximum
    filed: int  # end of the wheel slot in which it is filed
    keep_alive: int  # a job keeps it alive until then; 0: none
    request_count: int = 0
    resource_count: int = 0
    stream_count: int = 0
    bytes_used: int = 0
    fingerprint4: bytes = b"\0\0\0"
    fingerprint6: bytes = b"\0\0\0"
    flags: int = 0
    user: str | None = None
    alias: str = ""
    ip: str | None = None
    user_agent: str | None = None
    node: str = ""
    data: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def idle_end(self) -> int:
        """When it is idle too long (ms), if nothing touches it again; a keep-alive defers that."""
        return max(self.last_activity + self.idle, self.keep_alive)

    @property
    def absolute_end(self) -> int:
        """When it is too old (ms); nothing defers that. NEVER: it has no maximum."""
        return self.created + self.max if self.max else NEVER

    def is_due(self, now: int, *, idle_held: bool) -> bool:
        """Whether it is dead to every request, swept or not. `idle_held`: idle ends are held there, nobody is idle."""
        return now >= self.absolute_end or (now >= self.idle_end and not idle_held)

    def __str__(self) -> str:
        who = f" of {self.user!r}" if self.user else ""
        return f"session {self.session_id}{who}: {self.resource_count} resources, {self.bytes_used} bytes"


#: `flags`: this session holds a place in its user's book, in the book of all sessions.
FLAG_USER_BOOK = 1
FLAG_TOTAL_BOOK = 2
FLAG_USER_QUOTA = 4  # its resources hold shares of their user's quota


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What remains of an ended session that owned something: why and when it ended, and what is still owed; its receipt
    once nothing is.

    `owned`: resources that it had, or had given up and still owed, when it ended (None: an earlier release ended it);
    `bytes_owned`: bytes of those it had. `places`: what became of them, by location.
    """

    session_id: str
    reason: str
    ended: int  # ms
    created: int  # ms
    user: str | None = None
    owed: int = 0  # resources not yet reclaimed, dead letters among them
    owned: int | None = None
    bytes_owned: int = 0
    places: tuple[ReceiptPlace, ...] = ()
    #: what an earlier release's worker deleted, wherever it was
    deleted_before: int = 0
    bytes_before: int = 0

    @property
    def deleted(self) -> int:
        """Resources deleted since it ended."""
        return self.deleted_before + sum(place.deleted for place in self.places)

    @property
    def dead_letters(self) -> int:
        """How many of those owed wait for an operator: nobody tries them any more."""
        return min(self.owed, sum(place.dead_letters for place in self.places))

    @property
    def bytes_deleted(self) -> int:
        """Their bytes."""
        return self.bytes_before + sum(place.bytes_deleted for place in self.places)


def check_user(user: str) -> str:
    """A user's name as it may be stored: 1 to 255 bytes of UTF-8 without control characters.

    Raises:
        ValueError: it isn't that. Names come from strangers, and stand in keys, records and lists.
        TypeError: it isn't text. Kept as a number it would be found by no `end_user("5")`.
    """
    if not isinstance(user, str):
        raise TypeError(f"user {user!r} is no text; give text: str(…)")
    try:
        size = len(user.encode())
    except UnicodeEncodeError:
        raise ValueError(f"user {user[:40]!r} holds half a character (a lone surrogate); give proper text") from None
    if not 0 < size <= MAX_USER:
        raise ValueError(f"user {user[:40]!r} has {size} bytes; give 1 to {MAX_USER} (a hash of a longer name)")
    if _CONTROL.search(user):
        raise ValueError(f"user {user[:40]!r} holds control characters; give a name without them")
    return user


def new_secret() -> str:
    """A fresh secret: 256 random bits as 43 characters of URL-safe base 64."""
    return secrets.token_urlsafe(SECRET_BYTES)


def mac_of(secret: str, session_id: str, key: bytes) -> bytes:
    """What the store holds instead of the secret: HMAC-SHA-256 (RFC 2104), cut to 128 bits (ASVS 11.5.1)."""
    return hmac.digest(key, f"{session_id}.{secret}".encode(), "sha256")[:MAC_BYTES]


def split_token(token: str) -> tuple[str, str]:
    """`<id>.<secret>` → (id, secret).

    Raises:
        InvalidTokenError: it has not exactly that form; nothing was asked of the store.
    """
    session_id, dot, secret = token.partition(".")
    if not dot or len(secret) != SECRET_CHARS or not secret.isascii() or not is_session_id(session_id):
        raise InvalidTokenError
    return session_id, secret
