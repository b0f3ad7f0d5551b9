"""The states of sessions and resources, and the only transitions between them, as data.

Nothing moves a session or a resource any other way: tests hold the scripts, the in-memory store and the drawings in the
docs against these tables.
"""

from __future__ import annotations

from enum import StrEnum


class EndReason(StrEnum):
    """Why a session stopped being alive."""

    IDLE = "idle"
    EXPIRED = "expired"
    LOGOUT = "logout"
    USER = "user"
    ADMIN = "admin"
    LIMIT = "limit"
    LOST = "lost"  # its record vanished with lost writes; what it owned was found by the orphan pass


class SessionState(StrEnum):
    """live → ended (a tombstone with what it owes) → forgotten. One way only."""

    LIVE = "live"
    ENDED = "ended"
    FORGOTTEN = "forgotten"


class ResourceState(StrEnum):
    """The stored letter of a resource's state. A record of an ended session counts as owed whatever its letter."""

    INTENT = "i"  # registered, its bytes not yet committed
    LIVE = "l"
    OWED = "o"  # waits to be reclaimed
    DEAD = "d"  # failed too often; waits for an operator


class Outcome(StrEnum):
    """What became of one attempt to reclaim, as the settle script counts it."""

    DELETED = "deleted"
    GONE = "gone"  # found already absent, or gone with its ephemeral node or its process
    PROMOTED = "promoted"
    FORGOTTEN = "forgotten"  # an operator dropped it from the dead letters, or its volume from the deployment
    BUSY = "busy"  # locked by a writer or reader: tried again, no try used
    FAILED = "failed"


SESSION_TRANSITIONS: dict[SessionState, frozenset[SessionState]] = {
    SessionState.LIVE: frozenset({SessionState.ENDED, SessionState.FORGOTTEN}),  # owned nothing: no tombstone
    SessionState.ENDED: frozenset({SessionState.FORGOTTEN}),
    SessionState.FORGOTTEN: frozenset(),
}

#: From each stored state: the operations that may leave it, and where each leads (None: the record is gone).
RESOURCE_TRANSITIONS: dict[ResourceState, dict[str, ResourceState | None]] = {
    ResourceState.INTENT: {
        "commit": ResourceState.LIVE,
        "grow": ResourceState.INTENT,
        "release": ResourceState.OWED,
        "overdue": ResourceState.OWED,
        "assume": ResourceState.LIVE,  # overdue, but its commit may be among the writes that a failover lost
        "settle": None,
    },
    ResourceState.LIVE: {
        "release": ResourceState.OWED,
        "evict": ResourceState.OWED,
        "settle": None,
    },
    ResourceState.OWED: {"settle": None, "fail": ResourceState.DEAD},
    ResourceState.DEAD: {"retry": ResourceState.OWED, "drop": None, "settle": None},  # a late word, or its volume's end
}
