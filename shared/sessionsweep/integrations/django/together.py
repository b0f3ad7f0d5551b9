"""Operations that a flow sends in one round trip, and the drivers that know what that means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from sessionsweep.errors import StoreError
from sessionsweep.store.flow import Flow, run, run_async
from sessionsweep.store.operations import Opened
from sessionsweep.store.operations.base import Operation
from sessionsweep.store.protocol import AsyncStore, Store

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Together(Operation[list[Opened | StoreError]]):
    """Operations of one session that don't depend on each other; each answers in its place."""

    steps: tuple[Operation[Opened], ...]
    repeatable: ClassVar[bool] = True


def drive(flow: Flow[R], store: Store) -> R:
    """`store.flow.run`, for flows that yield `Together` too."""
    return run(flow, _Pipelines(store))  # type: ignore[arg-type]


async def drive_async(flow: Flow[R], store: AsyncStore) -> R:
    """`store.flow.run_async`, for flows that yield `Together` too."""
    return await run_async(flow, _AsyncPipelines(store))  # type: ignore[arg-type]


class _Pipelines:
    def __init__(self, store: Store) -> None:
        self._store = store

    def execute(self, operation: Operation[Any]) -> Any:
        if isinstance(operation, Together):
            return self._store.execute_many(operation.steps)
        return self._store.execute(operation)


class _AsyncPipelines:
    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    async def execute(self, operation: Operation[Any]) -> Any:
        if isinstance(operation, Together):
            return await self._store.execute_many(operation.steps)
        return await self._store.execute(operation)
