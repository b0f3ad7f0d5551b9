"""The names of tasks and queues, as Flower shows them, and of the leases that messages hold."""

from __future__ import annotations

from kombu.entity import Exchange, Queue

QUEUE = "sessionsweep"
SWEEP_IDLE = "sessionsweep.sweep_idle"
SWEEP_EXPIRED = "sessionsweep.sweep_expired"
SWEEP_ORPHANS = "sessionsweep.sweep_orphans"
RECLAIM = "sessionsweep.reclaim"
END_SESSION = "sessionsweep.end_session"
END_USER = "sessionsweep.end_user"
TASKS = (SWEEP_IDLE, SWEEP_EXPIRED, SWEEP_ORPHANS, RECLAIM, END_SESSION, END_USER)


def volume_queue(volume_id: str) -> str:
    """The queue that only workers on nodes with this volume consume."""
    return f"{QUEUE}.volume.{volume_id}"


def declared(queue: str) -> Queue:
    """A queue as we declare it: reached by its name alone, so that no binding can be lost with the broker's data."""
    return Queue(queue, Exchange(""), routing_key=queue)  # type: ignore[no-untyped-call]


def outstanding(volume_id: str) -> str:
    """The lease that a reclaim holds from when it is sent until it begins."""
    return f"reclaim:{volume_id}"
