"""Nodes of a deployment inside one test process: a real store whose time the test moves, and real volumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sessionsweep import Session, Sessions, Settings
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.model.holds import Hold
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.redis.sync import RedisStore

KEY = "test-key-" + "k" * 40


class Node:
    """One node: its web side (`sessions`) and its worker's passes. Volumes lie below `root`."""

    def __init__(self, url: str, namespace: str, root: Path, name: str = "a", **settings: Any) -> None:
        volumes = settings.pop("volumes", f"{name}={root / name}")
        options: dict[str, Any] = {
            "idle_timeout": 10,
            "grace_period": 1,
            "max_duration": 100,
            "cleanup_interval": 1,
            "orphan_min_age": 0,
            "secret_key": KEY,
        }
        options.update(settings)
        self.settings = Settings(redis_url=url, namespace=namespace, node=name, volumes=volumes, **options)
        self.store = RedisStore(url, namespace, test_clock=True)
        self.sessions = Sessions(self.settings, store=self.store)
        core = self.core = self.sessions.core
        self._advanced = 0.0
        self.trust = Trust(core, self.store, lambda: time.monotonic() + self._advanced)
        self.sweep = Sweep(core, self.store, self.trust)
        self.reclaim = Reclaim(core, self.store, self.trust)
        self.orphans = Orphans(core, self.store, self.trust)
        self.upkeep = Upkeep(core, self.store, self.trust)

    def session_with_file(self, size: int = 100, **options: Any) -> tuple[Session, str, Path]:
        """A session that owns one file: (session, resource id, path)."""
        session, _ = self.sessions.create(**options)
        return (session, *self.write(session, size))

    def write(self, session: Session, size: int = 100, **options: Any) -> tuple[str, Path]:
        """A committed file of `size` bytes: (resource id, path)."""
        with session.new_file("test", ".bin", **options) as f:
            f.write(b"x" * size)
        return f.id, f.path

    def advance(self, seconds: float) -> None:
        """Moves the store's time for every node of this namespace, and this node's own clock with it."""
        self._advanced += seconds
        self.store.advance(round(seconds * 1000))

    def holds(self) -> dict[str, Hold]:
        """Holds by scope."""
        return {scope: Hold.decode(row) for scope, row in self.store.execute(op.Table("holds")).items()}

    def mount(self) -> list[Exception]:
        """Mounts what is missing, and says what can't be."""
        return list(run(self.core.mounts.mount(), self.store))

    def close(self) -> None:
        """Closes connections."""
        self.sessions.close()
