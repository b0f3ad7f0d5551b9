"""What the benchmarks run against: a server of their own, settings for it, and many sessions in it quickly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from sessionsweep import Sessions, Settings
from sessionsweep.errors import StoreError
from sessionsweep.model.ids import random_text
from sessionsweep.store import operations as op
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers.devstack.server import EmbeddedServer

SECRET = "benchmark-key-of-more-than-32-characters"  # of a server that lives for one measurement
BATCH = 1000


class Deployment:
    """A real server without persistence, on loopback, and a library that uses it. A context manager."""

    def __init__(self, **settings: Any) -> None:
        self.server = EmbeddedServer()
        self._wanted = settings

    def __enter__(self) -> Deployment:
        self.server.start()
        try:
            self.settings = Settings(**{"redis_url": self.server.url, "secret_key": SECRET, **self._wanted})
            self.sessions = Sessions(self.settings)
            self.client: redis.Redis = redis.Redis.from_url(self.server.url)
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.sessions.close()
            self.client.close()
        self.server.stop()

    @property
    def store(self) -> RedisStore:
        """The synchronous store behind `sessions`."""
        store = self.sessions.store
        assert isinstance(store, RedisStore)
        return store

    def fill(self, count: int, *, idle: float = 86_400.0, maximum: float = 0.0) -> list[str]:
        """Makes `count` sessions without a client, user or data (the header alone); their ids."""
        core, ids = self.sessions.core, []
        for part in _parts(count):
            batch = [
                op.CreateSession(core.new_id(), bytes(16), round(idle * 1000), round(maximum * 1000), core.width)
                for _ in range(part)
            ]
            self.many(batch)
            ids += [operation.session_id for operation in batch]
        return ids

    def many(self, operations: Sequence[op.Operation[Any]]) -> list[Any]:
        """Carries many out in one pipeline; the first that failed is raised."""
        answers = self.store.execute_many(operations)
        for answer in answers:
            if isinstance(answer, StoreError):
                raise answer
        return answers

    def memory(self) -> int:
        """`used_memory`, bytes, after what is freed in the background has been freed."""
        deadline = time.monotonic() + 10
        while int(self.client.info("memory").get("lazyfree_pending_objects", 0)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return int(self.client.info("memory")["used_memory"])

    def now(self) -> int:
        """The server's time, ms."""
        seconds, micros = self.client.time()
        return int(seconds * 1000 + micros // 1000)

    def wait_until(self, moment: int) -> None:
        """Until the server's clock shows `moment` (ms)."""
        while (left := moment - self.now()) > 0:
            time.sleep(min(left / 1000, 0.5))

    def server_time(self, *names: str) -> dict[str, float]:
        """Microseconds a call of each command took in the server, since the last `reset_server_time`."""
        stats = self.client.info("commandstats")
        return {name: float(stats[f"cmdstat_{name}"]["usec_per_call"]) for name in names}

    def reset_server_time(self) -> None:
        """Begins to count command times, and the slow log, anew."""
        self.client.config_resetstat()
        self.client.slowlog_reset()


def _parts(count: int) -> Iterator[int]:
    while count > 0:
        yield min(count, BATCH)
        count -= BATCH


def resource_id() -> str:
    """A resource id of the library's shape."""
    return random_text(16)
