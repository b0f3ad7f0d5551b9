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
    """A partition's registered − (active + deleted + gone + promoted + owed + dead + forgotten). 0: none was lost."""
    parts = (ACTIVE, DELETED, GONE, PROMOTED, OWED, DEAD, FORGOTTEN)
    return books.get(REGISTERED, 0) - sum(books.get(part, 0) for part in parts)


def differences(partitions: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The partitions whose books don't balance, and by how much: not summed up, for +2 in one and -2 in another are
    four faults."""
    return {name: off for name, counted in sorted(partitions.items()) if (off := imbalance(counted))}


def told(off: Mapping[str, int], most: int = 5) -> str:
    """`partition 00 by +2, 07 by -1`, and how many more."""
    named = ", ".join(f"{name} by {amount:+,}" for name, amount in list(off.items())[:most])
    return f"partition {named}{f' and {len(off) - most:,} more' if len(off) > most else ''}"
