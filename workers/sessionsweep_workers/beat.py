"""A beat scheduler that is safe in any number: each entry's slot is leased in the store before it is sent."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from celery.beat import ScheduleEntry, Scheduler

from sessionsweep.errors import SessionSweepError
from sessionsweep.store import operations as op
from sessionsweep_workers.context import current

log = logging.getLogger(__name__)


class LeasedScheduler(Scheduler):  # type: ignore[misc]
    """Of any number of beats one sends each slot. No file is kept: what was missed is in the store, not in a schedule.

    A slot is the store's time divided by the interval, so beats on hosts with different clocks agree on it. A store
    that doesn't answer makes a beat skip, not exit.
    """

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Sends an entry if this beat wins its slot."""
        if not str(entry.task).startswith("sessionsweep."):
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        seconds = max(entry.schedule.run_every.total_seconds(), 0.05)
        try:
            store = current().store
            now = store.execute(op.Facts()).now
            slot = round(now / (seconds * 1000))
            token = f"{socket.gethostname()}:{os.getpid()}:{slot}"
            won = store.execute(op.TakeLease(f"beat:{entry.name}:{slot}", token, round(seconds * 2000) + 1000))
            store.execute(op.SetMeta({"beat_seen": str(now)}, raise_only=True))
        except SessionSweepError as error:
            log.warning("beat waits for the store: %s", error)
            if advance:
                self.reserve(entry)
            return None
        if not won:
            log.debug("another beat sent %s", entry.name)
            if advance:
                self.reserve(entry)
            return None
        entry.kwargs = {**(entry.kwargs or {}), "slot": now}
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
