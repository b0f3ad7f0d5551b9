"""How a worker tells its passes to stop after their batch, also those in the processes of its pool."""

from __future__ import annotations

import mmap
import threading
import time

POLL = 0.05  # seconds between two looks


class Stopping(threading.Event):
    """An event that is set in a worker's main process and seen in those that it forks: no signal reaches them.

    It is one byte of shared memory, without a lock: it is set by a signal handler, which may interrupt a thread that
    holds one, and a fork may copy one that is held. A process that was spawned instead has a byte of its own; a pass
    there ends within its budget.
    """

    def __init__(self) -> None:
        super().__init__()
        self._byte = mmap.mmap(-1, 1)

    def is_set(self) -> bool:
        """See threading.Event."""
        return self._byte[0] != 0

    def set(self) -> None:
        """See threading.Event."""
        self._byte[0] = 1

    def clear(self) -> None:
        """See threading.Event."""
        self._byte[0] = 0

    def wait(self, timeout: float | None = None) -> bool:
        """See threading.Event; looks every POLL seconds."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            time.sleep(min(POLL, left))
        return self.is_set()
