"""Operations of the passes: the wheel, overdue intents, the outbox, mending, and the look-ups of the orphan walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sessionsweep.store.operations.base import Operation


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
    newer: bool = False  # stopped at a session that a newer release wrote, and that a newer release sweeps


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
    """At most `limit` overdue intents become owed; those of ended sessions are dropped from the index.

    One that was begun before the server's present run was noticed becomes live instead: its commit may have been lost.
    `hold` (ms): how long idle ends stop if this call is the first to notice another run.
    """

    partition: str
    limit: int = 100
    bound: int = 0
    hold: int = 0


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A place to give back: `book` is `total` or `user`. `resource_id` empty: a session's place; `*`: all its shares.

    `before` (ms): when the session went to another user; see GiveBack. 0: it has ended.
    """

    raw: bytes
    book: str
    session_id: str
    user: str = ""
    resource_id: str = ""
    before: int = 0

    @classmethod
    def read(cls, raw: bytes) -> OutboxEntry:
        """From `<book> <session> <user> <resource>@<before>`, apart by NULs; `@<before>` is not in every entry.

        One that can't be read is of no book: it gives back nothing, and keeps no other waiting behind it.
        """
        book, _, rest = raw.decode("utf-8", "replace").partition("\0")
        session_id, _, rest = rest.partition("\0")
        user, _, rest = rest.rpartition("\0")
        resource_id, at, before = rest.partition("@")
        if at and not (before.isascii() and before.isdecimal() and len(before) < 16):
            return cls(raw, "", session_id, user, resource_id)
        return cls(raw, book, session_id, user, resource_id, int(before or 0))


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
    """Ids filed at or after a cursor (slot, offset), in due order: (ids, next slot, next offset); slot 0: the end.

    `after`: the last id of the page before. A sweep takes ids from the head of a slot; by that id the place in it is
    found again, and none that is filed throughout is missed.
    """

    partition: str
    slot: int = 0
    offset: int = 0
    limit: int = 100
    after: str = ""
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Mended:
    """What was wrong with one session's keys and put right: `` (nothing), `refiled`, `buried` (records without a
    session got a tombstone and queue entries), `requeued`, `closed` (a tombstone that owes nothing), `backdated` (times
    that were written while the clock was ahead: else nothing would happen before they come)."""

    what: str


@dataclass(frozen=True, slots=True)
class Mend(Operation[Mended]):
    """Holds one session's keys against each other and repairs what lost writes and wrong clocks broke."""

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
