"""The in-memory store itself: one table from operation to step, and its sync and async faces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar

from sessionsweep.errors import StoreError
from sessionsweep.store.memory import (
    deferring,
    deployment,
    inspection,
    places,
    reclaim,
    repair,
    resources,
    sessions,
    sweeping,
    telling,
)
from sessionsweep.store.memory.nudges import NudgeIterator
from sessionsweep.store.memory.state import State
from sessionsweep.store.memory.steps import Step
from sessionsweep.store.operations import Operation

R = TypeVar("R")

#: Every operation and the step that carries it out.
STEPS: dict[type, Step] = {
    **sessions.STEPS,
    **deferring.STEPS,
    **resources.STEPS,
    **reclaim.STEPS,
    **inspection.STEPS,
    **sweeping.STEPS,
    **repair.STEPS,
    **places.STEPS,
    **deployment.STEPS,
    **telling.STEPS,
}


class MemoryStore:
    """A `Store` in this process's memory. Threads may share it; another process sees nothing of it.

    `clock` answers milliseconds since 1970; `run_id` stands for a server's run (a test sets it to play a
    restart).
    """

    def __init__(
        self, *, namespace: str = "ss", clock: Callable[[], int] | None = None, run_id: str | None = None
    ) -> None:
        self._state = State(namespace, clock, run_id)

    @property
    def namespace(self) -> str:
        """As in the Redis store; here it only names the store, since nobody else is in it."""
        return self._state.namespace

    @property
    def run_id(self) -> str:
        """What stands for the server's run id."""
        return self._state.run_id

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self._state.run_id = run_id

    def execute(self, operation: Operation[R]) -> R:
        """See Store.execute. Nothing here can be unavailable or full."""
        return STEPS[type(operation)](self._state, operation)  # type: ignore[no-any-return]

    def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """See Store.execute_many."""
        replies: list[Any | StoreError] = []
        for operation in operations:
            try:
                replies.append(self.execute(operation))
            except StoreError as error:
                replies.append(error)
        return replies

    def nudges(self, locations: Sequence[str], poll: float) -> Iterator[str]:
        """See Store.nudges; listens from this call on."""
        return NudgeIterator(self._state.nudges, locations, poll)

    def advance(self, milliseconds: int) -> None:
        """Moves this store's time; for tests."""
        self._state.clock.advance(milliseconds)

    def freeze(self, milliseconds: int) -> None:
        """Stops this store's time at that moment (ms since 1970); for tests."""
        self._state.clock.freeze(milliseconds)

    def close(self) -> None:
        """Ends all waits for nudges. The content stays as long as the object."""
        self._state.nudges.close()


class AsyncMemoryStore:
    """The same store, awaited. A step waits for nothing but another step, so it runs right on the loop."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def execute(self, operation: Operation[R]) -> R:
        """See Store.execute."""
        return self._store.execute(operation)

    async def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """See Store.execute_many."""
        return self._store.execute_many(operations)

    async def nudges(self, locations: Sequence[str], poll: float) -> AsyncIterator[str]:
        """See Store.nudges."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[str | None] = asyncio.Queue()

        def deliver(location: str | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(inbox.put_nowait, location)

        hub = self._store._state.nudges
        listener = hub.listen(locations, deliver)
        try:
            while True:
                try:
                    location = await asyncio.wait_for(inbox.get(), poll)
                except TimeoutError:
                    location = ""
                if location is None:
                    return
                yield location
        finally:
            hub.stop(listener)

    def blocking(self) -> MemoryStore:
        """See AsyncStore.blocking."""
        return self._store

    async def close(self) -> None:
        """See Store.close."""
        self._store.close()
