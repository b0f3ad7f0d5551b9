"""The keeper: what each worker does by itself: heartbeat, nudges, and the passes that no message began.

It runs in the worker's main process. One thread listens for nudges of this node's volumes, looks at their queues every
second and sends this node a `reclaim` when something is due, at most one that waits per volume. What may block goes on
elsewhere: in three lanes sending messages, what needs the store alone, and telling events to users' hooks; and for each
disk in threads of its own. No promise depends on a message: a reclaim that doesn't begin in time, and a sweep that is
late, run right here.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

from sessionsweep.deployment import partitions
from sessionsweep.errors import OutcomeUnknownError, StoreError, StoreUnavailableError
from sessionsweep.model.resource import volume_location
from sessionsweep.model.rows import decimal
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep_workers import alarms, fanout, names, passes
from sessionsweep_workers.context import Context, current
from sessionsweep_workers.disks import Disks, forget_alarms
from sessionsweep_workers.lane import Lane
from sessionsweep_workers.notify import Notifier

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks, or a quarter of the cleanup interval where that is shorter
BEAT = 5.0  # seconds between two heartbeats of this node, or the cleanup interval where that is shorter
LATE = 1.5  # intervals after which a pass that beat should have sent is run here
# Seconds after which a reclaim that doesn't begin is run here, or a quarter of the interval. Well below the lease that
# keeps a second one from being sent, or lost messages would follow one another for ever.
PATIENCE = 5.0
BROKER_PAUSE = 10.0  # seconds without messages after the broker took none: trying takes seconds each time
NUDGE_PAUSE = 0.05  # seconds between two messages that nudges make for one volume
BUDGET = 20.0  # seconds of a pass that is run here
STUCK = 300.0  # seconds after which a pass of the store alone hangs, and this process is no good


class Keeper:
    """One worker's. `consumer` is Celery's while it is connected."""

    def __init__(self, app: Any, disks: Disks) -> None:
        self._app = app
        self._disks = disks
        self.context: Context = current(app)
        self.consumer: Any = None
        interval = self.context.settings.cleanup_interval
        self._tick = min(LOOK, interval / 4)
        self._beat = min(BEAT, interval)
        self._patience = min(PATIENCE, interval / 4)
        self._thread = threading.Thread(target=self._run, name="sessionsweep-keeper", daemon=True)
        self._over = threading.Event()
        self._messages = Lane("sessionsweep-messages")
        self._work = Lane("sessionsweep-store")
        self._events = Lane("sessionsweep-events")
        self._forward = self.context.forward  # a hook that isn't there is said now, before the worker begins
        self._next_beat = self._next_upkeep = 0.0
        self._volumes: dict[str, str] = {}  # location → volume id, of what is mounted
        self._unbegun: dict[str, float] = {}  # volume → since when a reclaim waits to be sent or to begin
        self._no_broker_until = 0.0
        self._paces: dict[str, _Pace] = {}
        self._away = False
        self._notifier = Notifier()
        self._beat_alarm = alarms.BeatAlarm(self.context)
        self._marks_alarm = alarms.MarksAlarm(self.context)
        self._books_alarm = alarms.BooksAlarm(self.context)
        self._next_books = 0.0

    def start(self) -> None:
        """Begins; call it once, after the pool has forked."""
        self._messages.start()
        self._work.start()
        self._disks.start()
        self._events.start()
        self._thread.start()
        self._notifier.ready()

    def stop(self, timeout: float = 3.0) -> None:
        """Ends after the batch under way. What it leaves undone, another worker or the next start does."""
        self._over.set()
        self.context.stopping.set()
        for lane, patience in ((self._messages, timeout), (self._work, timeout), (self._events, timeout / 3)):
            lane.stop(patience)
        self._disks.stop(timeout)
        with suppress(Exception):
            self._forward.close()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._over.is_set():
            self._volumes = {volume_location(v.id): v.id for v in self.context.core.mounts.here()}
            if not self._volumes:
                self._step("")
                self._over.wait(self._tick)
                continue
            listening = frozenset(self._volumes)
            nudges = self.context.store.nudges(sorted(listening), self._tick)
            self._step("")
            for location in nudges:
                if self._over.is_set() or frozenset(self._volumes) != listening:
                    break
                self._step(location)
            nudges.close()  # type: ignore[attr-defined]

    def _step(self, location: str) -> None:
        try:
            if location in self._volumes:
                self._nudged(self._volumes[location])
            now = time.monotonic()
            if now >= self._next_beat:
                self._next_beat = now + self._beat
                self._heartbeat()
            if not location:
                self._look()
                if self._forward.wanted:
                    self._events.ask("events", partial(self._forward.run_once, stop=self.context.stopping))
            if self._away:
                self._away = False
                log.warning("the store answers again")
        except StoreError as error:
            if isinstance(error, (StoreUnavailableError, OutcomeUnknownError)):
                self._disks.store_is_away()  # a record that can't be read must not excuse a disk that hangs
            if not self._away:
                log.warning("the store doesn't answer: %s", error)
            self._away = True
        except Exception:
            log.exception("the keeper goes on")
        begun = self._work.since
        if begun is None or time.monotonic() - begun < STUCK:
            self._notifier.goes_on()

    # heartbeat: what this node mounts, and which queues its worker consumes

    def _heartbeat(self) -> None:
        core = self.context.core
        self._volumes = {volume_location(v.id): v.id for v in core.mounts.here()}
        queues = [names.QUEUE, *map(names.volume_queue, self._volumes.values())]
        self._consume(queues)
        self.context.upkeep.beat_heart(queues)
        self._disks.watch(self.context.store.execute(op.Facts()).now)
        upkeep = time.monotonic() >= self._next_upkeep
        if upkeep:
            self._next_upkeep = time.monotonic() + max(1.0, self.context.settings.cleanup_interval)
            self._work.ask("upkeep", self._upkeep)
        self._disks.look_after(upkeep=upkeep)
        self._late_orphans()

    def _consume(self, queues: list[str]) -> None:
        """Volumes that were mounted after the worker began bring their queues."""
        consumer = self.consumer
        if consumer is None:
            return
        for name in queues:
            if name not in self._app.amqp.queues.consume_from:
                consumer.call_soon(partial(_add_queue, consumer, name))

    # looking: what is due here, and what is late everywhere

    def _look(self) -> None:
        store, interval = self.context.store, self.context.settings.cleanup_interval
        meta = store.execute(op.Meta())
        due: set[str] = set()
        for partition in run(partitions(self.context.core), store):
            for depth in store.execute(op.Queues(partition)):
                if depth.oldest_due > 0 and depth.location in self._volumes:
                    due.add(self._volumes[depth.location])
        for volume in self._volumes.values():
            if volume not in due:
                self._paces.pop(volume, None)
                self._unbegun.pop(volume, None)
            elif self._pace(volume).may_look():
                self._reclaim(volume)
        now = self.context.trust.watch_server().now  # each second: a step of the server's clock must be noticed at once
        marks = {name: decimal(meta.get(name)) for name in ("last_sweep", "beat_seen")}
        self._marks_alarm.look(now, {name: mark for name, mark in marks.items() if mark > now})
        # what no pass and no beat can have written counts as not written: else neither would ever be missed
        last_sweep, beat_seen = (mark if 0 < mark <= now else 0 for mark in marks.values())
        if now - last_sweep > LATE * interval * 1000:
            self._work.ask("sweep", self._sweep)
        self._beat_alarm.look(now, beat_seen)
        if time.monotonic() >= self._next_books:
            self._next_books = time.monotonic() + interval
            self._books_alarm.look(now)

    def _nudged(self, volume: str) -> None:
        if self._pace(volume).may_follow_nudge():
            self._reclaim(volume)

    def _pace(self, volume: str) -> _Pace:
        return self._paces.setdefault(volume, _Pace(self._tick, self.context.settings.cleanup_interval))

    def _reclaim(self, volume: str) -> None:
        now = time.monotonic()
        if now - self._unbegun.setdefault(volume, now) > self._patience or now < self._no_broker_until:
            # it waits behind others, the broker hangs, or the message was lost
            self._unbegun.pop(volume)
            self._disks.ask(volume, f"reclaim {volume}", partial(self._reclaim_here, volume))
        else:
            key, send = f"message to {names.volume_queue(volume)}", partial(self._send, volume)
            self._disks.if_it_answers(volume, partial(self._messages.ask, key, send))

    def _send(self, volume: str) -> None:
        try:
            sent = fanout.send_reclaim(self._app.tasks[names.RECLAIM], self.context.store, volume)
        except StoreError:
            raise
        except Exception as error:
            log.warning("the broker doesn't take a message, reclaiming here: %s", error)
            self._no_broker_until = time.monotonic() + BROKER_PAUSE
            self._disks.ask(volume, f"reclaim {volume}", partial(self._reclaim_here, volume))
            return
        if sent:
            self._pace(volume).sent()
            self._unbegun.pop(volume, None)

    # passes that no message asked for

    def _upkeep(self) -> None:
        self.context.upkeep.tidy()
        forget_alarms(self.context)

    def _reclaim_here(self, volume: str) -> None:
        with passes.recorded(self.context, names.RECLAIM, None, volume) as about:
            result = self.context.reclaim.run_once(volume_ids=[volume], budget=BUDGET, stop=self.context.stopping)
            about.done(result.as_dict())
        log.info("reclaimed without a message on volume %s: %s", volume, about.result)

    def _sweep(self) -> None:
        interval = self.context.settings.cleanup_interval
        # one worker is enough; should it die, the lease is over before the next sweep is late
        if not self.context.store.execute(op.TakeLease("sweep", secrets.token_hex(8), round(interval * 500))):
            return
        with passes.recorded(self.context, names.SWEEP_IDLE, None) as about:
            result = self.context.sweep.run_once(budget=BUDGET, stop=self.context.stopping)
            about.done(result.as_dict())
        log.info("swept without a message: %s", about.result)

    def _late_orphans(self) -> None:
        """An orphan pass that beat didn't send, and the second look at what the last one sighted first."""
        if not self._volumes:
            return
        store, interval = self.context.store, self.context.settings.orphan_interval
        last = passes.last_runs(store)
        now = store.execute(op.Facts()).now
        for volume in self._volumes.values():
            latest = last.get(f"{names.SWEEP_ORPHANS}:{volume}")
            if latest is None or latest.at > now or now - latest.at > _next_orphans(latest, interval) * 1000:
                self._disks.ask(volume, f"orphans {volume}", partial(self._orphans_here, volume))

    def _orphans_here(self, volume: str) -> None:
        with passes.recorded(self.context, names.SWEEP_ORPHANS, None, volume) as about:
            result = self.context.orphans.run_once(volume_ids=[volume], budget=BUDGET, stop=self.context.stopping)
            about.done(result.as_dict())
        log.info("looked for orphans without a message on volume %s: %s", volume, about.result)


class _Pace:
    """How often one volume's queue is asked about: at once when something is new, ever more rarely while what is due
    can't be reclaimed (a held volume would else make a message every second)."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, max(first, longest)
        self._gap = first
        self._again = self._nudge_again = 0.0

    def may_look(self) -> bool:
        """Whether a look that finds something due may send."""
        return time.monotonic() >= self._again

    def may_follow_nudge(self) -> bool:
        """Whether a nudge may send: something new is due."""
        now = time.monotonic()
        if now < self._nudge_again:
            return False
        self._nudge_again = now + NUDGE_PAUSE
        return True

    def sent(self) -> None:
        """A message went out."""
        self._again = time.monotonic() + self._gap
        self._gap = min(self._gap * 2, self._longest)


def _next_orphans(last: passes.PassRecord, interval: float) -> float:
    """Seconds from a volume's last orphan pass to the next that is run here."""
    if last.result.get("more"):
        return BUDGET  # the message with the rest was lost, or there was none
    return min(max(0.0, last.result.get("confirm_in", 0)), interval * LATE) or interval * LATE


def _add_queue(consumer: Any, name: str) -> None:
    if name not in consumer.app.amqp.queues.consume_from:
        consumer.app.amqp.queues.add(names.declared(name))
        consumer.add_task_queue(name)
