"""The small protocols that every store fulfils."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from sessionsweep.errors import StoreError
from sessionsweep.store.operations import Operation

R = TypeVar("R")


class Store(Protocol):
    """Carries out operations, one at a time or many in one pipeline. Safe to share between threads."""

    def execute(self, operation: Operation[R]) -> R:
        """Carries one out.

        Raises:
            StoreUnavailableError: it did not happen.
            StoreFullError: the server is full; nothing was created.
            OutcomeUnknownError: it may have happened, and repeating it is not harmless.
        """
        ...

    def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """Carries many out in one round trip, each atomic by itself; a failed one answers its error in its place.

        In any order: after a restart, those whose script the server lost run last. Nothing in one batch may depend on
        another.
        """
        ...

    def nudges(self, locations: Sequence[str], poll: float) -> Iterator[str]:
        """Locations that became due, as they are published; yields "" every `poll` seconds without one."""
        ...

    def close(self) -> None:
        """Closes connections. Idempotent."""
        ...


class AsyncStore(Protocol):
    """The same, awaited."""

    async def execute(self, operation: Operation[R]) -> R:
        """See Store.execute. Cancelling the waiter never cancels a shared write."""
        ...

    async def execute_many(self, operations: Sequence[Operation[Any]]) -> list[Any | StoreError]:
        """See Store.execute_many."""
        ...

    def nudges(self, locations: Sequence[str], poll: float) -> AsyncIterator[str]:
        """See Store.nudges."""
        ...

    def blocking(self) -> Store:
        """The same store for threads. What it opens is its own: the caller closes it."""
        ...

    async def close(self) -> None:
        """Closes connections. Idempotent."""
        ...
