"""A whole deployment inside a test: web side and worker's passes over one store, volumes in a folder, time in hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sessionsweep.deployment import partitions
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.model.books import imbalance
from sessionsweep.sessions.aio import AsyncSessions
from sessionsweep.sessions.sync import Sessions
from sessionsweep.settings import Settings
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.memory import AsyncMemoryStore, MemoryStore
from sessionsweep.store.protocol import AsyncStore, Store
from sessionsweep.testing.crashes import AsyncCrashingStore, Crash, CrashingStore, Points, every_crash
from sessionsweep.units import parse_duration

KEY = "a key for tests only: everybody knows it"
ROUNDS = 50  # of all passes; what isn't gone by then won't go


class Deployment:
    """Sessions whose time stands still until the test moves it, and whose passes run when the test says so.

    Args:
        folder: where the volume `files` lies; a temporary folder of the test's.
        redis_url: a server to test against; None: in memory, which passes the same tests. Its content below
            `namespace` is the test's.
        settings: any of Settings, as they stand in the environment (`idle_timeout="15m"`).

    Close it, or use it as a context manager; where `async_sessions` was used, `async with` in its event loop.
    """

    def __init__(self, folder: Path, *, redis_url: str | None = None, namespace: str = "test", **settings: Any) -> None:
        values: dict[str, Any] = {
            "redis_url": redis_url or "memory://",
            "namespace": namespace,
            "secret_key": KEY,
            "node": "test",
            "volumes": f"files={folder / 'files'}",
            "orphan_min_age": 0,
            "sweeper": "in-process",
            **settings,
        }
        self.settings = Settings(**values)
        self._points = Points()
        self._moved = 0  # ms
        self._store, store, async_store = self._stores(redis_url, namespace)
        self.sessions = Sessions(self.settings, store=store)
        self._async_store = async_store
        self._async_sessions: AsyncSessions | None = None
        # the passes are another process's: no crash of the code under test reaches them
        core = self.sessions.core
        core.background = False
        trust = Trust(core, self._store, lambda: time.monotonic() + self._moved / 1000)
        self.sweep = Sweep(core, self._store, trust)
        self.reclaim = Reclaim(core, self._store, trust)
        self.orphans = Orphans(core, self._store, trust)
        self.upkeep = Upkeep(core, self._store, trust)
        run(core.mounts.mount(), self._store)  # now, so that every crash of a piece of code meets the same steps

    @property
    def async_sessions(self) -> AsyncSessions:
        """The same sessions for asynchronous code."""
        if self._async_sessions is None:
            self._async_sessions = AsyncSessions(self.settings, store=self._async_store)
            self._async_sessions.core.mounts = self.sessions.core.mounts  # one process, one holder of its volumes
            self._async_sessions.core.background = False  # a sweeper by itself would take crashes meant for the app
        return self._async_sessions

    def advance(self, duration: float | str) -> None:
        """Moves the time of all of it, in seconds or as in settings (`"16m"`). Nothing runs by itself."""
        milliseconds = round(parse_duration(duration) * 1000)
        self._moved += milliseconds
        self._store.advance(milliseconds)  # type: ignore[attr-defined]

    def crashes(self) -> Iterator[Crash]:
        """Crashes for one piece of code: it dies at its first word with the store, then at its second, and so on.

        Run the same code in each; the last runs through. Time stands still meanwhile, and what died holds no locks.
        """
        return every_crash(self._points)

    def run_passes(self) -> int:
        """Each pass once, as workers would; how many things it changed."""
        self.upkeep.run_once()
        swept, reclaimed, orphans = self.sweep.run_once(), self.reclaim.run_once(), self.orphans.run_once()
        return (
            swept.idle + swept.expired + swept.intents + swept.released
            + reclaimed.deleted + reclaimed.gone + reclaimed.failed + orphans.destroyed + orphans.missing
        )  # fmt: skip

    def assert_nothing_left_behind(self) -> None:
        """Moves time past every timeout, lets the workers work, and looks at the disk itself.

        Raises:
            AssertionError: names each file that is left, and what the store still owes or has lost count of.
        """
        s = self.settings
        longest = max(s.idle_timeout, s.max_duration, s.intent_timeout, s.lease, s.orphan_interval) + s.grace_period
        for _ in range(ROUNDS):
            self.advance(longest)
            changed = self.run_passes()
            if not changed and not self._left():
                break
        if left := self._left():
            raise AssertionError("left behind after every timeout:\n  " + "\n  ".join(left))

    def _left(self) -> list[str]:
        left = [f"file {path}" for path in self.files()]
        for partition in run(partitions(self.sessions.core), self._store):
            books = self._store.execute(op.Counters(partition))
            left += [f"{books[name]} {name} in the books" for name in ("active", "owed", "dead") if books.get(name)]
            if off := imbalance(books):
                left.append(f"{off} resources that the books lost count of")
        live, _ = self.sessions.list()
        left += [f"live session {one.id}" for one in live]
        holds = self._store.execute(op.Table("holds"))
        left += [f"hold {scope}: {text}" for scope, text in holds.items()]
        return left

    def files(self) -> list[Path]:
        """Every file of every session, as it lies on the volumes."""
        roots = [Path(volume.path) / "files" for volume in self.settings.volumes]
        return sorted(path for root in roots for path in root.rglob("*") if not path.is_dir())

    async def aclose(self) -> None:
        """As close, and lets go of what `async_sessions` holds open in this event loop. Idempotent."""
        if self._async_sessions is not None:
            await self._async_sessions.close()
        await self._async_store.close()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Lets go of volumes and connections, but for those of `async_sessions`: see aclose. Idempotent."""
        self.sessions.close()
        self._store.close()

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Deployment:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _stores(self, redis_url: str | None, namespace: str) -> tuple[Store, Store, AsyncStore]:
        if redis_url is None:
            memory = MemoryStore(namespace=namespace)
            crashing = AsyncCrashingStore(AsyncMemoryStore(memory), self._points)
            return memory, CrashingStore(memory, self._points), crashing
        from sessionsweep.store.redis.aio import AsyncRedisStore
        from sessionsweep.store.redis.sync import RedisStore

        store = RedisStore(redis_url, namespace, test_clock=True)
        crashing = AsyncCrashingStore(AsyncRedisStore(redis_url, namespace, test_clock=True), self._points)
        return store, CrashingStore(RedisStore(redis_url, namespace, test_clock=True), self._points), crashing
