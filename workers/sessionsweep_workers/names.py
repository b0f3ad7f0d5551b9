"""The names that Flower, queues and schedules show: tasks, queues, beat entries."""

from __future__ import annotations

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
