"""Crashes on purpose: the code under test dies at its n-th word with the store, and does nothing more after it."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from sessionsweep.errors import StoreError
from sessionsweep.store.operations import Operation
from sessionsweep.store.protocol import AsyncStore, Store
from sessionsweep.volumes import inherited
from sessionsweep.volumes.files import NewFile

R = TypeVar("R")


class CrashedError(BaseException):
    """The process died here. No Exception: an app that catches everything is dead all the same."""


class Points:
    """Counts words with the store, two points each (before it, and after it with its answer lost); dies at one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: int | None = None
        self._passed = 0
        self.dead = False
        self.where = ""

    def arm(self, at: int | None) -> None:
        """Die at the point `at`, counted from 0 on from now; None: live on."""
        with self._lock:
            self._at, self._passed, self.dead, self.where = at, 0, False, ""

    def reach(self, when: str, operation: Operation[Any]) -> None:
        """Dies if this is the point, or if that lies behind."""
        with self._lock:
            if self._at is None:
                return
            if self.dead or self._passed == self._at:
                self.where = self.where or f"{when} {type(operation).__name__}"
                self.dead = True
                raise CrashedError(self.where)
            self._passed += 1


class Crash:
    """One crash: `with crash:` runs until its point and goes on after the block, as another process would.

    After a crash the garbage collector looks at what was made within the block alone: in a large test suite a look at
    everything takes a quarter of a second each time. Where the caller froze anything itself, `freezes` is false and
    nothing more is frozen: `unfreeze` would thaw that too.
    """

    def __init__(self, points: Points, at: int, freezes: bool) -> None:
        self._points = points
        self._at = at
        self._freezes = freezes
        self.happened = False
        self.where = ""

    def __enter__(self) -> Crash:
        if self._freezes:
            gc.freeze()
        self._points.arm(self._at)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.happened, self.where = self._points.dead, self._points.where
        self._points.arm(None)
        try:
            if self.happened:
                del error, trace
                inherited.abandon(NewFile)  # the dead hold no locks
                gc.collect()
        finally:
            if self._freezes:
                gc.unfreeze()
        return self.happened and kind is not None and issubclass(kind, CrashedError | Exception)

    def __repr__(self) -> str:
        return f"<Crash at {self._at}{f': {self.where}' if self.where else ''}>"


def every_crash(points: Points) -> Iterator[Crash]:
    """One crash after the other, each a point later, until a block has run through."""
    freezes = gc.get_freeze_count() == 0  # asked once: it counts them one by one, tens of milliseconds in a large suite
    at = 0
    while True:
        crash = Crash(points, at, freezes)
        yield crash
        if not crash.happened:
            return
        at += 1


class CrashingStore:
    """A store through which the code under test dies."""

    def __init__(self, store: Store, points: Points) -> None:
        self._store = store
        self._points = points

    def execute(self, operation: Operation[R]) -> R:
        """See Store.execute."""
        self._points.reach("before", operation)
        reply = self._store.execute(operation)
        self._points.reach("after", operation)
        return reply

    def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """See Store.execute_many."""
        for operation in operations[:1]:
            self._points.reach("before", operation)
        replies = self._store.execute_many(operations)
        for operation in operations[:1]:
            self._points.reach("after", operation)
        return replies

    def nudges(self, locations: Sequence[str], poll: float) -> Iterator[str]:
        """See Store.nudges."""
        return self._store.nudges(locations, poll)

    def close(self) -> None:
        """See Store.close."""
        self._store.close()


class AsyncCrashingStore:
    """The same for asynchronous code."""

    def __init__(self, store: AsyncStore, points: Points) -> None:
        self._store = store
        self._points = points

    async def execute(self, operation: Operation[R]) -> R:
        """See Store.execute."""
        self._points.reach("before", operation)
        reply = await self._store.execute(operation)
        self._points.reach("after", operation)
        return reply

    async def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """See Store.execute_many."""
        for operation in operations[:1]:
            self._points.reach("before", operation)
        replies = await self._store.execute_many(operations)
        for operation in operations[:1]:
            self._points.reach("after", operation)
        return replies

    def nudges(self, locations: Sequence[str], poll: float) -> AsyncIterator[str]:
        """See Store.nudges."""
        return self._store.nudges(locations, poll)

    def blocking(self) -> Store:
        """See AsyncStore.blocking."""
        return CrashingStore(self._store.blocking(), self._points)

    async def close(self) -> None:
        """See Store.close."""
        await self._store.close()
