"""The six tasks: thin. Each parses its arguments, calls the engine, and returns a small dict of counts and seconds.

All may run any number of times, on any worker, at once: what they do is decided in the store. Arguments that people use
come first; those after `*` are what messages say about themselves:

    slot         the store's time (ms) for which beat sent it; older than two intervals, it is dropped
    request_id   somebody waits for its record (see passes)
    sent         the lease that keeps a second `reclaim` of this volume from being sent until this one begins
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery import Celery

from sessionsweep.errors import StoreError, VolumeError, VolumeNotHereError
from sessionsweep.model.ids import VOLUME_ID, is_session_id
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import EndReason
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep_workers import fanout, names
from sessionsweep_workers.context import Context, current
from sessionsweep_workers.passes import part_of, recorded, total
from sessionsweep_workers.request import JsonTask

log = logging.getLogger(__name__)

BUDGET = 20.0  # seconds a task works before it sends itself again: far below a third of the visibility timeout
STALE = 2  # intervals

#: Set on each task, so that an app that is not ours keeps its own settings.
OPTIONS: dict[str, Any] = {
    "serializer": "json",
    "compression": None,
    "acks_late": True,
    # a pass that takes its process down must not come back at once: the next interval sends another
    "reject_on_worker_lost": False,
    "acks_on_failure_or_timeout": True,
    "ignore_result": True,
    "expires": None,
    "rate_limit": None,
    "max_retries": 0,
    "time_limit": 100,
    "send_events": True,
    "typing": True,
}


#: What ends sessions is sent once, by nobody's interval: it comes back if its process dies, and again is harmless.
ENDING: dict[str, Any] = {"reject_on_worker_lost": True}


class PassTask(JsonTask):
    """Sends itself to queues by name, and gives what a plain beat sends its slot."""

    abstract = True

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, producer: Any = None, **options: Any
    ) -> Any:
        """See celery.Task.apply_async."""
        headers = options.get("headers") or {}
        if headers.get("celery_beat_task") and self.name in PERIODIC and "slot" not in (kwargs or {}):
            slot = _seen_beat(self.app)
            kwargs = {**(kwargs or {}), **({"slot": slot} if slot else {})}
        queue = options.get("queue") or names.QUEUE
        if isinstance(queue, str):
            # exchange and key named too: an app's own routes must not send it elsewhere
            options |= {"queue": names.declared(queue), "exchange": "", "routing_key": queue}
        return super().apply_async(args, kwargs, task_id, producer, **options)

    def resend(self, queue: str = names.QUEUE, **kwargs: Any) -> None:
        """The same task again. Never with an ETA: that compares the clocks of two hosts."""
        self.apply_async(kwargs=kwargs, queue=queue)

    def progress(self, text: str) -> None:
        """What Flower's result column shows meanwhile; it sees no update_state."""
        if self.request.id and not self.request.is_eager and not self.request.called_directly:
            self.send_event("task-progress", retry=False, result=text)

    @property
    def context(self) -> Context:
        """This process's view of the deployment."""
        return current(self.app)


def sweep_idle(
    self: PassTask, dry_run: bool = False, *, slot: int | None = None, request_id: str | None = None
) -> dict[str, Any]:
    """Ends sessions that are due (idle or too old: there is one wheel) and makes overdue intents owed."""
    return _sweep(self, dry_run, slot, request_id)


def sweep_expired(
    self: PassTask, dry_run: bool = False, *, slot: int | None = None, request_id: str | None = None
) -> dict[str, Any]:
    """The same pass under its other name: whichever comes second finds nothing left."""
    return _sweep(self, dry_run, slot, request_id)


def sweep_orphans(
    self: PassTask,
    volume: str | None = None,
    dry_run: bool = False,
    *,
    slot: int | None = None,
    request_id: str | None = None,
) -> dict[str, Any]:
    """Looks for bytes without an owner: on this node's volumes, and one message to each other volume's queue."""
    _check_volume(volume)
    context = self.context
    if _stale(context, slot, context.settings.orphan_interval):
        return {"stale": True}
    if volume is not None:
        result = _orphans_on(self, volume, dry_run, request_id, BUDGET)
        if result.get("more"):
            self.resend(names.volume_queue(volume), volume=volume, dry_run=dry_run, request_id=request_id)
        return result
    with recorded(context, self.name, request_id, dry_run=dry_run) as about:
        run(context.core.mounts.mount(), context.store)  # before others are told: what is mounted here isn't theirs
        others = fanout.orphans(self, context, dry_run, request_id)
        here = [mounted.id for mounted in context.core.mounts.here()]
        results = {mine: _orphans_on(self, mine, dry_run, None, BUDGET / len(here)) for mine in here}
        going_on = [mine for mine, result in results.items() if result.get("more")]
        for mine in going_on:  # another node may take what comes from the common queue
            self.resend(names.volume_queue(mine), volume=mine, dry_run=dry_run, request_id=part_of(request_id, mine))
        about.parts = [f"{request_id}.{part}" for part in [*others, *going_on]] if request_id else []
        answer = total(list(results.values())) | ({"sent": len(others)} if others else {})
        about.done(answer)
    return answer


def reclaim(
    self: PassTask,
    volume: str | None = None,
    *,
    slot: int | None = None,
    request_id: str | None = None,
    sent: str | None = None,
) -> dict[str, Any]:
    """Deletes what ended sessions left on this node's volumes (or on the one named); nudges the other nodes."""
    _check_volume(volume)
    context = self.context
    if volume and sent:
        context.store.execute(op.DropLease(names.outstanding(volume), sent))
    if _stale(context, slot, context.settings.cleanup_interval):
        return {"stale": True}
    if volume is not None and not _is_usable(self, volume, request_id):
        return {"not_mounted": True}
    with recorded(context, self.name, request_id, volume) as about:
        result = context.reclaim.run_once(volume_ids=[volume] if volume else None, budget=BUDGET, stop=context.stopping)
        answer = {key: value for key, value in result.as_dict().items() if key != "next_due"}
        if volume is None:
            others = fanout.reclaims(self, context)
            answer |= {"sent": others} if others else {}
        about.done(answer, more=result.more and volume is not None)
    self.progress(f"{result.deleted} deleted, {result.bytes} bytes")
    if result.more and volume is not None:
        self.resend(names.volume_queue(volume), volume=volume, request_id=request_id)
    elif result.more:
        for mounted in context.core.mounts.here():  # another node may take what comes from the common queue
            fanout.send_reclaim(self, context.store, mounted.id)
    return answer


def end_session(
    self: PassTask, session_id: str, reason: str = "admin", *, request_id: str | None = None
) -> dict[str, Any]:
    """Ends one session; its resources are reclaimed at once."""
    if not isinstance(session_id, str) or not is_session_id(session_id):
        raise ValueError(f"session_id={session_id!r} is not a session id (20 lower-case letters and digits)")
    _check_reason(reason)
    context = self.context
    with recorded(context, self.name, request_id) as about:
        about.done({"ended": int(context.sessions.end(session_id, reason=reason))})
    return about.result


def end_user(
    self: PassTask,
    user: str,
    except_id: str | None = None,
    reason: str = "admin",
    *,
    request_id: str | None = None,
) -> dict[str, Any]:
    """Ends every session of a user that was bound before this call, but `except_id`."""
    if not isinstance(user, str) or not user:
        raise ValueError(f"user={user!r} must be the text by which sessions were bound to a user")
    if except_id is not None and not is_session_id(except_id):
        raise ValueError(f"except_id={except_id!r} is not a session id (20 lower-case letters and digits)")
    _check_reason(reason)
    context = self.context
    with recorded(context, self.name, request_id) as about:
        about.done({"ended": context.sessions.end_user(user, except_id=except_id, reason=reason)})
    return about.result


BODIES: dict[str, Callable[..., dict[str, Any]]] = {
    names.SWEEP_IDLE: sweep_idle,
    names.SWEEP_EXPIRED: sweep_expired,
    names.SWEEP_ORPHANS: sweep_orphans,
    names.RECLAIM: reclaim,
    names.END_SESSION: end_session,
    names.END_USER: end_user,
}
PERIODIC = (names.SWEEP_IDLE, names.SWEEP_EXPIRED, names.SWEEP_ORPHANS, names.RECLAIM)


def register(app: Celery) -> None:
    """Adds the tasks to an app; adding them again replaces them."""
    for name, body in BODIES.items():
        app.tasks.pop(name, None)
        own = {} if name in PERIODIC else ENDING
        app.task(name=name, bind=True, base=PassTask, **(OPTIONS | own))(body)


def _sweep(self: PassTask, dry_run: bool, slot: int | None, request_id: str | None) -> dict[str, Any]:
    context = self.context
    if _stale(context, slot, context.settings.cleanup_interval):
        return {"stale": True}
    with recorded(context, self.name, request_id, dry_run=dry_run) as about:
        passes = context.observing if dry_run else context
        result = passes.sweep.run_once(budget=BUDGET, stop=context.stopping, renew=not dry_run)
        about.done(result.as_dict(), more=result.more)
    self.progress(f"{result.would_end if dry_run else result.idle + result.expired} sessions, {result.owed} owed")
    if result.more:
        self.resend(dry_run=dry_run, request_id=request_id)
    return result.as_dict()


def _orphans_on(self: PassTask, volume: str, dry_run: bool, request_id: str | None, budget: float) -> dict[str, Any]:
    """One volume of this node's. What it sighted first is confirmed a grace later, by this node's keeper."""
    context = self.context
    if not _is_usable(self, volume, request_id):
        return {"not_mounted": True}
    with recorded(context, self.name, request_id, volume, dry_run=dry_run) as about:
        passes = context.observing if dry_run else context
        result = passes.orphans.run_once(volume_ids=[volume], budget=budget, stop=context.stopping)
        about.done(result.as_dict(), more=result.more)
    self.progress(f"{result.files} files, {result.candidates} candidates, {result.destroyed} destroyed")
    return result.as_dict()


def _is_usable(self: PassTask, volume: str, request_id: str | None) -> bool:
    """Whether this node's volume is there. A disk that is away is held and told of: it fails no task, but a request
    whose part it is, for somebody waits.

    Raises:
        VolumeNotHereError: it isn't this node's, so the message has come to the wrong one.
    """
    context = self.context
    try:
        run(context.core.mounts.holding(volume_location(volume)), context.store)
    except VolumeNotHereError as error:
        if context.settings.node not in error.nodes:
            raise
        log.warning("%s: volume %s can't be used here now; what waits there is done once it can", self.name, volume)
        if request_id:
            with suppress(VolumeError), recorded(context, self.name, request_id, dry_run=True):  # no run of its own
                raise VolumeError(f"volume {volume} can't be used now: see sessionsweep holds list") from None
        return False
    return True


def _stale(context: Context, slot: int | None, interval: float) -> bool:
    """A message that waited over two intervals says nothing new: the passes after it did its work.

    Its time is the store's, put there by whoever sent it; Celery's `expires` compares the clocks of two hosts.
    """
    if slot is None:
        return False
    if isinstance(slot, bool) or not isinstance(slot, int):
        raise TypeError(f"slot={slot!r} is not a time in ms of the store's clock; leave it out")
    return context.store.execute(op.Facts()).now - slot > interval * 1000 * STALE


def _seen_beat(app: Celery) -> int:
    """The store's time, noted as beat's last; 0 while the store is away."""
    try:
        store = current(app).store
        now = store.execute(op.Facts()).now
        store.execute(op.SetMeta({"beat_seen": str(now)}, raise_only=True))
    except StoreError as error:
        log.warning("beat can't reach the store: %s", error)
        return 0
    return now


def _check_volume(volume: str | None) -> None:
    if volume is not None and (not isinstance(volume, str) or not VOLUME_ID.match(volume)):
        raise ValueError(f"volume={volume!r} is not a volume id (16 lower-case letters and digits; see `volumes list`)")


def _check_reason(reason: str) -> None:
    if reason not in set(EndReason):
        raise ValueError(f"reason={reason!r} is not one of {', '.join(EndReason)}")
