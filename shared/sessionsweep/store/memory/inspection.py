"""What operators look at and hurry: a slice of a reclaim queue, a resource that backs off."""

from __future__ import annotations

from sessionsweep.model.states import ResourceState
from sessionsweep.store.memory.state import FAR, Partition, State
from sessionsweep.store.memory.steps import Step, partition_step, session_step
from sessionsweep.store.operations import QueueEntry, QueuePage, TryNow


@partition_step
def queue_page(state: State, partition: Partition, operation: QueuePage, now: int) -> tuple[QueueEntry, ...]:
    """A slice of one location's queue."""
    queue = partition.queues.get(operation.location)
    times = queue.times if queue is not None else {}
    span = sorted((moment, sid) for sid, moment in times.items() if operation.since <= moment < FAR)
    if operation.latest:
        span.reverse()
    page = span[operation.skip : operation.skip + operation.limit]
    return tuple(QueueEntry(session_id, moment) for moment, session_id in page)


@session_step
def try_now(state: State, partition: Partition, operation: TryNow, now: int) -> bool:
    """Due now, if it was tried and failed."""
    holdings = partition.holdings.get(operation.session_id)
    resource = holdings.records.get(operation.resource_id) if holdings is not None else None
    # what was never tried waits for a grace period, a pin or a lock: those are not to be cut short
    if resource is None or resource.state is not ResourceState.OWED or not resource.tries or resource.till <= now:
        return False
    resource.till = now
    partition.queue(resource.location).put_earlier(operation.session_id, now)
    state.nudges.tell(resource.location)
    return True


STEPS: dict[type, Step] = {QueuePage: queue_page, TryNow: try_now}
