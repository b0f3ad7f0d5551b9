"""Keep-alives of sessions and pins of resources, by token."""

from __future__ import annotations

from sessionsweep.model.states import ResourceState
from sessionsweep.store.memory.ending import is_over
from sessionsweep.store.memory.sessions import file_earlier
from sessionsweep.store.memory.state import Holdings, Partition, Session, State
from sessionsweep.store.memory.steps import Step, session_step
from sessionsweep.store.operations import Defer, Undefer

KEEP_ALIVE = ""  # what a deferral is about: a resource's id, or the session


@session_step
def defer(state: State, partition: Partition, operation: Defer, now: int) -> int | None:
    """Sets what a token defers, and takes back what it deferred before."""
    session = state.sessions.get(operation.session_id)
    if session is None or is_over(state, partition, session, now):
        return None
    about = operation.resource_id
    holdings = partition.holdings.get(operation.session_id)
    if about != KEEP_ALIVE:
        resource = holdings.records.get(about) if holdings is not None else None
        if resource is None or resource.state is not ResourceState.LIVE:
            return None
    if holdings is None:
        holdings = partition.own(operation.session_id)
    until = now + operation.duration
    changed, _ = _take_back(holdings, operation.token, now)
    holdings.deferrals.append((operation.token, until, about))
    _set_pins(holdings, changed | {about})
    _set_keep_alive(partition, operation.session_id, session, holdings, operation.width)
    return until


@session_step
def undefer(state: State, partition: Partition, operation: Undefer, now: int) -> bool:
    """Takes back what a token deferred; after the session's end too, lest its resources wait in vain."""
    session_id = operation.session_id
    session = state.sessions.get(session_id)
    holdings = partition.holdings.get(session_id)
    grave = partition.grave(session_id, now) if session is None else None
    if session is None and grave is None:
        return False
    if holdings is None:
        return True
    changed, in_force = _take_back(holdings, operation.token, now)
    _set_pins(holdings, changed)
    if session is not None:
        if changed:  # a token that defers nothing changes nothing
            _set_keep_alive(partition, session_id, session, holdings, operation.width)
    elif grave is not None:
        grave.due = max(grave.base, _latest(holdings, KEEP_ALIVE))
        if in_force:
            _queue_earlier(state, partition, session_id, holdings, max(now, grave.due), now)
    return True


def _take_back(holdings: Holdings, token: str, now: int) -> tuple[set[str], bool]:
    """Removes the token's deferrals, and all that are over; what the token's were about, and if any still held."""
    mine = [(until, about) for who, until, about in holdings.deferrals if who == token]
    holdings.deferrals = [entry for entry in holdings.deferrals if entry[0] != token and entry[1] > now]
    return {about for _, about in mine}, any(until > now for until, _ in mine)


def _latest(holdings: Holdings, about: str) -> int:
    return max((until for _, until, what in holdings.deferrals if what == about), default=0)


def _set_pins(holdings: Holdings, resource_ids: set[str]) -> None:
    for resource_id in resource_ids - {KEEP_ALIVE}:
        resource = holdings.records.get(resource_id)
        if resource is not None and resource.state is ResourceState.LIVE:
            resource.till = _latest(holdings, resource_id)


def _set_keep_alive(partition: Partition, session_id: str, session: Session, holdings: Holdings, width: int) -> None:
    session.own_more().keep = _latest(holdings, KEEP_ALIVE)
    file_earlier(partition, session_id, session, width)


def _queue_earlier(state: State, partition: Partition, session_id: str, holdings: Holdings, due: int, now: int) -> None:
    """The queues look again then; a lease of what isn't due after all puts the entry back."""
    for place in holdings.places:
        queue = partition.queue(place)
        if session_id in queue.times:
            queue.put_earlier(session_id, due)
            if due <= now:
                state.nudges.tell(place)


STEPS: dict[type, Step] = {Defer: defer, Undefer: undefer}
