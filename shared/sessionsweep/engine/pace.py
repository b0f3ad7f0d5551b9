"""Keeps a pass from crowding out requests: a time budget, and a rest after each batch as long as the batch took."""

from __future__ import annotations

import random
import threading
import time

from sessionsweep.observe.meter import Meter, tell


class Pace:
    """One pass's budget in seconds and its rests.

    `effort` is the share of the time that is worked: 0.5 rests as long as it works. Rests are jittered, so that two
    sweepers don't march in step. A meter is told, under the pass's name, how long it worked between rests and in all.
    """

    def __init__(
        self,
        budget: float,
        effort: float = 0.5,
        stop: threading.Event | None = None,
        name: str = "",
        meter: Meter | None = None,
    ) -> None:
        self._until = time.monotonic() + budget
        self._rest = (1 - effort) / effort
        self._stop = stop or threading.Event()
        self._name, self._meter = name, meter
        self._begun = self._last = time.monotonic()

    def next(self) -> bool:
        """Rests, then says whether another batch may begin."""
        worked = self._worked()
        if self._rest:
            self._stop.wait(min(0.25, worked * self._rest) * random.uniform(0.75, 1.25))  # noqa: S311
        self._last = time.monotonic()
        return not self.over

    def end(self) -> float:
        """The pass is done: its seconds."""
        if self._last == self._begun:  # it never rested: all of it was one batch
            self._worked()
        if self._meter is not None:
            tell(self._meter.ran, self._name, self.seconds)
        return self.seconds

    @property
    def over(self) -> bool:
        """Whether the pass was stopped or its budget is used up: no other batch may begin."""
        return self._stop.is_set() or time.monotonic() >= self._until

    @property
    def seconds(self) -> float:
        """Since the pass began."""
        return time.monotonic() - self._begun

    def _worked(self) -> float:
        worked = time.monotonic() - self._last
        if self._meter is not None:
            tell(self._meter.batch, self._name, worked)
        return worked
