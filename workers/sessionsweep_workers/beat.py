"""A beat scheduler that is safe in any number: each entry's slot is leased in the store before it is sent.

A slot is the store's time divided by the entry's interval, so beats on hosts with different clocks agree on it. Nothing
is kept in a file: what was missed stands in the store, not in a schedule.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule as Interval  # noqa: N812  Celery's name is a verb

from sessionsweep.errors import StoreError
from sessionsweep.store import operations as op
from sessionsweep_workers.context import Context, current

log = logging.getLogger(__name__)

RETRY = 0.5  # seconds, while the store or the broker is away
SYNC = 2.0  # seconds for which the store's time is taken to run as ours does
MINUTE = 60_000  # ms: the slot of an entry that has no interval (crontab)


class StoreClock:
    """The store's time in ms, asked for now and then."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._base, self._at = 0, float("-inf")

    def now(self) -> int:
        """The present. Raises StoreError where it was never, or long ago, told."""
        if time.monotonic() - self._at > SYNC:
            self._base, self._at = self._context.store.execute(op.Facts()).now, time.monotonic()
        return self._base + round((time.monotonic() - self._at) * 1000)


class LeasedScheduler(Scheduler):  # type: ignore[misc]
    """Of any number of beats one sends each slot; when it dies another sends the next.

    A store or broker that doesn't answer makes it wait, never exit. An entry's slot that nobody could send is sent late
    or skipped: the next one does its work.
    """

    max_interval = 5

    def __init__(self, *args: Any, **options: Any) -> None:
        self._handled: dict[str, int] = {}  # entry → the last slot that was sent by somebody
        self._clock: StoreClock | None = None
        self._told = float("-inf")
        self._away = False
        self._me = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        super().__init__(*args, **options)

    def tick(self, *_: Any, **__: Any) -> float:
        """Sends what is due; seconds until something is due again."""
        try:
            clock = self._clock = self._clock or StoreClock(current(self.app))
            now = clock.now()
            self._tell(now)
            waits = [self._look(entry, now) for entry in list(self.schedule.values())]
        except StoreError as error:
            if not self._away:
                log.warning("beat waits for the store: %s", error)
            self._away = True
            return RETRY
        if self._away:
            log.warning("beat goes on")
        self._away = False
        return float(min([self.max_interval, *waits]))

    def _look(self, entry: ScheduleEntry, now: int) -> float:
        """Sends an entry if it is due and this beat wins its slot; seconds until it is due again."""
        if type(entry.schedule) is Interval:
            width = max(1, round(entry.schedule.run_every.total_seconds() * 1000))
            slot = now // width
            due, wait = slot > self._handled.get(entry.name, -1), ((slot + 1) * width - now) / 1000
        else:
            width, slot = MINUTE, now // MINUTE
            due, wait = entry.is_due()
        if not due:
            return float(wait)
        if not self._send(entry, slot, width):
            return RETRY
        self._handled[entry.name] = slot
        if width == MINUTE:
            self.reserve(entry)
        return float(wait)

    def _send(self, entry: ScheduleEntry, slot: int, width: int) -> bool:
        """Whether the slot is done with, by this beat or by another."""
        try:
            # the connection first: who holds a slot's lease must be able to send
            producer = self.producer
        except Exception as error:
            return self._failed(entry, error)
        store = current(self.app).store
        lease, token = f"beat:{entry.name}:{slot}", f"{self._me}:{slot}"
        # longer than two beats can be apart about which slot it is
        if not store.execute(op.TakeLease(lease, token, 2 * width + 10_000)):
            return True
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:
            store.execute(op.DropLease(lease, token))
            return self._failed(entry, error)
        log.info("sent %s (%s)", entry.name, entry.task)
        return True

    def _failed(self, entry: ScheduleEntry, error: Exception) -> bool:
        log.warning("beat couldn't send %s, tries again: %s", entry.name, error.__cause__ or error)
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            connection.release()
        return False

    def _tell(self, now: int) -> None:
        """Says that beat runs: workers raise an alarm when none does."""
        interval = current(self.app).settings.cleanup_interval
        if time.monotonic() - self._told >= min(interval / 3, self.max_interval):
            current(self.app).store.execute(op.SetMeta({"beat_seen": str(now)}, raise_only=True))
            self._told = time.monotonic()

    @property
    def info(self) -> str:
        """A line of beat's banner."""
        return "    . db -> none: slots are leased in the store"
