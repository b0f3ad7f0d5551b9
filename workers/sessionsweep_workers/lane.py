"""A thread that does one thing after another, so that what blocks (a broker, a disk) never stops who asked for it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from sessionsweep.errors import SessionSweepError

log = logging.getLogger(__name__)


class Lane:
    """Does each job once, in order; a job that waits already isn't taken again. Survives whatever a job raises."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._jobs: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = queue.SimpleQueue()
        self._waiting: set[str] = set()
        self.since: float | None = None  # when the job under way began (monotonic); None: there is none

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ends after the job under way, or leaves it to the end of the process after `timeout` seconds."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def ask(self, key: str, job: Callable[[], object]) -> None:
        """Does `job` soon, unless one with the same key waits or is under way."""
        if key not in self._waiting:
            self._waiting.add(key)
            self._jobs.put((key, job))

    def _run(self) -> None:
        while (one := self._jobs.get()) is not None:
            key, job = one
            self.since = time.monotonic()
            try:
                job()
            except SessionSweepError as error:
                log.warning("%s: %s", key, error)
            except BaseException:  # whatever it is (a CancelledError, a gevent.Timeout), the next job has its turn
                log.exception("%s failed; it is tried again", key)
            finally:
                self.since = None
                self._waiting.discard(key)
