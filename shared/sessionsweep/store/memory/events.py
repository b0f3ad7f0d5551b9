"""Streams of events in memory: a capped list of rows to each partition, read on from a place."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from itertools import chain, dropwhile, islice, takewhile

from sessionsweep.model.events import CAP

ONCE = 1000  # ms: so often the same is told at most

Place = tuple[int, int]
Row = tuple[Place, dict[str, str]]
_Kept = tuple[Place, tuple[str, ...]]  # a dict each would take thrice as much


class EventLog:
    """One partition's events. Its lock is taken last, and nothing is waited for under it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: deque[_Kept] = deque(maxlen=CAP)
        self._last: Place = (0, 0)
        self._told: dict[str, int] = {}  # what was told in the last second or two, and when
        self._pruned = 0

    def add(self, now: int, row: dict[str, str]) -> None:
        """Adds a row; places only grow, whatever the clock does."""
        with self._lock:
            ms, seq = self._last
            self._last = (now, 0) if now > ms else (ms, seq + 1)
            self._rows.append((self._last, tuple(chain.from_iterable(row.items()))))

    def once(self, now: int, what: str) -> bool:
        """Whether a second has passed since this was asked last."""
        with self._lock:
            if now - self._told.get(what, -ONCE) < ONCE:
                return False
            self._told[what] = now
            if now - self._pruned >= ONCE:
                self._pruned = now
                self._told = {key: at for key, at in self._told.items() if now - at < ONCE}
            return True

    def page(self, after: str, count: int) -> tuple[list[Row], Place, bool]:
        """At most `count` rows behind a place (`model.events.place_after`), where to go on, whether some are lost."""
        with self._lock:
            if after == "$":
                return [], self._rows[-1][0] if self._rows else (0, 0), False
            ms, _, seq = after.partition("-") if after != "-" else ("0", "", "0")
            place = (int(ms), int(seq))
            # from the end: whoever reads on asks for the last few
            newer = list(takewhile(lambda row: row[0] >= place, reversed(self._rows)))[::-1]
            if place == (0, 0):
                rows, lost = newer[:count], False
            elif newer and newer[0][0] == place:
                rows, lost = newer[1 : count + 1], False
            elif newer:
                rows, lost = newer[:count], True
            else:
                return [], self._rows[-1][0] if self._rows else (0, 0), True
        return _read(rows), rows[-1][0] if rows else place, lost

    def page_before(self, before: str, count: int) -> list[Row]:
        """At most `count` rows before a place, the newest first; `-`: from the newest."""
        with self._lock:
            older: Iterable[_Kept] = reversed(self._rows)
            if before != "-":
                ms, _, seq = before.partition("-")
                place = (int(ms), int(seq))
                older = dropwhile(lambda row: row[0] >= place, older)
            rows = list(islice(older, count))
        return _read(rows)


def _read(rows: list[_Kept]) -> list[Row]:
    return [(at, dict(zip(words[::2], words[1::2], strict=True))) for at, words in rows]
