"""Adds sessionsweep to a Celery app: tasks, beat entries under stable names, this node's queues and its keeper."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import beat_init

from sessionsweep.observe.hooks import Hook
from sessionsweep.settings import Settings
from sessionsweep_workers import names, tasks
from sessionsweep_workers.bootsteps import ConsumeStep, KeeperStep
from sessionsweep_workers.context import configure, current, is_installed
from sessionsweep_workers.metrics import MetricsStep


def install(app: Celery, settings: Settings | None = None, *, on_event: Hook | None = None) -> Celery:
    """Adds everything, and changes no setting of the app's: serializer, acks and queue are the tasks' own.

    A second call replaces what the first one added. Any beat may send the entries; with
    `beat_scheduler="sessionsweep_workers.beat:LeasedScheduler"` any number of them sends each once.

    Args:
        settings: the deployment's; None: from the environment.
        on_event: a function that the worker calls with each event, besides those that EVENT_HOOKS names.

    Raises:
        ConfigurationError: a setting is impossible; names the variable and the fix.
    """
    settings = settings or Settings.from_env()
    configure(app, settings, () if on_event is None else (on_event,))
    tasks.register(app)
    app.conf.beat_schedule = {**(app.conf.beat_schedule or {}), **schedule(settings)}
    app.steps["worker"].add(KeeperStep)
    app.steps["worker"].add(MetricsStep)
    app.steps["consumer"].add(ConsumeStep)
    beat_init.connect(_add_entries, weak=False, dispatch_uid="sessionsweep.entries")
    return app


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Beat's entries: each pass at its interval."""

    def every(task: str, seconds: float) -> dict[str, Any]:
        return {"task": task, "schedule": seconds, "options": {"queue": names.QUEUE}}

    return {
        "sessionsweep: end idle sessions": every(names.SWEEP_IDLE, settings.cleanup_interval),
        "sessionsweep: end expired sessions": every(names.SWEEP_EXPIRED, settings.cleanup_interval),
        "sessionsweep: reclaim what is owed": every(names.RECLAIM, settings.cleanup_interval),
        "sessionsweep: look for orphans": every(names.SWEEP_ORPHANS, settings.orphan_interval),
    }


def _add_entries(sender: Any, **_: Any) -> None:
    """An app that set its schedule after `install` has overwritten our entries: they are put back when beat begins."""
    if is_installed(sender.app):
        entries = schedule(current(sender.app).settings)
        missing = {name: entry for name, entry in entries.items() if name not in sender.scheduler.schedule}
        if missing:
            sender.scheduler.update_from_dict(missing)
