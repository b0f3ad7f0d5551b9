"""gunicorn for the example's web nodes: threads, because uploads and downloads mostly wait."""

from __future__ import annotations

bind = "0.0.0.0:8000"
worker_class = "gthread"
workers = 2
threads = 8
timeout = 60
graceful_timeout = 30
# Heartbeats of gunicorn's own workers: a disk under load must not look like a hung worker.
worker_tmp_dir = "/dev/shm"
accesslog = "-"
