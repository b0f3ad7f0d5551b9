"""What this process's tasks work with: one deployment, its store and its passes, made on first use in each process."""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import dataclass

from sessionsweep.deployment import Core
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.sessions.connect import make_store
from sessionsweep.sessions.sync import Sessions
from sessionsweep.settings import Settings
from sessionsweep.store.protocol import Store


@dataclass
class Context:
    """One process's view of the deployment. The store's connections drop what they inherited when it forks."""

    settings: Settings

    def __post_init__(self) -> None:
        self.core = Core(self.settings)
        self.store: Store = make_store(self.settings)
        self.trust = Trust(self.core, self.store)
        self.sweep = Sweep(self.core, self.store, self.trust)
        self.reclaim = Reclaim(self.core, self.store, self.trust)
        self.orphans = Orphans(self.core, self.store, self.trust)
        self.upkeep = Upkeep(self.core, self.store, self.trust)

    @functools.cached_property
    def sessions(self) -> Sessions:
        """The public API over the same store."""
        return Sessions(self.settings, store=self.store)

    @functools.cached_property
    def observing(self) -> Context:
        """The same deployment in observe mode: for dry runs."""
        return Context(self.settings.model_copy(update={"mode": "observe"}))


_contexts: dict[int, Context] = {}
_settings: Settings | None = None
_lock = threading.Lock()


def configure(settings: Settings | None) -> None:
    """Sets the settings that this process's tasks use (None: from the environment, when first needed)."""
    global _settings
    _settings = settings
    _contexts.clear()


def current() -> Context:
    """This process's context; a forked child makes its own, for a volume's lock or a clock's history is not shared."""
    with _lock:
        context = _contexts.get(os.getpid())
        if context is None:
            _contexts.clear()
            context = _contexts[os.getpid()] = Context(_settings or Settings.from_env())
        return context
