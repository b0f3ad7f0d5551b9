"""Session, resource and volume ids: how they are made, and the strict patterns they must match.

A path is only ever computed from ids that match these patterns, so the patterns are what stands between a
message and the file system: lower-case letters and digits of Crockford's base 32, a fixed length, and for a
resource an optional short suffix. No id contains a separator, a dot-dot or an upper-case letter.
"""

from __future__ import annotations

import re
import secrets

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32: no i, l, o, u

SESSION_ID = re.compile(r"[0-9a-f]{2}[0-9a-hjkmnp-tv-z]{18}\Z")
RESOURCE_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{16}(?:\.[a-z0-9]{1,8})?\Z")
VOLUME_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{16}\Z")
SUFFIX = re.compile(r"(?:\.[a-z0-9]{1,8})?\Z")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")  # nodes, volumes, processes, kinds


def random_text(length: int) -> str:
    """`length` characters of `ALPHABET` from the system's CSPRNG, 5 bits each."""
    number = int.from_bytes(secrets.token_bytes((length * 5 + 7) // 8))
    return "".join(ALPHABET[(number >> (5 * i)) & 31] for i in range(length))


def new_session_id(partition: str) -> str:
    """A fresh public id: the partition's two hex digits, then 90 random bits. Knowing it allows nothing."""
    return partition + random_text(18)


def new_resource_id(suffix: str = "") -> str:
    """A fresh resource id: 80 random bits and the suffix (`.wav`), which is part of the id.

    Raises:
        ValueError: the suffix isn't a dot and 1 to 8 lower-case letters or digits.
    """
    if not SUFFIX.match(suffix):
        raise ValueError(f"suffix {suffix!r} must be a dot and 1 to 8 lower-case letters or digits, like '.wav'")
    return random_text(16) + suffix


def new_volume_id() -> str:
    """A fresh volume id: 80 random bits."""
    return random_text(16)


def is_session_id(text: str) -> bool:
    """Whether `text` is exactly a session id."""
    return SESSION_ID.match(text) is not None


def is_resource_id(text: str) -> bool:
    """Whether `text` is exactly a resource id."""
    return RESOURCE_ID.match(text) is not None


def partition_of(session_id: str) -> str:
    """The two hex digits that name the id's partition (fixed when the session was created)."""
    return session_id[:2]
