"""gunicorn for the example's web nodes: threads, because uploads and downloads mostly wait."""

from __future__ import annotations

import os
from typing import Any

bind = "0.0.0.0:8000"
worker_class = "gthread"
workers = 2
threads = 8
timeout = 60
graceful_timeout = 30
# Heartbeats of gunicorn's own workers: a disk under load must not look like a hung worker.
worker_tmp_dir = "/dev/shm"
accesslog = "-"
# One line an event: an address or a path that a stranger chose must not look like a line of its own (ASVS 16.4.1).
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "lines": {
            "()": "sessionsweep_workers.logs.Fields",
            "fmt": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["console"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": False},
    },
}


def child_exit(server: Any, worker: Any) -> None:
    """A worker is gone: what it counted stays, what it was busy with (an app's own gauges) doesn't."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)
