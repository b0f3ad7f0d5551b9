"""Who waits for a location to become due, and telling them."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence


class Nudges:
    """Passes on locations that became due to whoever listens for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()

    def listen(self, locations: Sequence[str], deliver: Callable[[str | None], None]) -> Listener:
        """`deliver` gets each of those locations as it becomes due, None at the close; from any thread."""
        listener = Listener(frozenset(locations), deliver)
        with self._lock:
            self._listeners.add(listener)
        return listener

    def tell(self, location: str) -> None:
        """Something at that location is due now."""
        if self._listeners:
            with self._lock:
                wanted = [listener for listener in self._listeners if location in listener.locations]
            for listener in wanted:
                listener.deliver(location)

    def stop(self, listener: Listener) -> None:
        """That one gets nothing more."""
        with self._lock:
            self._listeners.discard(listener)

    def close(self) -> None:
        """Ends all waits."""
        with self._lock:
            listeners = list(self._listeners)
            self._listeners.clear()
        for listener in listeners:
            listener.deliver(None)


class Listener:
    """One who listens. Held weakly: an iterator that was dropped needs no goodbye."""

    __slots__ = ("__weakref__", "deliver", "locations")

    def __init__(self, locations: frozenset[str], deliver: Callable[[str | None], None]) -> None:
        self.locations = locations
        self.deliver = deliver


class NudgeIterator(Iterator[str]):
    """Locations as they become due; "" after each `poll` seconds without one; ends at the store's close."""

    def __init__(self, nudges: Nudges, locations: Sequence[str], poll: float) -> None:
        self._poll = poll
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._nudges = nudges
        self._listener = nudges.listen(locations, self._inbox.put)

    def __next__(self) -> str:
        try:
            location = self._inbox.get(timeout=self._poll)
        except queue.Empty:
            return ""
        if location is None:
            self._inbox.put(None)
            raise StopIteration
        return location

    def close(self) -> None:
        """Stops listening."""
        self._nudges.stop(self._listener)
        self._inbox.put(None)
