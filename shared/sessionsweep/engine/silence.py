"""Who counts as dead for having been silent: only who was so at two looks with the same last word, a while apart.

One look proves nothing. After an outage of the store, a failover to a replica that lags, or a step of the server's
clock every heartbeat looks old, and whoever lives says so again within `CONFIRM`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

CONFIRM = 20.0  # seconds: longer than it is from one heartbeat to the next, of processes (15) and of nodes (5)


class Silence:
    """What one process has seen of the silent, by its own monotonic clock, which no server's step moves."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._first: dict[str, dict[tuple[str, str], float]] = {}

    def lasting(self, kind: str, silent: Mapping[str, str]) -> set[str]:
        """Of those who are silent now (name → their last word) those who were so before, at least `CONFIRM` ago."""
        now, known = self._monotonic(), self._first.get(kind, {})
        seen = {(name, word): known.get((name, word), now) for name, word in silent.items()}
        self._first[kind] = seen
        return {name for (name, _), first in seen.items() if now - first >= CONFIRM}

    def forget(self) -> None:
        """The store didn't answer: who was silent meanwhile may have had nobody to speak to."""
        self._first.clear()
