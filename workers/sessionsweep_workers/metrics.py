"""A worker's own `/metrics`: what its processes measured, at METRICS_ADDRESS."""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from sessionsweep.errors import ConfigurationError
from sessionsweep.settings import Settings
from sessionsweep_workers.context import current
from sessionsweep_workers.metrics_server import MetricsServer

log = logging.getLogger(__name__)


class MetricsStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Serves as long as the worker lives, from its first process: tasks keep no scrape waiting."""

    requires = ("celery.worker.components:Pool",)  # no thread of ours runs yet when the pool forks

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        settings = current(worker.app).settings
        self._address = settings.metrics_address
        self._server: MetricsServer | None = None
        self.enabled = bool(self._address)
        if self.enabled:
            _check(settings, forks=worker.pool_cls.__module__ == "celery.concurrency.prefork")

    def start(self, worker: Any) -> None:
        """The pool is up."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        from sessionsweep.observe.prometheus import exposed

        host, _, port = self._address.rpartition(":")
        registry = exposed()
        try:
            self._server = MetricsServer(host, int(port), lambda: (generate_latest(registry), CONTENT_TYPE_LATEST))
        except OSError as error:
            raise ConfigurationError(
                f"SESSIONSWEEP_METRICS_ADDRESS={self._address!r} can't be listened at: {error.strerror}; give each "
                "worker of a host a port of its own"
            ) from error
        log.info("metrics at http://%s/metrics", self._address)

    def stop(self, worker: Any) -> None:
        """After the consumer, before the pool."""
        if self._server is not None:
            self._server.stop()

    terminate = stop


def _check(settings: Settings, forks: bool) -> None:
    if not settings.metrics:
        raise ConfigurationError(
            "SESSIONSWEEP_METRICS_ADDRESS is set, but nothing is measured: set SESSIONSWEEP_METRICS=1, too"
        )
    from sessionsweep.observe.prometheus import FOLDER, shares

    if forks and not shares():
        raise ConfigurationError(
            "tasks run in processes of their own (--pool prefork), whose figures SESSIONSWEEP_METRICS_ADDRESS can't "
            f"see: set {FOLDER} to an empty folder of this worker's own, or run it with --pool threads"
        )
