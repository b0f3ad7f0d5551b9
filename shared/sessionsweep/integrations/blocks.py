"""Context managers of one kind of code that say so when they are entered by the other, before they do anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import Generic, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class AsyncBlock(AbstractAsyncContextManager[T]):
    """For `async with`; `with` raises TypeError."""

    def __init__(self, block: AbstractAsyncContextManager[T]) -> None:
        self._block = block

    async def __aenter__(self) -> T:
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._block.__aexit__(kind, error, traceback)

    def __enter__(self) -> NoReturn:
        raise TypeError("use async with, in async def")

    def __exit__(self, *_: object) -> None:
        """Never reached, but `with` looks for it first."""


class Block(AbstractContextManager[T], Generic[T]):
    """For `with`; `async with` raises TypeError that names the call to make instead."""

    def __init__(self, make: Callable[[], AbstractContextManager[T]], instead: str) -> None:
        self._make = make
        self._instead = instead

    def __enter__(self) -> T:
        self._block = self._make()
        return self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, error, traceback)

    async def __aenter__(self) -> NoReturn:
        raise TypeError(f"in async def use async with …{self._instead}(…)")

    async def __aexit__(self, *_: object) -> None:
        """Never reached, but `async with` looks for it first."""


def asynchronous(made: Callable[P, AsyncIterator[T]]) -> Callable[P, AsyncBlock[T]]:
    """`asynccontextmanager` for an `AsyncBlock`."""
    begin = asynccontextmanager(made)

    @wraps(made)
    def block(*args: P.args, **kwargs: P.kwargs) -> AsyncBlock[T]:
        return AsyncBlock(begin(*args, **kwargs))

    return block
