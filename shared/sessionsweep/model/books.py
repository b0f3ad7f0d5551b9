"""The fields of a partition's counters, and the equation that must hold between them."""

from __future__ import annotations

from collections.abc import Mapping

# sessions
CREATED = "created"
ENDED = "ended"  # and `ended:<reason>` for each reason
LIFETIME = "lifetime"  # sum of ended sessions' durations, ms
# resources: registered = active + deleted + gone + promoted + owed + dead + forgotten
REGISTERED = "reg"  # and `reg:<letter of the kind>` for each kind; those that an earlier release registered have none
ACTIVE = "active"
OWED = "owed"
DEAD = "dead"
DELETED = "deleted"
GONE = "gone"
PROMOTED = "promoted"
FORGOTTEN = "forgotten"
# bytes
ACTIVE_BYTES = "b_active"
OWED_BYTES = "b_owed"
DELETED_BYTES = "b_deleted"
STREAMS = "streams"  # streams of live sessions, among what is active
EVICTED = "evicted"  # resources that limits pushed out (they go owed)


def imbalance(books: Mapping[str, int]) -> int:
    """registered − (active + deleted + gone + promoted + owed + dead + forgotten): 0 when nothing was lost."""
    parts = (ACTIVE, DELETED, GONE, PROMOTED, OWED, DEAD, FORGOTTEN)
    return books.get(REGISTERED, 0) - sum(books.get(part, 0) for part in parts)
