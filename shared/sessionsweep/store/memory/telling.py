"""Reading events, and telling those that belong to the whole deployment."""

from __future__ import annotations

from sessionsweep.model.events import DEPLOYMENT, place_after, read_event
from sessionsweep.store.memory.state import State
from sessionsweep.store.memory.steps import Step, common_step
from sessionsweep.store.operations import Emit, EventPage, Events


def events(state: State, operation: Events) -> EventPage:
    """A page of a partition's rows; under no lock but the log's own."""
    name = operation.partition
    log = state.partition(name).events
    rows, (ms, seq), lost = log.page(place_after(name, operation.after), operation.count)
    found = (read_event(name, f"{at[0]}-{at[1]}", row) for at, row in rows)
    told = tuple(event for event in found if event is not None)
    return EventPage(told, f"{name}:{ms}-{seq}", lost, len(rows) == operation.count)


@common_step
def emit(state: State, operation: Emit, now: int) -> bool:
    """Adds a row, unless the same was told within this second."""
    log = state.partition(DEPLOYMENT).events
    if operation.once and not log.once(now, operation.once):
        return False
    row = {"e": str(operation.name)} | ({"s": operation.session_id} if operation.session_id else {})
    log.add(now, row | {name: str(value) for name, value in operation.fields.items()})
    return True


STEPS: dict[type, Step] = {Events: events, Emit: emit}
