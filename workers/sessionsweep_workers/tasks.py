"""The six tasks: thin. Each parses its arguments, calls the engine, and returns a small dict of counts and seconds."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from celery import Celery, Task

from sessionsweep.errors import SessionSweepError, StoreUnavailableError
from sessionsweep.model.ids import is_session_id
from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.context import Context, current
from sessionsweep_workers.passes import Record, record

log = logging.getLogger(__name__)

BUDGET = 20.0  # seconds a task works before it sends itself again: far below a third of the visibility timeout

#: Set on each task, so that an app that is not ours keeps its own settings.
OPTIONS: dict[str, Any] = {
    "serializer": "json",
    "acks_late": True,
    "reject_on_worker_lost": True,
    "ignore_result": True,
    "max_retries": 0,
    "queue": names.QUEUE,
}


def register(app: Celery) -> None:
    """Adds the tasks to an app; adding them again replaces them."""
    for name, body in BODIES.items():
        app.tasks.pop(name, None)
        app.task(name=name, bind=True, **OPTIONS)(body)


def sweep_idle(
    self: Task, slot: int | None = None, dry_run: bool = False, request_id: str | None = None
) -> dict[str, Any]:
    """Ends sessions that are due (idle or too old: there is one wheel) and makes overdue intents owed."""
    return _sweep(self, slot, dry_run, request_id)


def sweep_expired(
    self: Task, slot: int | None = None, dry_run: bool = False, request_id: str | None = None
) -> dict[str, Any]:
    """The same pass under its other name: whichever comes second finds nothing left."""
    return _sweep(self, slot, dry_run, request_id)


def sweep_orphans(
    self: Task,
    slot: int | None = None,
    dry_run: bool = False,
    request_id: str | None = None,
    volume: str | None = None,
) -> dict[str, Any]:
    """Looks for bytes without an owner: this node's volumes here, every other volume on a node that mounts it."""
    context = current()
    if _stale(context, slot, context.settings.orphan_interval):
        return {"stale": True}
    with record(context, names.SWEEP_ORPHANS, request_id or self.request.id) as about:
        passes = context.observing if dry_run else context
        result = passes.orphans.run_once(volume_ids=[volume] if volume else None, budget=BUDGET)
        about.done(result.as_dict())
        if volume is None:
            _fan_out(self, context, dry_run, about)
    again = 0.0 if result.more else result.confirm_in
    if result.more or result.confirm_in:
        arguments = {"volume": volume, "dry_run": dry_run, "request_id": request_id}
        # what was sighted now can be confirmed after a grace; a confirmation sends no further one
        if result.more or not (self.request.headers or {}).get("confirming"):
            headers = {"confirming": not result.more}
            self.apply_async(kwargs=arguments, countdown=again, headers=headers, queue=_queue(volume))
    _progress(self, f"{result.files} files, {result.destroyed} orphans destroyed")
    return result.as_dict()


def reclaim(
    self: Task, volume: str | None = None, request_id: str | None = None, sent: str | None = None
) -> dict[str, Any]:
    """Deletes what ended sessions left on this node's volumes (or on the one named)."""
    context = current()
    if volume and sent:
        context.store.execute(op.DropLease(outstanding(volume), sent))
    with record(context, names.RECLAIM, request_id or self.request.id) as about:
        result = context.reclaim.run_once(volume_ids=[volume] if volume else None, budget=BUDGET)
        about.done(result.as_dict())
    _progress(self, f"{result.deleted} deleted, {result.bytes} bytes")
    if result.more:
        self.apply_async(kwargs={"volume": volume}, countdown=1, queue=_queue(volume))
    return result.as_dict()


def end_session(self: Task, session_id: str, reason: str = "admin", request_id: str | None = None) -> dict[str, Any]:
    """Ends one session; its resources are reclaimed at once."""
    if not isinstance(session_id, str) or not is_session_id(session_id):
        raise ValueError(f"session_id={session_id!r} is not a session id (20 letters and digits)")
    context = current()
    with record(context, names.END_SESSION, request_id or self.request.id) as about:
        ended = context.sessions.end(session_id, reason=reason)
        about.done({"ended": int(ended)})
    return {"ended": int(ended)}


def end_user(
    self: Task,
    user: str,
    except_id: str | None = None,
    reason: str = "admin",
    request_id: str | None = None,
) -> dict[str, Any]:
    """Ends every session of a user that was bound before this call."""
    if not isinstance(user, str) or not user:
        raise ValueError(f"user={user!r} must be a user's name")
    context = current()
    with record(context, names.END_USER, request_id or self.request.id) as about:
        ended = context.sessions.end_user(user, except_id=except_id, reason=reason)
        about.done({"ended": ended})
    return {"ended": ended}


BODIES: dict[str, Callable[..., dict[str, Any]]] = {
    names.SWEEP_IDLE: sweep_idle,
    names.SWEEP_EXPIRED: sweep_expired,
    names.SWEEP_ORPHANS: sweep_orphans,
    names.RECLAIM: reclaim,
    names.END_SESSION: end_session,
    names.END_USER: end_user,
}


def _sweep(self: Task, slot: int | None, dry_run: bool, request_id: str | None) -> dict[str, Any]:
    context = current()
    if _stale(context, slot, context.settings.cleanup_interval):
        return {"stale": True}
    with record(context, self.name, request_id or self.request.id) as about:
        result = (context.observing if dry_run else context).sweep.run_once(budget=BUDGET)
        about.done(result.as_dict())
    _progress(self, f"{result.idle + result.expired} sessions ended")
    if result.more:
        self.apply_async(kwargs={"dry_run": dry_run}, queue=names.QUEUE)
    return result.as_dict()


def _fan_out(self: Task, context: Context, dry_run: bool, about: Record) -> None:
    here = {volume.id for volume in context.core.mounts.here()}
    for other in context.store.execute(op.Table("vols")):
        if other not in here:
            arguments = {"volume": other, "dry_run": dry_run, "request_id": f"{about.id}.{other}"}
            self.apply_async(kwargs=arguments, queue=names.volume_queue(other), task_id=str(uuid.uuid4()))


def _stale(context: Context, slot: int | None, interval: float) -> bool:
    """A message that waited over two intervals says nothing new: the passes after it did its work.

    Its time is the store's, put there by whoever sent it; Celery's `expires` compares the clocks of two hosts.
    """
    if slot is None:
        return False
    try:
        return context.store.execute(op.Facts()).now - int(slot) > interval * 2000
    except StoreUnavailableError:
        raise
    except SessionSweepError:
        return False


def outstanding(volume_id: str) -> str:
    """The lease that a reclaim holds from when a keeper sends it until it begins."""
    return f"reclaim:{volume_id}"


def _queue(volume: str | None) -> str:
    return names.volume_queue(volume) if volume else names.QUEUE


def _progress(self: Task, text: str) -> None:
    """What Flower's result column shows; it sees no update_state."""
    if self.request.id and not self.request.is_eager:
        self.send_event("task-progress", retry=False, result=text)
