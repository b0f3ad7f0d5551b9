"""Builds the Celery app from settings: broker, queues, schedule. The one place where Celery is configured."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from sessionsweep.settings import Settings
from sessionsweep_workers.install import install
from sessionsweep_workers.names import QUEUE

VISIBILITY = 120  # seconds until a killed worker's message comes back; tasks stay well under a third of it


def build(settings: Settings | None = None) -> Celery:
    """A whole app. Raises ConfigurationError where a setting is impossible."""
    settings = settings or Settings.from_env()
    # what was meant for another Celery app must not change ours: Celery lets these override an app's own settings
    foreign = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("CELERY_")}
    try:
        app = Celery("sessionsweep", set_as_current=False)
        app.conf.update(configuration(settings))
        app.finalize()
        app.connection_for_write()  # settings are read here, while the foreign ones are away
    finally:
        os.environ.update(foreign)
    install(app, settings)
    return app


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings for an app that is ours alone."""
    return {
        "broker_url": broker_url(settings),
        "result_backend": None,
        "task_ignore_result": True,
        "task_default_queue": QUEUE,
        "task_queues": [Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE)],
        "task_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        "task_create_missing_queues": True,
        "broker_transport_options": {
            # two deployments on one Redis never see each other's queues, nor their unacknowledged messages
            "global_keyprefix": f"{settings.namespace}:celery:",
            "visibility_timeout": VISIBILITY,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "health_check_interval": 25,
            "socket_keepalive": not settings.redis_url.startswith("unix:"),
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "task_track_started": True,
        "worker_soft_shutdown_timeout": 5.0,
        "worker_hijack_root_logger": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "beat_scheduler": "sessionsweep_workers.beat:LeasedScheduler",
        "beat_enable_remote_control": True,
        "beat_max_loop_interval": 5,
    }


def broker_url(settings: Settings) -> str:
    """BROKER_URL, or the store's Redis in the form that Celery's transport takes."""
    url = settings.broker_url or settings.redis_url
    if url.startswith("unix:"):
        return "redis+socket:" + url.removeprefix("unix:")
    return url
