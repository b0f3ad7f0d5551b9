"""Taking a session over from the backend that an app had before: once, under a token that is made of the old cookie.

Two requests of one page bring the same old cookie. Both get the same new session, and nobody else can make its token:
its id and its secret are a keyed hash of the old cookie's value.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from sessionsweep.deployment import Core
from sessionsweep.errors import InvalidTokenError
from sessionsweep.model.ids import ALPHABET
from sessionsweep.model.session import Client, split_token
from sessionsweep.sessions import lifecycle
from sessionsweep.store.flow import Flow
from sessionsweep.store.keys import partition_name

#: The domain of what is made of old cookies, under the key that signs tokens (NIST SP 800-108).
_DOMAIN = b"sessionsweep.integrations.migration: token of an old cookie, 1\0"

#: How long after its import the old cookie still leads to the new session (ms): for requests that are on their way,
#: and for a client that never got the answer with the new cookie. A log-in's new token ends that at once.
GRACE = 3_600_000


@dataclass(frozen=True, slots=True)
class Old:
    """What the old backend had: data as JSON, whose it is, and how long it lasts here (ms; `max` 0: no maximum)."""

    data: Mapping[str, bytes]
    user: str | None
    idle: int
    max: int


def is_old(cookie: str | None) -> bool:
    """Whether a cookie's value may be another backend's: there is one, and it hasn't the form of our tokens."""
    if not cookie:
        return False
    try:
        split_token(cookie)
    except InvalidTokenError:
        return True
    return False


def take_over(core: Core, cookie: str, client: Client, old: Old | None) -> Flow[tuple[lifecycle.Found, str] | None]:
    """The session that an old cookie became, and its token; made now if `old` is given and it is not there yet.

    None: there is nothing to take over, or it was, and the old cookie's time is over. The caller has looked into the
    old backend before: what another request deletes there after its import is found here.

    Raises:
        LimitReachedError, StoreFullError. ClientMismatchError: it was taken over for another client.
        ValueError: `old.user` is no name that can be stored.
    """
    tokens = _tokens(core, cookie)
    for token in tokens:
        try:
            found = yield from lifecycle.open_session(core, token, client, touch=False)
        except InvalidTokenError:
            continue
        return _in_time(found, token)
    if old is None:
        return None
    try:
        made, token = yield from lifecycle.create(core, client, old.user, old.data, old.idle, old.max, token=tokens[0])
    except InvalidTokenError:
        return None  # it was taken over, and has another token by now
    return _in_time(made, token)


def _in_time(found: lifecycle.Found, token: str) -> tuple[lifecycle.Found, str] | None:
    record, now = found
    return (found, token) if now - record.created < GRACE else None


def _tokens(core: Core, cookie: str) -> list[str]:
    """What an old cookie becomes under each valid key; the first is for a new session."""
    made = []
    for key in core.keys:
        digest = hmac.digest(key, _DOMAIN + cookie.encode("utf-8", "surrogatepass"), "sha512")
        partition = partition_name(int.from_bytes(digest[:8]) % core.settings.partitions)
        number = int.from_bytes(digest[8:20])
        session_id = partition + "".join(ALPHABET[(number >> (5 * i)) & 31] for i in range(18))
        secret = base64.urlsafe_b64encode(digest[32:]).rstrip(b"=").decode()
        made.append(f"{session_id}.{secret}")
    return made
