"""What a receipt says of one location: what became there of what an ended session had."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sessionsweep.model.resource import LOCATION

_STORED = re.compile(r"([0-9]{1,15} ){9}")


@dataclass(frozen=True, slots=True)
class ReceiptPlace:
    """Counts of resources; bytes; times in ms, 0: never. All of it since the session ended.

    `dead_letters`: how many wait for an operator now. `error`: the last failure's.
    """

    location: str
    deleted: int = 0
    bytes_deleted: int = 0
    gone: int = 0
    promoted: int = 0
    forgotten: int = 0
    last: int = 0  # when something left here last
    failures: int = 0
    failed_at: int = 0
    dead_letters: int = 0
    error: str = ""

    @classmethod
    def read(cls, location: str, text: str) -> ReceiptPlace | None:
        """As it stands in a tombstone (`store/lua/lib/receipt.lua` writes it); None: it is none of ours."""
        match = _STORED.match(text)
        if match is None or not LOCATION.match(location):
            return None
        deleted, size, gone, promoted, forgotten, last, failures, failed, dead = map(int, match[0].split())
        error = text[match.end() :]
        return cls(location, deleted, size, gone, promoted, forgotten, last, failures, failed, dead, error)
