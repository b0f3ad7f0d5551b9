"""The clock of the in-memory store, in milliseconds since 1970; only tests move it."""

from __future__ import annotations

import time
from collections.abc import Callable


class MemoryClock:
    """Wall time taken once, then counted monotonically: setting the machine's clock ends no session."""

    __slots__ = ("_moved", "_source", "now")

    def __init__(self, source: Callable[[], int] | None = None) -> None:
        self._source = source or _running_clock()
        self._moved = 0
        #: Answers the time in ms. An attribute, because every open calls it: unmoved it costs one call, not
        #: two
        self.now: Callable[[], int] = self._source

    def advance(self, milliseconds: int) -> None:
        """Moves the time forward (back if negative); a frozen clock stays frozen, later."""
        frozen = self.now() if self.now not in (self._source, self._running) else None
        if frozen is not None:
            self.freeze(frozen + milliseconds)
        else:
            self._moved += milliseconds
            self.now = self._running

    def freeze(self, milliseconds: int) -> None:
        """Stops the time at this moment (ms since 1970)."""
        self.now = lambda: milliseconds

    def _running(self) -> int:
        return self._source() + self._moved


def _running_clock() -> Callable[[], int]:
    ticks = time.monotonic_ns
    origin = (time.time_ns() - ticks()) // 1_000_000
    return lambda: ticks() // 1_000_000 + origin
