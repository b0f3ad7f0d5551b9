"""What ended sessions still owe, resource by resource: how often it was tried, why it failed, and when it is next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sessionsweep.deployment import Core, partitions
from sessionsweep.errors import StoreError
from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.states import ResourceState
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store

PAGE = 100  # queue entries read at once
ROUND = 25  # sessions a round trip
LOOKS = 5000  # queue entries that one listing looks at: a filter that matches little must not walk for ever


class Standing(StrEnum):
    """Why an owed resource still lies there."""

    FAILING = "failing"  # it was tried, and failed
    IN_USE = "in-use"  # locked by somebody when it was tried, or pinned; no try was used
    DUE = "due"  # its time has come, and no worker has come to it
    WAITING = "waiting"  # for its grace period or a keep-alive to end, or for the worker that has leased it


@dataclass(frozen=True, slots=True)
class OwedResource:
    """One owed resource; times in ms. `ended`: when its session ended; None: that lives (the app deleted the resource),
    or its end was lost. Then it has been owed since its last use (`record.used`) at the longest."""

    session_id: str
    record: ResourceRecord
    next_attempt: int
    ended: int | None
    reason: str  # of the session's end; empty with `ended` None
    now: int

    @property
    def standing(self) -> Standing:
        """Why it still lies there."""
        if self.record.tries:
            return Standing.FAILING
        if self.next_attempt <= self.now:
            return Standing.DUE
        return Standing.IN_USE if self.record.state is ResourceState.OWED else Standing.WAITING

    @property
    def owed_seconds(self) -> float:
        """For how long it has been owed; an upper bound where `ended` is None. Backing off doesn't shorten it."""
        return max(0.0, (self.now - (self.record.used if self.ended is None else self.ended)) / 1000)


@dataclass(frozen=True, slots=True)
class Listing:
    """A slice of what is owed. `next_cursor`: where to go on; None: that was all. `looked_at`: queue entries."""

    resources: list[OwedResource]
    next_cursor: str | None
    looked_at: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a listing stands: in this queue, from this time on, after so many entries of that time, and after so many
    resources of the next one."""

    partition: str
    location: str
    since: int = 0
    skip: int = 0
    within: int = 0

    def behind(self, entry: op.QueueEntry) -> _Place:
        """Past an entry of its queue."""
        skip = self.skip + 1 if entry.next_attempt == self.since else 1
        return _Place(self.partition, self.location, entry.next_attempt, skip)

    def __str__(self) -> str:
        return f"{self.partition}:{self.location}:{self.since}:{self.skip}:{self.within}"

    @classmethod
    def read(cls, text: str) -> _Place:
        """Raises ValueError: it is no cursor."""
        partition, location, *numbers = text.split(":")
        since, skip, within = (int(number) for number in numbers)
        if min(since, skip, within) < 0:
            raise ValueError(text)
        return cls(partition, location, since, skip, within)


def listed(
    core: Core,
    store: Store,
    locations: Sequence[str] | None = None,
    *,
    cursor: str | None = None,
    limit: int = 100,
    failing: bool = False,
    looks: int = LOOKS,
) -> Listing:
    """At most `limit` owed resources, each queue's first due on top; with `failing` only those that were tried and
    failed. Looks at `looks` queue entries at most, and changes nothing.

    Raises:
        ValueError: the cursor is none of ours.
    """
    start = _Place.read(cursor) if cursor is not None else None
    found: list[OwedResource] = []
    looked = 0
    for place in _queues(core, store, locations, start):
        while True:
            room = min(PAGE, looks - looked, PAGE if failing else limit - len(found) + 1)
            if room <= 0:
                return Listing(found, str(place), looked)
            page = store.execute(op.QueuePage(place.partition, place.location, place.since, place.skip, room))
            for entry, owed in zip(page, read(store, place.location, page), strict=True):
                wanted = [one for one in owed if not failing or one.standing is Standing.FAILING][place.within :]
                taken = wanted[: limit - len(found)]
                found += taken
                if len(taken) < len(wanted):
                    return Listing(found, str(replace(place, within=place.within + len(taken))), looked)
                place = place.behind(entry)
                looked += 1
            if len(page) < room:
                break
    return Listing(found, None, looked)


def try_now(
    core: Core, store: Store, locations: Sequence[str] | None = None, resource_id: str | None = None
) -> tuple[int, int]:
    """Makes what failed and backs off due now (only that resource, if one is named); its tries stay counted.

    Returns:
        How many are due now by this word, and how many that failed were found, those that were due already too.
    """
    found: dict[tuple[str, str], None] = {}
    cursor: str | None = None
    while True:
        page = listed(core, store, locations, cursor=cursor, limit=PAGE, failing=True)
        keys = [(one.session_id, one.record.resource_id) for one in page.resources]
        found.update((key, None) for key in keys if resource_id in (None, key[1]))
        cursor = page.next_cursor
        if cursor is None:
            break
    # only now: what is due moves to the front, and the walk would miss what took its place
    words, done = [op.TryNow(*key) for key in found], 0
    for start in range(0, len(words), PAGE):
        for answer in store.execute_many(words[start : start + PAGE]):
            if isinstance(answer, StoreError):
                raise answer
            done += answer
    return done, len(found)


def _queues(core: Core, store: Store, locations: Sequence[str] | None, start: _Place | None) -> Iterator[_Place]:
    """Where to begin in each queue that has entries, in order; from `start` on."""
    for partition in run(partitions(core), store):
        if start is not None and partition < start.partition:
            continue
        for queue in sorted(store.execute(op.Queues(partition)), key=lambda depth: depth.location):
            if not queue.entries or (locations is not None and queue.location not in locations):
                continue
            if start is None or partition > start.partition or queue.location > start.location:
                yield _Place(partition, queue.location)
            elif queue.location == start.location:
                yield start


def read(store: Store, location: str, entries: Sequence[op.QueueEntry]) -> list[list[OwedResource]]:
    """Of each entry what it owes at that location, by id; nothing where it was settled meanwhile."""
    found: list[list[OwedResource]] = []
    for start in range(0, len(entries), ROUND):
        part = entries[start : start + ROUND]
        questions: list[op.Operation[object]] = []
        for entry in part:
            questions += [op.PeekSession(entry.session_id), op.ListResources(entry.session_id)]
        answers = iter(store.execute_many(questions))
        for entry in part:
            peeked, records = next(answers), next(answers)
            if isinstance(peeked, StoreError):
                raise peeked
            if isinstance(records, StoreError):
                raise records
            found.append(list(_owed(entry, peeked, records, location)))
    return found


def _owed(
    entry: op.QueueEntry, peeked: op.Peeked, records: Sequence[ResourceRecord], location: str
) -> Iterator[OwedResource]:
    tombstone = peeked.tombstone
    for record in sorted(records, key=lambda one: one.resource_id):
        backs_off = record.state is ResourceState.OWED
        if record.location != location or record.state is ResourceState.DEAD:
            continue
        if peeked.record is not None and not backs_off:
            continue  # the live session's own
        yield OwedResource(
            entry.session_id,
            record,
            record.until if backs_off else entry.next_attempt,
            None if tombstone is None else tombstone.ended,
            "" if tombstone is None else tombstone.reason,
            peeked.now,
        )
