"""Who may use the admin side: tokens, held as hashes, with a scope and an expiry; and a limit on wrong ones."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address, ip_network

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from sessionsweep.errors import ConfigurationError, SessionSweepError
from sessionsweep.settings import Settings

WRONG_A_MINUTE = 10  # wrong tokens that an address may send
REMEMBERED = 1000  # (address, token) pairs that have been right
HASHED = "sha256:"
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_VARIABLE = "SESSIONSWEEP_ADMIN_TOKEN"


class Scope(StrEnum):
    """What a token allows. Who may write may read."""

    READ = "read"
    WRITE = "write"


class AccessError(SessionSweepError):
    """No token, a wrong one, or one that is over: the client is told no more than that (ASVS 7.2.2)."""

    def __init__(self) -> None:
        super().__init__("A valid admin token is needed: X-Admin-Token, or Authorization: Bearer.")


class ScopeError(SessionSweepError):
    """The token is right, and allows reading only."""

    def __init__(self) -> None:
        super().__init__("This token allows reading only.")


class TooManyWrongTokensError(SessionSweepError):
    """An address sent too many wrong tokens; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("Too many wrong tokens; try again later.")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Grant:
    """One configured token: its SHA-256, what it allows, and when that is over. `name` is safe in logs."""

    digest: bytes
    scope: Scope
    until: datetime | None = None

    @property
    def name(self) -> str:
        """The first digits of the hash: enough to tell tokens apart, useless to whoever reads it."""
        return self.digest.hex()[:8]


def parse_grants(text: str) -> tuple[Grant, ...]:
    """The tokens of a setting: one a line, or separated by commas, each `[read|write] TOKEN [UNTIL]`.

    TOKEN is the token itself or `sha256:` and the hash of it in hexadecimal; without a scope it may write. UNTIL is a
    date (the token is good until that day begins, UTC) or a time, in ISO 8601. Lines that begin with # are comments.

    Raises:
        ConfigurationError: an entry is none of that, or there is none. No token is repeated in it.
    """
    grants = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    entries = [entry.split() for line in lines for entry in line.split(",")]
    for number, words in enumerate(filter(None, entries), 1):
        scope = Scope(words.pop(0)) if words[0] in list(Scope) else Scope.WRITE
        if not words or _is_time(words[0]):  # `read $TOKEN` of a variable that is empty: no token that may write
            raise ConfigurationError(f"{_VARIABLE}: entry {number} has no token; write `[read|write] TOKEN [UNTIL]`")
        token, *rest = words
        if len(rest) > 1:
            raise ConfigurationError(
                f"{_VARIABLE}: entry {number} has too many words; write `[read|write] TOKEN [UNTIL]`, entries "
                "separated by commas or lines"
            )
        grants.append(Grant(_digest(token, number), scope, _until(rest[0], number) if rest else None))
    if not grants:
        raise ConfigurationError(f"{_VARIABLE} names no token; give a long random text")
    return tuple(grants)


def _digest(token: str, number: int) -> bytes:
    if not token.startswith(HASHED):
        return digest(token)
    value = token.removeprefix(HASHED).lower()
    if not _DIGEST.match(value):
        raise ConfigurationError(f"{_VARIABLE}: entry {number}: `sha256:` wants 64 hexadecimal digits behind it")
    return bytes.fromhex(value)


def _until(text: str, number: int) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{_VARIABLE}: entry {number}: its end is no date or time; write it as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _bucket(address: str) -> str:
    """Whose wrong tokens are counted together: IPv6 hands each of its clients a /64 of addresses."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else address


def digest(token: str) -> bytes:
    """What is kept of a token. Tokens are random and long, so that a fast hash does (ASVS 11.4.2 is for passwords)."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Doorkeeper:
    """Checks tokens. Safe in any number of threads.

    Raises:
        ConfigurationError: no token is configured, so that nobody could use the admin side, or everybody.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.admin_token is None:
            raise ConfigurationError(
                f"{_VARIABLE} is not set, so the admin side doesn't start; give a long random text there, or the name "
                f"of a file with it in {_VARIABLE}_FILE"
            )
        self._grants = parse_grants(settings.admin_token.get_secret_value())
        self._limit = RateLimitItemPerMinute(WRONG_A_MINUTE)
        self._wrong = MovingWindowRateLimiter(MemoryStorage())
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def check(self, token: str | None, address: str, scope: Scope) -> Grant:
        """The grant of a token.

        An address that sent too many wrong ones isn't listened to for a while, unless with a token that was right from
        there before: whoever shares an address with a stranger who guesses is not locked out.

        Raises:
            AccessError, ScopeError, TooManyWrongTokensError
        """
        if token is None:
            raise AccessError
        given, address = digest(token), _bucket(address)
        if (address, given) not in self._right and not self._wrong.test(self._limit, address):
            reset, _ = self._wrong.get_window_stats(self._limit, address)
            raise TooManyWrongTokensError(max(1, round(reset - datetime.now(UTC).timestamp())))
        now = datetime.now(UTC)
        found = None
        for grant in self._grants:  # all of them: the time tells nothing (ASVS 11.2.4)
            if hmac.compare_digest(grant.digest, given) and (grant.until is None or now < grant.until):
                found = grant
        if found is None:
            self._wrong.hit(self._limit, address)
            raise AccessError
        self._right[(address, given)] = None
        while len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        if scope is Scope.WRITE and found.scope is Scope.READ:
            raise ScopeError
        return found
