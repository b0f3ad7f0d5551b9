"""Reading events, and telling those that belong to the whole deployment."""

from __future__ import annotations

from sessionsweep.model.events import DEPLOYMENT, Event, place_after, read_event
from sessionsweep.store.memory.events import Row
from sessionsweep.store.memory.state import State
from sessionsweep.store.memory.steps import Step, common_step
from sessionsweep.store.operations import Emit, EventPage, Events, EventsBefore


def events(state: State, operation: Events) -> EventPage:
    """A page of a partition's rows; under no lock but the log's own."""
    name = operation.partition
    log = state.partition(name).events
    rows, (ms, seq), lost = log.page(place_after(name, operation.after), operation.count)
    return EventPage(_told(name, rows), f"{name}:{ms}-{seq}", lost, len(rows) == operation.count)


def events_before(state: State, operation: EventsBefore) -> EventPage:
    """The same backwards."""
    name = operation.partition
    rows = state.partition(name).events.page_before(place_after(name, operation.before), operation.count)
    last = f"{name}:{rows[-1][0][0]}-{rows[-1][0][1]}" if rows else operation.before
    return EventPage(_told(name, rows), last, more=len(rows) == operation.count)


def _told(name: str, rows: list[Row]) -> tuple[Event, ...]:
    found = (read_event(name, f"{at[0]}-{at[1]}", row) for at, row in rows)
    return tuple(event for event in found if event is not None)


@common_step
def emit(state: State, operation: Emit, now: int) -> bool:
    """Adds a row, unless the same was told within this second."""
    log = state.partition(DEPLOYMENT).events
    if operation.once and not log.once(now, operation.once):
        return False
    row = {"e": str(operation.name)} | ({"s": operation.session_id} if operation.session_id else {})
    log.add(now, row | {name: str(value) for name, value in operation.fields.items()})
    return True


STEPS: dict[type, Step] = {Events: events, EventsBefore: events_before, Emit: emit}
