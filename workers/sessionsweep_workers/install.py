"""Adds sessionsweep to a Celery app: tasks, beat entries under stable names, this node's queues and its bootstep."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.signals import celeryd_after_setup
from kombu import Exchange, Queue

from sessionsweep.errors import SessionSweepError
from sessionsweep.settings import Settings
from sessionsweep.store.flow import run
from sessionsweep_workers import context, names, tasks
from sessionsweep_workers.bootstep import Keeper

log = logging.getLogger(__name__)


def install(app: Celery, settings: Settings | None = None) -> Celery:
    """Adds everything, and changes no setting of the app's. A second call replaces what the first one added.

    Args:
        settings: the deployment's; None: from the environment, when a task first needs them.
    """
    context.configure(settings)
    tasks.register(app)
    app.conf.beat_schedule = {**(app.conf.beat_schedule or {}), **schedule(settings or Settings.from_env())}
    app.steps["consumer"].add(Keeper)
    celeryd_after_setup.connect(consume_own_queues, weak=False, dispatch_uid="sessionsweep.queues")
    return app


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Beat's entries: each pass at its interval."""
    options = {"queue": names.QUEUE, "serializer": "json"}

    def every(task: str, seconds: float) -> dict[str, Any]:
        return {"task": task, "schedule": seconds, "options": dict(options)}

    return {
        "sessionsweep: end idle sessions": every(names.SWEEP_IDLE, settings.cleanup_interval),
        "sessionsweep: end expired sessions": every(names.SWEEP_EXPIRED, settings.cleanup_interval),
        "sessionsweep: look for orphans": every(names.SWEEP_ORPHANS, settings.orphan_interval),
    }


def consume_own_queues(sender: str, instance: Any, **_: Any) -> None:
    """A worker consumes the common queue and one for each volume that it mounts, with and without -Q."""
    app = instance.app
    if names.SWEEP_IDLE not in app.tasks:
        return
    queues = [names.QUEUE]
    here = context.current()
    try:
        run(here.core.mounts.mount(), here.store)
    except SessionSweepError as error:
        log.warning("volumes are mounted later: %s", error)
    queues += [names.volume_queue(volume.id) for volume in here.core.mounts.here()]
    for name in queues:
        app.amqp.queues.select_add(Queue(name, Exchange(""), routing_key=name))
