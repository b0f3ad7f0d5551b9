"""The scheduled jobs: what is due ends, what ended sessions left on this node's disks goes, one event tells of it."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.base import BaseScheduler

from sessionsweep import AsyncSessions, StoreError
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.store.operations import Facts

log = logging.getLogger("apscheduler_job")

RUNS = 6  # that the page shows
#: Stable ids: to register again, after a reload or from a second place, replaces the job.
JOB_ID, ORPHANS_JOB_ID = "session_cleanup", "session_orphans"


class Cleanup:
    """The passes of this process. Any number of processes may run them: each deletes on the disks that it mounts."""

    def __init__(self, sessions: AsyncSessions) -> None:
        self._settings = sessions.settings
        self._store = sessions.blocking
        core, store = sessions.core, sessions.blocking
        # Made once: it remembers the server, and holds everything if that restarted or its clock jumped meanwhile.
        trust = Trust(core, store)
        self._upkeep, self._sweep = Upkeep(core, store, trust), Sweep(core, store, trust)
        self._reclaim, self._orphans = Reclaim(core, store, trust), Orphans(core, store, trust)
        self._stop = threading.Event()
        self.runs: deque[dict[str, Any]] = deque(maxlen=RUNS)  # the last events, the newest first

    def register(self, scheduler: BaseScheduler) -> None:
        """Adds both jobs, or replaces them: every CLEANUP_INTERVAL, and every ORPHAN_INTERVAL."""
        # A run that comes late still runs (the default skips it after a second), and late ones run as one.
        options = {"trigger": "interval", "replace_existing": True, "coalesce": True, "misfire_grace_time": None}
        scheduler.add_job(self.run, id=JOB_ID, seconds=self._settings.cleanup_interval, **options)
        scheduler.add_job(self.run_orphans, id=ORPHANS_JOB_ID, seconds=self._settings.orphan_interval, **options)
        log.info("session_cleanup_scheduled", extra={"interval_seconds": self._settings.cleanup_interval})

    def run(self) -> None:
        """One run. While the server is away it changes nothing; the next run does it all."""
        try:
            now = self._store.execute(Facts()).now  # the server's clock decides what is due, on every node
            self._upkeep.run_once()
            swept = self._sweep.run_once(now, stop=self._stop)
            reclaimed = self._reclaim.run_once(stop=self._stop)
        except StoreError as error:
            self._tell("session_cleanup_failed", error=str(error))
            return
        self._tell(
            "session_cleanup_ran",
            deleted_count=swept.idle + swept.expired,
            cutoff_time=datetime.fromtimestamp(now / 1000, UTC).isoformat(),
            files_deleted=reclaimed.deleted,
            bytes_deleted=reclaimed.bytes,
        )

    def run_orphans(self) -> None:
        """Looks for files that nobody owns: what a process left that was killed while it wrote."""
        try:
            found = self._orphans.run_once(stop=self._stop)
        except StoreError as error:
            log.warning("session_orphans_failed", extra={"error": str(error)})
            return
        log.info("session_orphans_ran", extra={"deleted_count": found.destroyed, "bytes_deleted": found.bytes})

    def stop(self) -> None:
        """A run under way ends after its batch."""
        self._stop.set()

    def _tell(self, event: str, **fields: Any) -> None:
        self.runs.appendleft({"event": event, "at": datetime.now(UTC).isoformat(), **fields})
        log.log(logging.WARNING if "error" in fields else logging.INFO, event, extra=fields)


class Events(logging.Formatter):
    """One JSON object a line: the event and its fields. (structlog does the same, and more.)"""

    _standard = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        fields = {name: value for name, value in vars(record).items() if name not in self._standard}
        line = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name, **fields}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
