"""What a process's tasks work with: one deployment, its store and its passes, made on first use in each process."""

from __future__ import annotations

import functools
import os
import weakref
from dataclasses import dataclass, field

from celery import Celery

from sessionsweep.deployment import Core
from sessionsweep.engine.forward import Forward
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.errors import ConfigurationError
from sessionsweep.observe.hooks import Hook, Hooks
from sessionsweep.sessions.connect import make_store
from sessionsweep.sessions.sync import Sessions
from sessionsweep.settings import Settings
from sessionsweep.store.protocol import Store
from sessionsweep_workers.stopping import Stopping


@dataclass
class Context:
    """One process's view of a deployment. `stopping` is set when its worker is told to end: passes stop early."""

    settings: Settings
    stopping: Stopping = field(default_factory=Stopping)
    on_event: tuple[Hook, ...] = ()

    def __post_init__(self) -> None:
        self.pid = os.getpid()
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
    def forward(self) -> Forward:
        """Tells events to the log and to hooks; one thread's. Raises ConfigurationError: a hook isn't there."""
        return Forward(self.core, self.store, Hooks(self.settings.event_hooks, self.on_event))

    @functools.cached_property
    def observing(self) -> Context:
        """The same deployment in observe mode: for dry runs."""
        context = Context(self.settings.model_copy(update={"mode": "observe"}), self.stopping)
        context.core.mounts.watch_with(self.core.mounts)
        return context


class _Installed:
    """The settings that an app was given, and this process's context; `stopping` is the pool's processes' too."""

    def __init__(self, settings: Settings | None, on_event: tuple[Hook, ...]) -> None:
        self.given = settings
        self.on_event = on_event
        self.context: Context | None = None
        self.stopping = Stopping()


_installed: weakref.WeakKeyDictionary[Celery, _Installed] = weakref.WeakKeyDictionary()


def configure(app: Celery, settings: Settings | None, on_event: tuple[Hook, ...] = ()) -> None:
    """Sets the settings that an app's tasks use (None: from the environment, when first needed), and who is told of
    events besides the hooks that those name."""
    _installed[app] = _Installed(settings, on_event)


def is_installed(app: Celery) -> bool:
    """Whether our tasks were added to an app."""
    return app in _installed


def current(app: Celery) -> Context:
    """This process's context of an app.

    A forked child makes its own: a volume's lock and a clock's history are not shared. No lock is taken, which a fork
    might copy while it is held: of two contexts that two threads make at once, the earlier serves its call and goes.

    Raises:
        ConfigurationError: nothing was installed into this app, or a setting is impossible.
    """
    installed = _installed.get(app)
    if installed is None:
        raise ConfigurationError(f"sessionsweep is not installed in {app!r}; call sessionsweep_workers.install(app)")
    context = installed.context
    if context is None or context.pid != os.getpid():
        settings = installed.given or Settings.from_env()
        before, context = context, Context(settings, installed.stopping, installed.on_event)
        if before is not None:  # its parent's, which watches the disks
            context.core.mounts.watch_with(before.core.mounts)
        installed.context = context
    return context
