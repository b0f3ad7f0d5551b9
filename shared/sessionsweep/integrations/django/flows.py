"""What Django's flows need besides the library's: operations in one round trip, a creation with its own values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from sessionsweep.errors import StoreError
from sessionsweep.store.flow import Flow, run, run_async
from sessionsweep.store.operations import CreateSession, Opened
from sessionsweep.store.operations.base import Operation
from sessionsweep.store.protocol import AsyncStore, Store

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Together(Operation[list[Opened | StoreError]]):
    """Operations of one session that don't depend on each other; each answers in its place."""

    steps: tuple[Operation[Opened], ...]
    repeatable: ClassVar[bool] = True


def created_with(flow: Flow[R], idle: int, maximum: int, data: Mapping[str, bytes]) -> Flow[R]:
    """`lifecycle.create`'s flow, with this session's own timeouts (ms) and with data that is encoded already."""
    try:
        step = next(flow)
        while True:
            if isinstance(step, CreateSession):
                step = replace(step, idle=idle, max=maximum, data=data)
            try:
                reply = yield step
            except Exception as error:
                step = flow.throw(error)
            else:
                step = flow.send(reply)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


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
