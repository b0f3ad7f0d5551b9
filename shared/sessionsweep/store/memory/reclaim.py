"""The reclaim queues: leasing what is owed, acknowledging attempts, dead letters."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator

from sessionsweep.model import books
from sessionsweep.model.events import EventName
from sessionsweep.model.states import Outcome, ResourceState
from sessionsweep.store.memory.ending import due_time
from sessionsweep.store.memory.resources import STREAM, uncount
from sessionsweep.store.memory.state import FAR, Batch, Grave, Partition, Resource, State
from sessionsweep.store.memory.steps import Step, partition_step, session_step
from sessionsweep.store.memory.timed import TimedSet
from sessionsweep.store.operations import (
    Attempt,
    DeadLetter,
    DeadLetters,
    DropDead,
    Lease,
    Leased,
    LeasedResource,
    LeaseHeld,
    QueueDepth,
    Queues,
    RetryDead,
    Settle,
    Settled,
)

DEAD_SESSIONS = 25  # looked at in one lease of a location that is gone
LONGEST_ERROR = 200  # bytes of a failure's message that are kept
_COUNTED = {
    Outcome.DELETED: books.DELETED,
    Outcome.GONE: books.GONE,
    Outcome.PROMOTED: books.PROMOTED,
    Outcome.FORGOTTEN: books.FORGOTTEN,
}
#: what leaves a live session by itself is told one by one
_TOLD = {Outcome.PROMOTED: EventName.RESOURCE_PROMOTED, Outcome.FORGOTTEN: EventName.RESOURCE_FORGOTTEN}


@partition_step
def lease(state: State, partition: Partition, operation: Lease, now: int) -> Leased:
    """Takes what is due; the entries stay queued, at the lease's end."""
    location = operation.location
    queue = partition.queues.get(location)
    if queue is None:
        return Leased((), 0, now)
    key = (location, operation.lease_id)
    known = _batch(partition, key, now)
    batch = known or Batch()
    entries: list[tuple[str, tuple[LeasedResource, ...]]] = []
    room = operation.limit
    for session_id in known.ids if known is not None else _due_sessions(queue, operation, now):
        taken = _take(state, partition, session_id, operation, now, room)
        if taken:
            room -= len(taken)
            entries.append((session_id, taken))
            if known is None:
                queue.put(session_id, now + max(1, operation.duration))
                batch.ids.append(session_id)
                batch.expires = now + operation.duration
        elif operation.dead:
            queue.remove(session_id)
        else:
            requeue(state, partition, session_id, location, now)
        if room <= 0:
            break
    if batch.ids and known is None:
        partition.batches[key] = batch
    first = queue.earliest()
    if operation.dead and first is None and location.startswith("p."):
        del partition.queues[location]  # one that was only paused comes back with its next stream
    return Leased(tuple(entries), first[0] if first is not None and first[0] < FAR else 0, now)


def _due_sessions(queue: TimedSet[str], operation: Lease, now: int) -> Iterator[str]:
    """Sessions whose entry is due, first come first; whoever takes one moves or removes its entry."""
    if operation.dead:
        yield from heapq.nsmallest(DEAD_SESSIONS, queue.times, key=lambda sid: (queue.times[sid], sid))
        return
    horizon = min(now, operation.bound) if operation.bound else now
    while (first := queue.earliest()) is not None and first[0] <= horizon:
        yield first[1]
        if queue.times.get(first[1]) == first[0]:  # the queue said due, the records don't: not again now
            queue.put(first[1], now + 1000)


def _take(
    state: State, partition: Partition, session_id: str, operation: Lease, now: int, room: int
) -> tuple[LeasedResource, ...]:
    holdings = partition.holdings.get(session_id)
    if holdings is None:
        return ()
    live = session_id in state.sessions
    grave = partition.grave(session_id, now)
    taken: list[LeasedResource] = []
    for resource_id, resource in holdings.records.items():
        if len(taken) >= room:
            break
        if resource.location != operation.location or resource.state is ResourceState.DEAD:
            continue
        due = due_time(resource, live=live, grave=grave)
        if operation.dead or (due is not None and due <= now):
            taken.append(LeasedResource(resource_id, resource.kind, resource.size, resource.tries, resource.purpose))
    return tuple(taken)


def _batch(partition: Partition, key: tuple[str, str], now: int) -> Batch | None:
    """A batch whose lease still runs; those that lapsed are forgotten."""
    for lapsed in [other for other, batch in partition.batches.items() if batch.expires <= now]:
        del partition.batches[lapsed]
    return partition.batches.get(key)


def requeue(state: State, partition: Partition, session_id: str, location: str, now: int) -> int:
    """Sets a session's place in one queue by what it still owes there; answers how many resources that is."""
    holdings = partition.holdings.get(session_id)
    live = session_id in state.sessions
    grave = partition.grave(session_id, now)
    owed, earliest, streams = 0, FAR, False
    for resource in holdings.records.values() if holdings is not None else ():
        if resource.location != location:
            continue
        due = due_time(resource, live=live, grave=grave)
        if due is not None:
            owed += 1
            earliest = min(earliest, due)
        elif resource.kind == STREAM and resource.state is not ResourceState.DEAD:
            streams = True
    if owed or streams:
        partition.queue(location).put(session_id, earliest)
    elif location in partition.queues:
        partition.queues[location].remove(session_id)
    return owed


@partition_step
def lease_held(state: State, partition: Partition, operation: LeaseHeld, now: int) -> bool:
    """Whether the lease still runs."""
    return _batch(partition, (operation.location, operation.lease_id), now) is not None


@session_step
def settle(state: State, partition: Partition, operation: Settle, now: int) -> Settled:
    """Acknowledges attempts; each counts only if its record was there."""
    session_id = operation.session_id
    holdings = partition.holdings.get(session_id)
    live = session_id in state.sessions
    grave = partition.grave(session_id, now)
    counted, freed = 0, 0
    dead: dict[str, str] = {}
    became: Counter[str] = Counter()
    failed: tuple[Attempt, Resource] | None = None
    left_here: list[str] = []
    error: str | None = None

    def tell(name: EventName, resource_id: str = "", **fields: object) -> None:
        row = {"e": str(name), "s": session_id} | ({"x": resource_id} if resource_id else {})
        partition.events.add(now, row | {key: str(value) for key, value in fields.items()})

    for attempt in operation.attempts:
        resource = holdings.records.get(attempt.resource_id) if holdings is not None else None
        if holdings is None or resource is None:
            continue
        owed = resource.state is ResourceState.OWED or (not live and resource.state is not ResourceState.DEAD)
        if attempt.outcome in _COUNTED:
            if owed or resource.state is ResourceState.DEAD or operation.own:
                _remove(state, partition, session_id, attempt, resource, owed)
                del holdings.records[attempt.resource_id]
                left_here.append(attempt.resource_id)
                became["dead"] -= resource.state is ResourceState.DEAD
                became[attempt.outcome] += 1
                became["bytes"] += resource.size * (attempt.outcome is Outcome.DELETED)
                if live and attempt.outcome in _TOLD:
                    tell(_TOLD[attempt.outcome], attempt.resource_id)
                counted += 1
                freed += resource.size
        elif owed and not (resource.state is ResourceState.OWED and resource.till > now):
            # Before its time has come again it is the same report once more, which must not cost a try.
            if _postpone(partition, session_id, attempt, resource, operation.tries, now):
                dead[attempt.resource_id] = resource.error
                became["dead"] += 1
            if attempt.outcome is Outcome.FAILED:
                counted += 1
                became["failed"] += 1
                error = resource.error
                failed = failed or (attempt, resource)
    if failed is not None:
        attempt, resource = failed
        tell(EventName.RESOURCE_FAILED, attempt.resource_id, location=operation.location, error=resource.error,
             tries=resource.tries, count=became["failed"])  # fmt: skip
    for resource_id, reason in dead.items():
        tell(EventName.RESOURCE_DEAD_LETTERED, resource_id, location=operation.location, error=reason)
    if left_here and (not live or became["deleted"] or became["gone"]):
        tell(EventName.RESOURCES_RECLAIMED, location=operation.location, deleted=became["deleted"], gone=became["gone"],
             promoted=0 if live else became["promoted"], forgotten=0 if live else became["forgotten"],
             bytes=became["bytes"])  # fmt: skip
    if not live and close_debt(partition, session_id, operation.retention, now):
        if operation.location in partition.queues:
            partition.queues[operation.location].remove(session_id)
        if left_here:
            tell(EventName.SESSION_RECLAIMED)
        left = 0
    else:
        left = requeue(state, partition, session_id, operation.location, now)
    if grave is not None and any(became.values()):
        grave.note(operation.location, now, became, error)
    return Settled(counted, tuple(dead), left, freed)


def _remove(
    state: State, partition: Partition, session_id: str, attempt: Attempt, resource: Resource, owed: bool
) -> None:
    """Moves a resource that is no more from one book to another."""
    count = partition.counters
    member = (session_id, attempt.resource_id)
    if resource.state is ResourceState.INTENT:
        partition.intents.remove(member)
    if resource.state is ResourceState.DEAD:
        partition.dead.remove(member)
        count[books.DEAD] -= 1
    elif owed:
        count[books.OWED] -= 1
        count[books.OWED_BYTES] -= resource.size
    else:
        uncount(partition, session_id, state.sessions[session_id].own_more(), attempt.resource_id, resource)
        count[books.ACTIVE] -= 1
        count[books.ACTIVE_BYTES] -= resource.size
    count[_COUNTED[attempt.outcome]] += 1
    if attempt.outcome is Outcome.DELETED:
        count[books.DELETED_BYTES] += resource.size


def _postpone(
    partition: Partition, session_id: str, attempt: Attempt, resource: Resource, tries: int, now: int
) -> bool:
    """Busy: later, no try used. Failed: later, or a dead letter after the last try; answers whether."""
    if resource.state is ResourceState.INTENT:
        partition.intents.remove((session_id, attempt.resource_id))
    resource.state = ResourceState.OWED
    resource.till = now + attempt.delay
    if attempt.outcome is Outcome.BUSY:
        return False
    resource.tries = min(resource.tries + 1, 255)
    resource.error = attempt.error.encode()[:LONGEST_ERROR].decode(errors="replace")
    if resource.tries < tries:
        return False
    resource.state, resource.till = ResourceState.DEAD, now
    partition.dead.put((session_id, attempt.resource_id), now)
    partition.counters[books.OWED] -= 1
    partition.counters[books.OWED_BYTES] -= resource.size
    partition.counters[books.DEAD] += 1
    return True


def close_debt(partition: Partition, session_id: str, retention: int, now: int) -> bool:
    """An ended session without records owes nothing: its tombstone is a receipt from now on."""
    holdings = partition.holdings.get(session_id)
    if holdings is not None and holdings.records:
        return False
    partition.holdings.pop(session_id, None)
    grave: Grave | None = partition.graves.get(session_id)
    if grave is not None:
        grave.expires = now + retention
        partition.receipts.put(session_id, grave.expires)
    return True


@partition_step
def queues(state: State, partition: Partition, operation: Queues, now: int) -> tuple[QueueDepth, ...]:
    """How deep every location's queue is."""
    depths = []
    for location, queue in partition.queues.items():
        first = queue.earliest()
        entries = sum(moment < FAR for moment in queue.times.values())
        late = max(1, now - first[0]) if first is not None and first[0] <= now else 0  # due just now counts
        depths.append(QueueDepth(location, entries, late))
    return tuple(depths)


@partition_step
def dead_letters(state: State, partition: Partition, operation: DeadLetters, now: int) -> tuple[DeadLetter, ...]:
    """A page of dead letters."""
    members = partition.dead.ordered()[operation.offset : operation.offset + operation.limit]
    return tuple(
        DeadLetter(session_id, partition.holdings[session_id].records[resource_id].copy_out(resource_id))
        for session_id, resource_id in members
    )


def _dead_letter(partition: Partition, session_id: str, resource_id: str) -> Resource | None:
    holdings = partition.holdings.get(session_id)
    resource = holdings.records.get(resource_id) if holdings is not None else None
    return resource if resource is not None and resource.state is ResourceState.DEAD else None


@session_step
def retry_dead(state: State, partition: Partition, operation: RetryDead, now: int) -> bool:
    """Owed again, due now, with all its tries."""
    resource = _dead_letter(partition, operation.session_id, operation.resource_id)
    if resource is None:
        return False
    partition.dead.remove((operation.session_id, operation.resource_id))
    resource.state, resource.till, resource.tries = ResourceState.OWED, now, 0
    partition.queue(resource.location).put_earlier(operation.session_id, now)
    partition.counters[books.DEAD] -= 1
    partition.counters[books.OWED] += 1
    partition.counters[books.OWED_BYTES] += resource.size
    if (grave := partition.grave(operation.session_id, now)) is not None:
        grave.note(resource.location, now, Counter(dead=-1))
    state.nudges.tell(resource.location)
    return True


@session_step
def drop_dead(state: State, partition: Partition, operation: DropDead, now: int) -> bool:
    """Forgets a dead letter, and only a dead letter."""
    resource = _dead_letter(partition, operation.session_id, operation.resource_id)
    if resource is None:
        return False
    attempt = Attempt(operation.resource_id, Outcome.FORGOTTEN)
    partition.events.add(
        now, {"e": EventName.RESOURCE_FORGOTTEN, "s": operation.session_id, "x": operation.resource_id}
    )
    if (grave := partition.grave(operation.session_id, now)) is not None:
        grave.note(resource.location, now, Counter(forgotten=1, dead=-1))
    _remove(state, partition, operation.session_id, attempt, resource, owed=False)
    del partition.holdings[operation.session_id].records[operation.resource_id]
    if operation.session_id not in state.sessions and close_debt(
        partition, operation.session_id, operation.retention, now
    ):
        partition.events.add(now, {"e": EventName.SESSION_RECLAIMED, "s": operation.session_id})
    return True


STEPS: dict[type, Step] = {
    Lease: lease,
    LeaseHeld: lease_held,
    Settle: settle,
    Queues: queues,
    DeadLetters: dead_letters,
    RetryDead: retry_dead,
    DropDead: drop_dead,
}
