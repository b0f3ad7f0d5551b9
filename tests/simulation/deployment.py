"""A deployment in one process: two nodes, each with a disk of its own and one both mount, and a store in memory."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessionsweep import Sessions, Settings
from sessionsweep.deployment import Core
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.store.memory import MemoryStore
from sessionsweep.store.memory.clock import MemoryClock
from sessionsweep.store.memory.state import NOTHING_MORE, State
from simulation.baton import SteppedStore
from simulation.chance import Clock

KEY = "a key for the simulation only: everybody knows it"

#: Everything short: a schedule of minutes sees each deadline pass several times.
SHORT: dict[str, Any] = {
    "redis_url": "redis://never-connected",
    "secret_key": KEY,
    "idle_timeout": 10,
    "max_duration": 100,
    "grace_period": 1,
    "cleanup_interval": 1,
    "orphan_interval": 30,
    "orphan_min_age": 0,
    "hold": 15,
    "lease": 2,
    "reclaim_tries": 2,
    "intent_timeout": 4,
    "tombstone_retention": 60,
    "max_resources_per_session": 3,
    "max_bytes_per_session": 500,
}

#: What deployments differ in.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"max_sessions": 4, "max_sessions_per_user": 2},
    {"max_sessions_per_user": 2, "on_user_limit": "end-oldest", "partitions": 2},
    {"max_resources_per_user": 4},
    {"max_sessions_per_user": 1, "max_resources_per_user": 3, "max_bytes_per_user": 600},
)


class Worker:
    """One process of a worker: one pass at a time. Its `trust` remembers the clock as the process does."""

    def __init__(self, settings: Settings, store: SteppedStore, clock: Clock) -> None:
        self.core = Core(settings)
        trust = Trust(self.core, store, lambda: clock.monotonic)
        sweep, reclaim = Sweep(self.core, store, trust), Reclaim(self.core, store, trust)
        orphans, upkeep = Orphans(self.core, store, trust), Upkeep(self.core, store, trust)
        self.passes: dict[str, Callable[[], object]] = {
            "upkeep": upkeep.run_once,
            "sweep": functools.partial(sweep.run_once, effort=1.0),
            "reclaim": functools.partial(reclaim.run_once, effort=1.0),
            "orphans": functools.partial(orphans.run_once, effort=1.0),
        }


class Deployment:
    """Two nodes, `a` and `b`: a web process and two worker processes each."""

    def __init__(self, folder: Path, variant: int, store: SteppedStore, clock: Clock) -> None:
        self._folder, self._variant, self._store, self._clock = folder, variant, store, clock
        self.webs = [Sessions(self._settings(node), store=store) for node in "ab"]
        self.workers = [self.worker(node) for node in "aabb"]

    @property
    def settings(self) -> Settings:
        """Those of one node; all but its name and its volumes are everybody's."""
        return self.webs[0].settings

    def worker(self, node: str) -> Worker:
        """A fresh process of that node's."""
        return Worker(self._settings(node), self._store, self._clock)

    def _settings(self, node: str) -> Settings:
        return _settings(node, self._variant, str(self._folder / "disks"))


@functools.lru_cache(maxsize=64)
def _settings(node: str, variant: int, disks: str) -> Settings:
    return Settings(
        **{**SHORT, **VARIANTS[variant], "node": node, "volumes": f"{node}={disks}/{node},shared={disks}/shared"}
    )


def snapshot(store: MemoryStore) -> State:
    """A copy of all that the store holds; its locks, its clock and its log of events stay the store's."""
    state = store._state
    shared = [state.clock, state.stripes, state.nudges, state.common, NOTHING_MORE]
    for partition in state.partitions.values():
        shared += [partition.lock, partition.events]
    return copy.deepcopy(state, {id(one): one for one in shared})


def restore(store: MemoryStore, state: State, run_id: str) -> None:
    """The store is that copy from now on, in another run of the server. The copy can be restored again."""
    store._state = state
    store._state = snapshot(store)
    store._state.run_id = run_id


_BLANK = MemoryStore()  # a store's 4,096 locks are made once


def new_store(clock: Clock, run_id: str) -> MemoryStore:
    """An empty store on that clock."""
    store = copy.copy(_BLANK)
    empty(store, clock, run_id)
    return store


def empty(store: MemoryStore, clock: Clock, run_id: str) -> None:
    """FLUSHALL, or another database: the run may stay the same."""
    store._state = snapshot(_BLANK)
    store._state.clock = MemoryClock(clock.read)
    store._state.run_id = run_id
