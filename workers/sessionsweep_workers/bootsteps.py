"""What each worker starts besides its pool and its consumer: the keeper, and the queues of this node's volumes."""

from __future__ import annotations

import gc
import logging
from typing import Any

from celery import bootsteps
from celery.signals import worker_shutting_down

from sessionsweep.engine.server import refuse_eviction
from sessionsweep.errors import ConfigurationError, SessionSweepError
from sessionsweep_workers import names
from sessionsweep_workers.context import current
from sessionsweep_workers.disks import Disks
from sessionsweep_workers.keeper import Keeper

log = logging.getLogger(__name__)


class KeeperStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """The keeper's life: as long as the worker's, also while its broker is away.

    It consumes the common queue and one for each volume that this node mounts, with and without -Q.
    """

    requires = ("celery.worker.components:Pool",)  # no thread of ours runs yet when the pool forks

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        context = current(worker.app)
        disks = Disks(context)
        try:
            refuse_eviction(context.store)
            disks.mount()
        except ConfigurationError:
            raise
        except SessionSweepError as error:
            log.warning("the store doesn't answer; volumes are mounted, and their queues consumed, later: %s", error)
        queues = [names.QUEUE, *(names.volume_queue(volume.id) for volume in context.core.mounts.here())]
        for name in queues:
            worker.app.amqp.queues.select_add(names.declared(name))
        self.keeper = worker.sessionsweep_keeper = Keeper(worker.app, disks)
        self._stopping = context.stopping
        self._stopping.clear()  # an earlier worker of this process may have ended
        worker_shutting_down.connect(self._stop_passes)
        self._wait_for_soft_shutdown = worker.wait_for_soft_shutdown
        worker.wait_for_soft_shutdown = self._soft_shutdown

    def start(self, worker: Any) -> None:
        """The pool is up; the consumer comes next."""
        self.keeper.start()

    def stop(self, worker: Any) -> None:
        """After the consumer, before the pool."""
        worker_shutting_down.disconnect(self._stop_passes)
        self.keeper.stop()

    terminate = stop

    def _stop_passes(self, **_: Any) -> None:
        """Tasks end after their batch, here and in the pool's processes. Runs in a signal handler."""
        self._stopping.set()

    def _soft_shutdown(self) -> None:
        """A cold shutdown (SIGQUIT) gives tasks some seconds, kills them, and only then sends its signal."""
        self._stop_passes()
        self._wait_for_soft_shutdown()


class ConsumeStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Lets the keeper add queues to the consumer; anew at each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """The consumer is connected (again).

        What is left of a broken connection hangs together in circles (kombu's channels, tracebacks): half a megabyte
        until the next full collection, which may be hours away.
        """
        if consumer.restart_count > 0:
            gc.collect()
        consumer.controller.sessionsweep_keeper.consumer = consumer

    def stop(self, consumer: Any) -> None:
        """The connection is gone, or the worker ends."""
        consumer.controller.sessionsweep_keeper.consumer = None

    shutdown = stop
