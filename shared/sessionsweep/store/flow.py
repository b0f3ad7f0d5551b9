"""How one piece of logic serves sync and async: it yields what it wants done, and a driver does it.

A flow is a generator that yields store operations and `Work` (something that blocks, such as file work) and
returns its result. `run` sends each to a store; `run_async` awaits the store and runs work in a thread. So what is
sent, and how the answer is read, is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sessionsweep.store.operations import Operation
from sessionsweep.store.protocol import AsyncStore, Store

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Work(Generic[R]):
    """Something that blocks."""

    do: Callable[[], R]


Flow = Generator["Operation[Any] | Work[Any]", Any, R]


def ask(operation: Operation[R]) -> Flow[R]:
    """Yields an operation; its reply keeps its type."""
    reply: R = yield operation
    return reply


def work(do: Callable[[], R]) -> Flow[R]:
    """Yields something that blocks."""
    result: R = yield Work(do)
    return result


def run(flow: Flow[R], store: Store) -> R:
    """Drives a flow to its result. An error of a step is raised inside the flow, which may handle it."""
    try:
        step = next(flow)
        while True:
            try:
                result = step.do() if isinstance(step, Work) else store.execute(step)
            except Exception as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def run_async(flow: Flow[R], store: AsyncStore) -> R:
    """The same, awaited: file work runs in threads, so nothing blocks the loop."""
    import asyncio  # only asynchronous apps pay for it

    try:
        step = next(flow)
        while True:
            try:
                if isinstance(step, Work):
                    result: Any = await asyncio.to_thread(step.do)
                else:
                    result = await store.execute(step)
            except Exception as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    except BaseException:
        flow.close()  # cancelled: what the flow opened is closed now, not when it is collected
        raise
