"""What a store can do: every operation as a frozen value, with the reply it answers.

Both stores carry out exactly these; redis/wire.py says how each travels to Redis, memory/ does them in Python.
Times are milliseconds of the store's clock, durations milliseconds, sizes bytes. Each operation is atomic.
An operation marked *repeatable* may be sent again when its outcome is unknown: the second time it changes nothing
and answers as the first time did (or says that it was already so).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Generic, TypeVar

from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.session import SessionRecord, Tombstone
from sessionsweep.model.states import Outcome

R = TypeVar("R", covariant=True)


class Operation(Generic[R]):
    """One atomic step of the store. `R` is what it answers."""

    __slots__ = ()
    #: safe to send again when the connection was cut before the reply (rule "Retries")
    repeatable: ClassVar[bool] = False


# --- sessions -------------------------------------------------------------------------------------------------


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
    """A session as it is, without touching it. `record` is None when it isn't live."""

    now: int
    record: SessionRecord | None
    tombstone: Tombstone | None


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
    `touch` counts it as activity.
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
    """Sets the changed top-level keys, removes those given as None; same key: the last one wins."""

    session_id: str
    changes: Mapping[str, bytes | None]
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


# --- resources ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registered:
    """`status`: ok, ended, limit:resources, limit:bytes, limit:streams, unknown (grow or commit of an id that is
    no longer an intent). `evicted`: ids that went owed to make room. `until`: when the intent is overdue."""

    status: str
    evicted: tuple[str, ...] = ()
    until: int = 0


@dataclass(frozen=True, slots=True)
class Register(Operation[Registered]):
    """Registers a resource before its first byte (an intent), or a live one at once (`live`: streams, objects).

    Reserves `size`. At a limit the least recently used go, never an intent, a pinned one or a stream.
    """

    session_id: str
    resource_id: str
    kind: str
    location: str
    size: int
    purpose: str = ""
    live: bool = False
    intent_timeout: int = 900_000
    max_resources: int = 100
    max_bytes: int = 100_000_000
    max_streams: int = 20
    quota: bool = False  # it holds a share of its user's quota
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Grow(Operation[Registered]):
    """Raises an intent's reservation to `size` (never lowers it) and renews its deadline."""

    session_id: str
    resource_id: str
    size: int
    intent_timeout: int = 900_000
    max_bytes: int = 100_000_000
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Commit(Operation[Registered]):
    """Makes an intent live at its true size, which can only lower the reservation. Again = success."""

    session_id: str
    resource_id: str
    size: int
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Release(Operation[bool]):
    """A live resource or intent of a live session becomes owed: its location's queue gets it. False: not there."""

    session_id: str
    resource_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class UseResource(Operation["ResourceRecord | None"]):
    """Marks a live resource as just used (the eviction order) and returns it; None: not live here."""

    session_id: str
    resource_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ListResources(Operation[tuple[ResourceRecord, ...]]):
    """All records of a session, whatever their state, also after its end."""

    session_id: str
    repeatable: ClassVar[bool] = True


# --- reclaim --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeasedResource:
    """What a worker needs to destroy one resource. `purpose` helps an app's own reclaimer."""

    resource_id: str
    kind: str
    size: int
    tries: int
    purpose: str


@dataclass(frozen=True, slots=True)
class Leased:
    """`entries`: per session what is due. `next_due`: when the earliest remaining entry is due (0: none)."""

    entries: tuple[tuple[str, tuple[LeasedResource, ...]], ...]
    next_due: int
    now: int


@dataclass(frozen=True, slots=True)
class Lease(Operation[Leased]):
    """Takes due entries of one location for `duration`; they stay queued, so a dead worker costs one lease.

    The same lease id again returns the same batch. `bound` only narrows what is due (ms; 0: now).
    """

    partition: str
    location: str
    lease_id: str
    duration: int
    limit: int = 200
    bound: int = 0
    dead: bool = False  # the location itself is gone (a web process that died): live resources too, whatever their time
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class LeaseHeld(Operation[bool]):
    """Whether that lease still runs (re-read before each destroy batch)."""

    partition: str
    location: str
    lease_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Attempt:
    """What happened to one resource. `delay`: when to try again, from now (busy, failed)."""

    resource_id: str
    outcome: Outcome
    delay: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """`counted`: how many attempts changed the books; `dead`: ids that became dead letters; `left`: resources of
    the session still owed at this location; `size`: bytes that left the books."""

    counted: int
    dead: tuple[str, ...]
    left: int
    size: int


@dataclass(frozen=True, slots=True)
class Settle(Operation[Settled]):
    """Acknowledges attempts by resource id; each counts only if the record was there, late ones are welcome.

    `own`: the caller owns a live resource (its writer discards it, its user promotes it): live records may go too.
    Failed ones back off; after `tries` failures a resource becomes a dead letter.
    """

    session_id: str
    location: str
    attempts: tuple[Attempt, ...]
    tries: int = 8
    retention: int = 86_400_000
    own: bool = False
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """One location's queue: entries, and how long (ms, at least 1) the oldest has been due (0: none is due)."""

    location: str
    entries: int
    oldest_due: int


@dataclass(frozen=True, slots=True)
class Queues(Operation[tuple[QueueDepth, ...]]):
    """Every location of a partition that has owed something."""

    partition: str
    repeatable: ClassVar[bool] = True


# --- sweeping -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Swept:
    """What one step over the head of the wheel did. `more`: call again."""

    idle: int
    expired: int
    refiled: int
    stale: int
    more: bool
    now: int
    owed: int = 0
    held_until: int = 0  # idle ends are stopped until then (0: not)
    would: tuple[str, ...] = ()  # with `observe`: ids that would have been ended, `<sid> <reason>`


@dataclass(frozen=True, slots=True)
class SweepStep(Operation[Swept]):
    """At most `limit` ids from the head of one due slot: each is ended, filed again at its true slot, or dropped.

    `bound` narrows what counts as due (ms; 0: now). `observe`: due ones are told, filed again one slot later,
    and not ended. `hold` as in OpenSession.
    """

    partition: str
    width: int
    grace: int
    hold: int
    limit: int = 25
    bound: int = 0
    observe: bool = False


@dataclass(frozen=True, slots=True)
class OverdueIntents(Operation[int]):
    """At most `limit` overdue intents become owed; those of ended sessions are dropped from the index."""

    partition: str
    limit: int = 100
    bound: int = 0


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A place to give back: `book` is `total` or `user`. `resource_id` empty: a session's place."""

    raw: bytes
    book: str
    session_id: str
    user: str = ""
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class OutboxRead(Operation[tuple[OutboxEntry, ...]]):
    """The first `limit` releases owed to books elsewhere."""

    partition: str
    limit: int = 100
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class OutboxDone(Operation[int]):
    """Removes entries that were delivered."""

    partition: str
    entries: tuple[bytes, ...]
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class HoldIdle(Operation[int]):
    """Stops idle ends in a partition for `duration` from now (never shortens); 0 lifts. Answers until when."""

    partition: str
    duration: int
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ListWheel(Operation[tuple[tuple[str, ...], int, int]]):
    """Ids filed at or after a cursor (slot, offset), in due order: (ids, next slot, next offset); slot 0: the end."""

    partition: str
    slot: int = 0
    offset: int = 0
    limit: int = 100
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Mended:
    """What was wrong with one session's keys and put right: `` (nothing), `refiled`, `buried` (records without a
    session got a tombstone and queue entries), `requeued`, `closed` (a tombstone that owes nothing)."""

    what: str


@dataclass(frozen=True, slots=True)
class Mend(Operation[Mended]):
    """Holds one session's keys against each other and repairs what lost writes broke."""

    session_id: str
    width: int
    grace: int
    retention: int = 86_400_000
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ScanSessions(Operation[tuple[int, tuple[str, ...]]]):
    """A slice of all session ids that any key of a partition names (live, owing, ended): (next cursor, ids).

    Only the anti-entropy pass uses it, in small slices; 0 begins and ends.
    """

    partition: str
    cursor: int = 0
    count: int = 200
    repeatable: ClassVar[bool] = True


# --- dead letters ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A resource that failed too often."""

    session_id: str
    record: ResourceRecord


@dataclass(frozen=True, slots=True)
class DeadLetters(Operation[tuple[DeadLetter, ...]]):
    """Dead letters of a partition, oldest first."""

    partition: str
    offset: int = 0
    limit: int = 100
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RetryDead(Operation[bool]):
    """A dead letter becomes owed again, due now. False: it isn't one."""

    session_id: str
    resource_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DropDead(Operation[bool]):
    """A dead letter is forgotten: what it named stays where it is, and is nobody's."""

    session_id: str
    resource_id: str
    retention: int = 86_400_000
    repeatable: ClassVar[bool] = True


# --- orphans --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ownership:
    """Of each resource id asked: is there a record? And is the session live, ended (tombstone), or unknown?"""

    session: str  # live | ended | unknown
    present: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Owned(Operation[Ownership]):
    """Looks up the resources of one session that lie on a disk."""

    session_id: str
    resource_ids: tuple[str, ...]
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Readopt(Operation[bool]):
    """Registers a file again that a failover made a live session forget. False: session not live, or record there."""

    session_id: str
    resource_id: str
    location: str
    size: int
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Sight(Operation[tuple[bool, ...]]):
    """Notes candidates as seen (first time counts), keeps at most `cap` + 1, and says which were already seen at
    least `age` ago in this server's run. `forget`: names to remove from the list."""

    partition: str
    volume: str
    run_id: str
    names: tuple[str, ...]
    age: int
    cap: int
    ttl: int
    forget: tuple[str, ...] = ()


# --- books of users and of all sessions -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reserved:
    """`ok`: a place is reserved until `deadline`. Otherwise `suspects` are members to look at: places that may be
    free, oldest first (lapsed reservations, then the oldest sessions), and `count` how many are taken."""

    ok: bool
    deadline: int
    count: int
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserve(Operation[Reserved]):
    """Reserves a session's place in a book (`user` None: the book of all) for `duration`. Again = success."""

    user: str | None
    session_id: str
    limit: int
    duration: int = 60_000
    suspects: int = 50
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Confirm(Operation[bool]):
    """A reservation becomes a lasting place. Places made by users without a limit are made by this alone."""

    user: str | None
    session_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class IsLapsed(Operation[bool]):
    """Whether a place may be taken away: it is confirmed (its session could be looked up), or its reservation's
    deadline has passed. False: a reservation that may still be bound, or no place at all."""

    user: str | None
    session_id: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class GiveBack(Operation[bool]):
    """Removes a place; a session's, or with `resource_id` one resource's share of the user's quota."""

    user: str | None
    session_id: str
    resource_id: str = ""
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Members(Operation[tuple[str, ...]]):
    """Session ids in a user's book, oldest place first."""

    user: str | None
    offset: int = 0
    limit: int = 100
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ReserveQuota(Operation["str"]):
    """Reserves one resource's count and bytes in its user's quota: "ok", "limit:resources" or "limit:bytes".

    0 for a maximum: none. Again with another size: sets it.
    """

    user: str
    session_id: str
    resource_id: str
    size: int
    max_resources: int = 0
    max_bytes: int = 0
    repeatable: ClassVar[bool] = True


# --- the deployment -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the engine must know of the server. `policy`: its maxmemory-policy ("" if it won't say)."""

    run_id: str
    now: int
    version: str = ""
    policy: str = ""
    used_memory: int = 0
    max_memory: int = 0


@dataclass(frozen=True, slots=True)
class Facts(Operation[ServerFacts]):
    """The server's run id, time and memory, from INFO and TIME."""

    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Meta(Operation[Mapping[str, str]]):
    """All fields of the deployment's `meta`."""

    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class SetMeta(Operation[bool]):
    """Sets fields of `meta`; with `only_new`, each only if absent. `raise_only`: a number that never goes back."""

    fields: Mapping[str, str]
    only_new: bool = False
    raise_only: bool = False
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Table(Operation[Mapping[str, str]]):
    """A small table of the deployment: `holds`, `vols`, `mounts`, `n` (nodes), `p` (web processes)."""

    name: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TablePut(Operation[bool]):
    """Sets a row of such a table; with `only_new` only if absent. Answers whether the row was new."""

    name: str
    row: str
    value: str
    only_new: bool = False
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TableDrop(Operation[bool]):
    """Removes a row."""

    name: str
    row: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TakeLease(Operation[bool]):
    """Takes or renews a lease by name for `duration`; False: another holder has it."""

    name: str
    token: str
    duration: int
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DropLease(Operation[bool]):
    """Gives a lease back, if it is still this token's."""

    name: str
    token: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Counters(Operation[Mapping[str, int]]):
    """The books of a partition; model/books.py names the fields."""

    partition: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Count(Operation[int]):
    """Adds to counters that the engine alone keeps (sweeps run, orphans destroyed …)."""

    partition: str
    amounts: Mapping[str, int]
