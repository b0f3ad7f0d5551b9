"""The in-process sweeper: the same passes in a thread, for the in-memory store and for apps without workers."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from sessionsweep.deployment import Core
from sessionsweep.engine.forward import Forward
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import Upkeep
from sessionsweep.errors import StoreError
from sessionsweep.model.resource import volume_location
from sessionsweep.observe.hooks import Hook, Hooks
from sessionsweep.store.protocol import Store

log = logging.getLogger(__name__)

POLL = 1.0  # seconds between two looks at which volumes are mounted, and at what events are new
HOOK = 1.0  # seconds that a hook under way has when the sweeper stops


class InProcessSweeper:
    """Sweeps, reclaims and looks for orphans every CLEANUP_INTERVAL in one thread of this process.

    It survives any exception of a pass (logs it, and tries again next time), stops at once when told, and starts
    again by itself in a forked child that uses it (`ensure`). Another thread tells events to the log and to hooks.

    Args:
        on_event: a function that is called with each event, besides those that EVENT_HOOKS names.

    Raises:
        ConfigurationError: EVENT_HOOKS names a function that isn't there.
    """

    def __init__(self, core: Core, store: Store, on_event: Hook | None = None) -> None:
        self._core = core
        self._store = store
        trust = Trust(core, store)
        self._sweep = Sweep(core, store, trust)
        self._reclaim = Reclaim(core, store, trust)
        self._orphans = Orphans(core, store, trust)
        self._upkeep = Upkeep(core, store, trust)
        self.forward = Forward(core, store, Hooks(core.settings.event_hooks, () if on_event is None else (on_event,)))
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._teller: threading.Thread | None = None
        self._pid = 0
        self.passes = 0  # whole rounds so far
        self.round_done = threading.Condition()
        self.listening: frozenset[str] = frozenset()  # the locations whose nudges it hears
        self._next_upkeep = 0.0

    def ensure(self) -> None:
        """Starts the thread in this process if it doesn't run here: threads don't survive a fork."""
        if self._pid == os.getpid() or not self._core.background:
            return
        with self._lock:
            if self._pid == os.getpid() or self._stop.is_set():
                return
            self._thread = threading.Thread(target=self._loop, name="sessionsweep", daemon=True)
            self._pid = os.getpid()
            self._thread.start()

    def nudge(self) -> None:
        """Something is due now: the next round begins at once."""
        self._wake.set()

    def stop(self, timeout: float = 10.0) -> None:
        """Stops at once (a batch under way is finished) and waits for it. Idempotent."""
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and self._pid == os.getpid() and thread is not threading.current_thread():
            thread.join(timeout)
            if self._teller is not None and self._teller is not threading.current_thread():
                self._teller.join(HOOK)

    def run_once(self, now: int = 0, *, orphans: bool = False) -> None:
        """One round: upkeep if it is due, sweep, reclaim, and orphans if told. Each part fails alone."""
        rounds: list[Callable[[int], object]] = [
            lambda n: self._sweep.run_once(n, stop=self._stop),
            lambda n: self._reclaim.run_once(n, stop=self._stop),
        ]
        if time.monotonic() >= self._next_upkeep:  # each nudge begins a round, and no log-out waits for upkeep
            self._next_upkeep = time.monotonic() + self._core.settings.cleanup_interval
            rounds.insert(0, self._upkeep.run_once)
        if orphans:
            rounds.append(lambda n: self._orphans.run_once(n, stop=self._stop))
        for one in rounds:
            if self._stop.is_set():
                return
            try:
                one(now)
            except Exception:
                log.exception("a pass failed; it is tried again next time")
        with self.round_done:
            self.passes += 1
            self.round_done.notify_all()

    def _locations(self) -> frozenset[str]:
        return frozenset(volume_location(volume.id) for volume in self._core.mounts.here())

    def _listen(self) -> None:
        """Wakes the sweeper when something becomes due: a log-out is reclaimed at once, not an interval later."""
        while not self._stop.is_set():
            locations = self._locations()
            if not locations:
                self._stop.wait(POLL)
                continue
            nudges = self._store.nudges(sorted(locations), POLL)
            for nudge in nudges:
                if nudge or self.listening != locations:  # what became due before it listened counts, too
                    self.listening = locations
                    self._wake.set()
                if self._stop.is_set() or self._locations() != locations:
                    break
            else:
                return  # the store was closed
            nudges.close()  # type: ignore[attr-defined]

    def _tell_events(self) -> None:
        away = False
        while not self._stop.is_set():
            try:
                self.forward.run_once(stop=self._stop)
                away = False
            except StoreError as error:
                if not away:
                    log.warning("events wait, for the store doesn't answer: %s", error)
                away = True
            except Exception:
                log.exception("telling events failed; it is tried again")
            self._stop.wait(POLL)
        self.forward.close()

    def _loop(self) -> None:
        next_orphans = 0.0
        listener: threading.Thread | None = None
        while not self._stop.is_set():
            due = time.monotonic() >= next_orphans
            if due:
                next_orphans = time.monotonic() + self._core.settings.orphan_interval
            self._wake.clear()
            self.run_once(orphans=due)
            if self._core.settings.volumes and (listener is None or not listener.is_alive()):
                listener = threading.Thread(target=self._listen, name="sessionsweep-nudges", daemon=True)
                listener.start()
            if self.forward.wanted and (self._teller is None or not self._teller.is_alive()):
                self._teller = threading.Thread(target=self._tell_events, name="sessionsweep-events", daemon=True)
                self._teller.start()
            self._wake.wait(min(self._core.settings.cleanup_interval, 3600))
