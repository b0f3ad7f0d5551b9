"""What operators look at: a slice of a reclaim queue."""

from __future__ import annotations

from sessionsweep.store.memory.state import FAR, Partition, State
from sessionsweep.store.memory.steps import Step, partition_step
from sessionsweep.store.operations import QueueEntry, QueuePage


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


STEPS: dict[type, Step] = {QueuePage: queue_page}
