"""Counts the step boundaries that a process passes, and kills or stops it at a chosen one.

A boundary lies before each call that changes the file system, and before and after each operation of the store.
Nothing in the product is changed for it: Python's audit events tell the calls, the store's `execute` is wrapped.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sessionsweep.store.redis.aio import AsyncRedisStore
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep.volumes.files import NewFile

CALLS = frozenset(
    {"os.mkdir", "os.link", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "fcntl.flock"}
)
_FLAGS = os.O_CREAT | os.O_TRUNC


class Boundaries:
    """Passes `tell(name)` for each boundary; at number `at` (from 1) the process sends itself `signum`."""

    def __init__(self, at: int, signum: int, tell: Callable[[str], None], only: str = "") -> None:
        self.count = 0
        self.armed = False
        self._at = at
        self._only = only  # count none but those of this name
        self._signum = signum
        self._tell = tell

    def reach(self, name: str) -> None:
        """One boundary further."""
        if not self.armed or (self._only and name != self._only):
            return
        self.count += 1
        if self.count == self._at:
            self.armed = self._signum != signal.SIGKILL
            self._tell(name)
            os.kill(os.getpid(), self._signum)

    def install(self) -> None:
        """From now on this process counts."""
        sys.addaudithook(self._audit)
        execute, execute_many, finish = RedisStore.execute, RedisStore.execute_many, NewFile.finish

        def counted(store: RedisStore, operation: Any) -> Any:
            name = type(operation).__name__
            self.reach(f"before {name}")
            answer = execute(store, operation)
            self.reach(f"after {name}")
            return answer

        def counted_many(store: RedisStore, operations: Sequence[Any]) -> Any:
            names = ", ".join(sorted({type(operation).__name__ for operation in operations}))
            self.reach(f"before {names}")
            answers = execute_many(store, operations)
            self.reach(f"after {names}")
            return answers

        def counted_finish(file: NewFile) -> int:
            self.reach("before the last bytes are flushed")
            size = finish(file)
            self.reach("after the last bytes were flushed")
            return size

        execute_async = AsyncRedisStore.execute

        async def counted_async(store: AsyncRedisStore, operation: Any) -> Any:
            name = type(operation).__name__
            self.reach(f"before {name}")
            answer = await execute_async(store, operation)
            self.reach(f"after {name}")
            return answer

        AsyncRedisStore.execute = counted_async  # type: ignore[method-assign, assignment]
        RedisStore.execute = counted  # type: ignore[method-assign, assignment]
        RedisStore.execute_many = counted_many  # type: ignore[method-assign]
        NewFile.finish = counted_finish  # type: ignore[method-assign]

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed and (event in CALLS or (event == "open" and len(arguments) > 2 and arguments[2] & _FLAGS)):
            self.reach(f"before {event}")
