"""The keeper: what each worker does by itself, without any message: heartbeat, nudges, its own sweep when beat is gone.

One thread in the worker's main process. It listens for nudges of this node's volumes, looks at their queues every
second, and sends itself a `reclaim` when something is due, at most one outstanding per volume. When the broker can't
be reached it runs the engine right here: no promise depends on a message.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import Any

from celery import bootsteps

from sessionsweep.errors import SessionSweepError
from sessionsweep.model.resource import volume_location
from sessionsweep.store import operations as op
from sessionsweep.store.keys import partition_name
from sessionsweep_workers import names
from sessionsweep_workers.context import Context, current
from sessionsweep_workers.tasks import outstanding

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks at the queues, or a quarter of the cleanup interval where that is shorter
BEAT = 5.0  # seconds between two heartbeats of this node
OUTSTANDING = 10_000  # ms after which a reclaim that was sent and never began is taken for lost
LATE = 1.5  # intervals without a sweep after which this worker sweeps itself


class Keeper(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts and stops the thread with the worker's consumer; it survives reconnections of the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **_: Any) -> None:
        self._thread: _KeeperThread | None = None
        super().__init__(parent)

    def start(self, parent: Any) -> None:
        """The consumer is up (again)."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = _KeeperThread(parent.app)
            self._thread.start()

    def stop(self, parent: Any) -> None:
        """The consumer is going down; a reconnection starts another thread."""
        if self._thread is not None:
            self._thread.finish()
            self._thread = None

    terminate = shutdown = stop


class _KeeperThread(threading.Thread):
    def __init__(self, app: Any) -> None:
        super().__init__(name="sessionsweep-keeper", daemon=True)
        self._app = app
        self._context: Context = current()
        self._over = threading.Event()
        self._wake = threading.Event()
        self._alarmed = False

    def finish(self) -> None:
        """Ends the thread at its next look."""
        self._over.set()
        self._wake.set()

    def run(self) -> None:
        """Until the worker stops; survives whatever a look raises."""
        listener = threading.Thread(target=self._listen, name="sessionsweep-nudges", daemon=True)
        listener.start()
        next_beat = 0.0
        while not self._over.is_set():
            try:
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + min(BEAT, self._context.settings.cleanup_interval)
                    self._context.upkeep.run_once()
                self._look()
            except SessionSweepError as error:
                log.warning("the store doesn't answer: %s", error)
            except Exception:
                log.exception("the keeper goes on")
            self._wake.wait(max(0.1, min(LOOK, self._context.settings.cleanup_interval / 4)))
            self._wake.clear()

    def _listen(self) -> None:
        locations = [volume_location(volume.id) for volume in self._context.core.mounts.here()]
        if not locations:
            return
        for nudge in self._context.store.nudges(locations, LOOK):
            if self._over.is_set():
                return
            if nudge:
                self._wake.set()

    def _look(self) -> None:
        store = self._context.store
        meta = store.execute(op.Meta())
        mine = {volume_location(volume.id): volume.id for volume in self._context.core.mounts.here()}
        for number in range(int(meta.get("partitions", "1"))):
            for queue in store.execute(op.Queues(partition_name(number))):
                if queue.location in mine and queue.oldest_due > 0:
                    self._reclaim(mine[queue.location])
        now = store.execute(op.Facts()).now
        interval = self._context.settings.cleanup_interval
        last = int(meta.get("last_sweep", "0"))
        if now - last > LATE * interval * 1000:
            if last and not self._alarmed:
                self._alarmed = True
                log.error("no sweep for %.1f s: is beat running? This worker sweeps by itself", (now - last) / 1000)
            self._context.sweep.run_once(budget=10.0)
        elif now - last < interval * 1000:
            self._alarmed = False

    def _reclaim(self, volume_id: str) -> None:
        # at most one waits to begin; it gives the lease back when it does, and a lost message costs the lease's time
        token = secrets.token_hex(8)
        if not self._context.store.execute(op.TakeLease(outstanding(volume_id), token, OUTSTANDING)):
            return
        try:
            self._app.tasks[names.RECLAIM].apply_async(
                kwargs={"volume": volume_id, "sent": token}, queue=names.volume_queue(volume_id), retry=False
            )
        except Exception as error:
            log.warning("the broker doesn't take a message (%s): reclaiming here", error)
            self._context.reclaim.run_once(volume_ids=[volume_id], budget=10.0)
