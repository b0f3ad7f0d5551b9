"""Times that were written while the clock was ahead, and that nobody would live to see."""

from __future__ import annotations

from sessionsweep.model.states import ResourceState
from sessionsweep.store.memory.state import Grave, Holdings, Partition

AHEAD, DAY = 60_000, 86_400_000  # ms


def is_steady(partition: Partition, now: int) -> bool:
    """Whether the clock has not gone back for a day.

    A time that lies ahead says that one of two clocks was wrong, not which: were sessions set back while the clock is
    behind, all would end when it is right again.
    """
    if not partition.latest or partition.latest > now + AHEAD:
        partition.latest = partition.steady_since = now
    elif now > partition.latest + AHEAD:
        partition.latest = now
    return now - partition.steady_since >= DAY


def backdate_records(
    partition: Partition, session_id: str, holdings: Holdings, now: int, grace: int, *, touched: bool
) -> bool:
    """`touched`: of a live session whose own times lay ahead. Answers whether any record was changed."""
    changed = False
    for resource_id, resource in holdings.records.items():
        latest = now + max(DAY, grace)  # no back-off and no grace lasts longer
        if resource.state is ResourceState.OWED and resource.till > max(latest, deferred(holdings, resource_id)):
            resource.till = now + grace
            changed = True
        elif touched and max(resource.created, resource.used) > now + AHEAD:
            if resource.state is ResourceState.INTENT and resource.created > now + AHEAD:
                resource.till += now - resource.created
                partition.intents.put((session_id, resource_id), resource.till)
            resource.created, resource.used = min(resource.created, now), min(resource.used, now)
            changed = True
    return changed


def backdate_grave(grave: Grave, holdings: Holdings, now: int, grace: int) -> bool:
    """A tombstone that was written by such a clock is due after a grace from now, or when its jobs let go."""
    if grave.ended <= now + AHEAD:
        return False
    grave.ended, grave.base = now, min(grave.base, now + grace)
    grave.due = max(grave.base, deferred(holdings, ""))
    return True


def deferred(holdings: Holdings, about: str) -> int:
    """Until when jobs defer a resource, or (the empty id) the session's end: whatever clock said so, it is their
    word.
    """
    return max((until for _, until, what in holdings.deferrals if what == about), default=0)
