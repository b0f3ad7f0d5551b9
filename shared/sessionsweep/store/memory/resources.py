"""Registering, growing, committing, using and giving up resources, within their session's limits."""

from __future__ import annotations

from sessionsweep.model import books
from sessionsweep.model.events import EventName
from sessionsweep.model.resource import KINDS, ResourceRecord
from sessionsweep.model.session import FLAG_USER_QUOTA
from sessionsweep.model.states import ResourceState
from sessionsweep.store.memory.ending import is_over, move_books, owe_place
from sessionsweep.store.memory.state import FAR, Holdings, More, Partition, Resource, State
from sessionsweep.store.memory.steps import Step, session_step
from sessionsweep.store.operations import (
    Commit,
    Grow,
    ListResources,
    LiveResources,
    Owned,
    Ownership,
    Readopt,
    Register,
    Registered,
    Release,
    UseResource,
)

STREAM = KINDS["stream"]
FILE = KINDS["file"]


@session_step
def register(state: State, partition: Partition, operation: Register, now: int) -> Registered:
    """Registers a resource, evicting what must go; nothing changes when that isn't enough."""
    session_id, resource_id = operation.session_id, operation.resource_id
    session = state.sessions.get(session_id)
    if session is None or is_over(state, partition, session, now):
        return Registered("ended")
    holdings = partition.holdings.get(session_id)
    there = holdings.records.get(resource_id) if holdings is not None else None
    if there is not None:
        if there.state in (ResourceState.INTENT, ResourceState.LIVE):
            return Registered("ok", (), there.till)
        return Registered("unknown")  # given up since: ids are never used twice
    if 0 < operation.not_after < now or (operation.user and session.more.user != operation.user):
        return Registered("lapsed")
    more = session.more
    stream = operation.kind == STREAM
    size = 0 if stream else operation.size
    victims: tuple[str, ...] = ()
    if stream:
        if more.streams + 1 > operation.max_streams:
            return _refused(partition, session_id, "limit:streams", operation.max_streams, now)
    else:
        too_many = more.resources + 1 - operation.max_resources
        too_much = more.bytes_used + size - operation.max_bytes
        chosen = _choose_victims(holdings, now, too_many, too_much)
        if isinstance(chosen, str):
            value = operation.max_bytes if chosen == "limit:bytes" else operation.max_resources
            return _refused(partition, session_id, chosen, value, now)
        victims = chosen
    partition.events.add(
        now,
        {"e": EventName.RESOURCE_REGISTERED, "s": session_id, "x": resource_id, "kind": operation.kind,
         "location": operation.location},
    )  # fmt: skip
    holdings = partition.own(session_id)
    holdings.places.setdefault(operation.location)
    queue = partition.queue(operation.location)
    until = 0 if operation.live else now + operation.intent_timeout
    status = ResourceState.LIVE if operation.live else ResourceState.INTENT
    holdings.records[resource_id] = Resource(
        status, operation.kind, operation.location, size, now, until, operation.purpose
    )
    if not operation.live:
        partition.intents.put((session_id, resource_id), until)
    if stream and session_id not in queue.times:
        queue.put(session_id, FAR)  # so that the streams of a process that died can be found
    more = session.own_more()
    _evict(state, partition, session_id, more, holdings, victims, now)
    _recount(more, operation.kind, 1, size)
    if operation.quota:
        more.flags |= FLAG_USER_QUOTA
    partition.counters[books.REGISTERED] += 1
    partition.counters[f"{books.REGISTERED}:{operation.kind}"] += 1
    partition.counters[books.STREAMS] += stream
    move_books(partition, 1, size, 0, 0)
    return Registered("ok", victims, until)


@session_step
def grow(state: State, partition: Partition, operation: Grow, now: int) -> Registered:
    """Raises an intent's reservation and renews its deadline."""
    session_id = operation.session_id
    session = state.sessions.get(session_id)
    if session is None or is_over(state, partition, session, now):
        return Registered("ended")
    holdings, resource = _find(partition, session_id, operation.resource_id)
    if holdings is None or resource is None or resource.state is not ResourceState.INTENT:
        return Registered("unknown")
    extra = max(0, operation.size - resource.size)
    victims: tuple[str, ...] = ()
    if extra:
        chosen = _choose_victims(holdings, now, 0, session.more.bytes_used + extra - operation.max_bytes)
        if isinstance(chosen, str):
            if not operation.tell:
                return Registered(chosen)
            return _refused(partition, session_id, chosen, operation.max_bytes, now)
        victims = chosen
    resource.size += extra
    resource.till = max(resource.till, now + operation.intent_timeout)
    partition.intents.put((session_id, operation.resource_id), resource.till)
    more = session.own_more()
    _evict(state, partition, session_id, more, holdings, victims, now)
    more.bytes_used += extra
    move_books(partition, 0, extra, 0, 0)
    return Registered("ok", victims, resource.till)


@session_step
def commit(state: State, partition: Partition, operation: Commit, now: int) -> Registered:
    """Makes an intent live at its true size."""
    session_id = operation.session_id
    session = state.sessions.get(session_id)
    if session is None or is_over(state, partition, session, now):
        return Registered("ended")
    _, resource = _find(partition, session_id, operation.resource_id)
    if resource is not None and resource.state is ResourceState.LIVE:
        return Registered("ok")
    if resource is None or resource.state is not ResourceState.INTENT:
        return Registered("unknown")
    if operation.size > resource.size:
        return Registered("limit:bytes")
    partition.events.add(
        now,
        {"e": EventName.RESOURCE_COMMITTED, "s": session_id, "x": operation.resource_id, "size": str(operation.size)},
    )
    saved = resource.size - operation.size
    partition.intents.remove((session_id, operation.resource_id))
    session.own_more().bytes_used -= saved
    move_books(partition, 0, -saved, 0, 0)
    resource.state, resource.size, resource.used, resource.till = ResourceState.LIVE, operation.size, now, 0
    return Registered("ok")


@session_step
def release(state: State, partition: Partition, operation: Release, now: int) -> bool:
    """Gives up one resource of a session whose record is there, due or not."""
    session = state.sessions.get(operation.session_id)
    _, resource = _find(partition, operation.session_id, operation.resource_id)
    if resource is None:
        return False
    if session is None or resource.state not in (ResourceState.INTENT, ResourceState.LIVE):
        return True  # given up already: the answer to the first word may have been lost
    partition.events.add(now, {"e": EventName.RESOURCE_RELEASED, "s": operation.session_id, "x": operation.resource_id})
    owe(state, partition, operation.session_id, session.own_more(), operation.resource_id, resource, now)
    return True


@session_step
def use(state: State, partition: Partition, operation: UseResource, now: int) -> ResourceRecord | None:
    """Moves a live resource to the end of the eviction order."""
    session = state.sessions.get(operation.session_id)
    if session is None or is_over(state, partition, session, now):
        return None
    _, resource = _find(partition, operation.session_id, operation.resource_id)
    if resource is None or resource.state is not ResourceState.LIVE:
        return None
    resource.used = max(resource.used, now)
    return resource.copy_out(operation.resource_id)


@session_step
def live_resources(
    state: State, partition: Partition, operation: LiveResources, now: int
) -> tuple[ResourceRecord, ...]:
    """All records, unless the session is over."""
    session = state.sessions.get(operation.session_id)
    if session is None or is_over(state, partition, session, now):
        return ()
    return _copies(partition, operation.session_id)


@session_step
def list_resources(
    state: State, partition: Partition, operation: ListResources, now: int
) -> tuple[ResourceRecord, ...]:
    """All records, whether or not the session lives."""
    return _copies(partition, operation.session_id)


def _copies(partition: Partition, session_id: str) -> tuple[ResourceRecord, ...]:
    """In the order of registration."""
    holdings = partition.holdings.get(session_id)
    if holdings is None:
        return ()
    return tuple(resource.copy_out(resource_id) for resource_id, resource in holdings.records.items())


@session_step
def owned(state: State, partition: Partition, operation: Owned, now: int) -> Ownership:
    """Whether resources found on a disk have an owner."""
    session_id = operation.session_id
    holdings = partition.holdings.get(session_id)
    records = holdings.records if holdings is not None else {}
    present = tuple(resource_id in records for resource_id in operation.resource_ids)
    if session_id in state.sessions:
        return Ownership("live", present)
    return Ownership("ended" if partition.grave(session_id, now) is not None else "unknown", present)


@session_step
def readopt(state: State, partition: Partition, operation: Readopt, now: int) -> bool:
    """Registers a file that is there already; limits aren't asked."""
    session = state.sessions.get(operation.session_id)
    _, there = _find(partition, operation.session_id, operation.resource_id)
    if session is None or there is not None:
        return False
    partition.events.add(
        now, {"e": EventName.RESOURCE_READOPTED, "s": operation.session_id, "x": operation.resource_id}
    )
    holdings = partition.own(operation.session_id)
    holdings.places.setdefault(operation.location)
    partition.queue(operation.location)
    holdings.records[operation.resource_id] = Resource(
        ResourceState.LIVE, FILE, operation.location, operation.size, now, 0, "found"
    )
    _recount(session.own_more(), FILE, 1, operation.size)
    partition.counters[books.REGISTERED] += 1
    partition.counters[f"{books.REGISTERED}:{FILE}"] += 1
    move_books(partition, 1, operation.size, 0, 0)
    return True


_LIMITS = {
    "limit:resources": "MAX_RESOURCES_PER_SESSION",
    "limit:bytes": "MAX_BYTES_PER_SESSION",
    "limit:streams": "MAX_STREAMS_PER_SESSION",
}


def _refused(partition: Partition, session_id: str, status: str, value: int, now: int) -> Registered:
    limit = _LIMITS[status]
    if partition.events.once(now, f"{limit} {session_id}"):
        row = {"e": EventName.LIMIT_REACHED, "s": session_id, "limit": limit, "value": str(value)}
        partition.events.add(now, row)
    return Registered(status)


def _find(partition: Partition, session_id: str, resource_id: str) -> tuple[Holdings | None, Resource | None]:
    holdings = partition.holdings.get(session_id)
    return holdings, holdings.records.get(resource_id) if holdings is not None else None


def _choose_victims(holdings: Holdings | None, now: int, too_many: int, too_much: int) -> tuple[str, ...] | str:
    """Whom limits push out, the least recently used first; or which limit can't be kept."""
    if too_many <= 0 and too_much <= 0:
        return ()
    victims: list[str] = []
    records = holdings.records if holdings is not None else {}
    candidates = [
        (resource.used, resource_id, resource)
        for resource_id, resource in records.items()
        if resource.state is ResourceState.LIVE and resource.kind != STREAM and resource.till <= now
    ]
    candidates.sort(key=lambda candidate: candidate[:2])
    for _, resource_id, resource in candidates:
        if too_many <= 0 and too_much <= 0:
            break
        if too_many > 0 or resource.size > 0:  # an empty file frees no bytes
            victims.append(resource_id)
            too_many -= 1
            too_much -= resource.size
    if too_many > 0:
        return "limit:resources"
    return "limit:bytes" if too_much > 0 else tuple(victims)


def _evict(
    state: State, partition: Partition, session_id: str, more: More, holdings: Holdings,
    victims: tuple[str, ...], now: int,
) -> None:  # fmt: skip
    if not victims:
        return
    partition.events.add(now, {"e": EventName.RESOURCES_EVICTED, "s": session_id, "count": str(len(victims))})
    for resource_id in victims:
        owe(state, partition, session_id, more, resource_id, holdings.records[resource_id], now)
    partition.counters[books.EVICTED] += len(victims)


def owe(
    state: State, partition: Partition, session_id: str, more: More, resource_id: str, resource: Resource,
    now: int,
) -> None:  # fmt: skip
    """A resource of a live session becomes owed: due now, or when its pin ends."""
    pinned = 0
    if resource.state is ResourceState.INTENT:
        partition.intents.remove((session_id, resource_id))
    else:
        pinned = resource.till
    resource.state = ResourceState.OWED
    resource.till = max(now, pinned)
    partition.queue(resource.location).put_earlier(session_id, resource.till)
    if resource.till <= now:
        state.nudges.tell(resource.location)
    uncount(partition, session_id, more, resource_id, resource)
    move_books(partition, -1, -resource.size, 1, resource.size)


def uncount(partition: Partition, session_id: str, more: More, resource_id: str, resource: Resource) -> None:
    """Takes a resource out of its session's counts and of its user's quota."""
    _recount(more, resource.kind, -1, -resource.size)
    partition.counters[books.STREAMS] -= resource.kind == STREAM
    if more.flags & FLAG_USER_QUOTA and more.user:
        owe_place(partition, "user", session_id, more.user, resource_id)


def _recount(more: More, kind: str, number: int, size: int) -> None:
    if kind == STREAM:
        more.streams += number
    else:
        more.resources += number
        more.bytes_used += size


STEPS: dict[type, Step] = {
    Register: register,
    Grow: grow,
    Commit: commit,
    Release: release,
    UseResource: use,
    LiveResources: live_resources,
    ListResources: list_resources,
    Owned: owned,
    Readopt: readopt,
}
