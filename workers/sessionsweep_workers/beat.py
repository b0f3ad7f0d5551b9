"""A beat scheduler that is safe in any number: each entry's slot is leased in the store before it is sent.

A slot is the store's time divided by the entry's interval, so beats on hosts with different clocks agree on it. Nothing
is kept in a file: what was missed stands in the store, not in a schedule.
"""

from __future__ import annotations

import copy
import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule as Interval  # noqa: N812  Celery's name is a verb
from kombu.common import ignore_errors

from sessionsweep.errors import StoreError
from sessionsweep.store import operations as op
from sessionsweep_workers.context import Context, current
from sessionsweep_workers.notify import Notifier

log = logging.getLogger(__name__)

RETRY = 0.5  # seconds, while the store or the broker is away
SYNC = 2.0  # seconds for which the store's time is taken to run as ours does
MINUTE = 60_000  # ms: the slot of an entry that has no interval (crontab)
MARGIN = 10_000  # ms that a slot's lease lasts longer than any beat may claim that slot


class StoreClock:
    """The store's time in ms, asked for now and then."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._base, self._at = 0, float("-inf")

    def now(self) -> int:
        """The present, never ahead of the store. Raises StoreError where it was never, or long ago, told."""
        if time.monotonic() - self._at > SYNC:
            self._base, self._at = self._context.store.execute(op.Facts()).now, time.monotonic()
        return self._base + int((time.monotonic() - self._at) * 1000)


@dataclass(frozen=True)
class Slot:
    """A stretch of the store's time in which an entry is sent once: `begin` and `width` in ms."""

    begin: int
    width: int

    @classmethod
    def of_interval(cls, now: int, seconds: float) -> Slot:
        """The one that `now` lies in, of an entry that is due every `seconds`."""
        width = max(1, round(seconds * 1000))
        return cls(now // width * width, width)

    @classmethod
    def of_calendar(cls, now: int) -> Slot:
        """Half a minute to either side of a full one: there such entries are due, and there hosts' clocks disagree
        about which minute it is."""
        return cls((now + MINUTE // 2) // MINUTE * MINUTE - MINUTE // 2, MINUTE)

    @property
    def ends(self) -> int:
        """When the next one begins."""
        return self.begin + self.width

    @property
    def last_claim(self) -> int:
        """Until when it may be claimed: as long as any lease on it is sure to last. A beat that was paused for longer
        would find the lease of the one that sent it run out."""
        return self.begin + 2 * self.width


class _BrokerAwayError(Exception):
    """No message can be sent now."""


class LeasedScheduler(Scheduler):  # type: ignore[misc]
    """Of any number of beats one sends each slot; when it dies another sends the next.

    A store or broker that doesn't answer makes it wait, never exit. A slot is sent at most once: one that nobody could
    send, or whose message may be lost on its way, is skipped. The next one does its work.
    """

    max_interval = 5

    def __init__(self, *args: Any, **options: Any) -> None:
        self._handled: dict[str, int] = {}  # entry → when the last slot began that is done with
        self._clock: StoreClock | None = None
        self._told = float("-inf")
        self._away = False
        self._notifier: Notifier | None = None
        self._me = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        super().__init__(*args, **options)

    def tick(self, *_: Any, **__: Any) -> float:
        """Sends what is due; seconds until something is due again."""
        wait = self._round()
        if self._notifier is None:
            self._notifier = Notifier()
            self._notifier.ready()
        self._notifier.goes_on()
        return wait

    def _round(self) -> float:
        try:
            clock = self._clock = self._clock or StoreClock(current(self.app))
            now = clock.now()
            self._tell(now)
            waits = [self._look(entry, now) for entry in list(self.schedule.values())]
        except (StoreError, _BrokerAwayError) as error:
            if not self._away:
                log.warning("beat waits for the %s: %s", "store" if isinstance(error, StoreError) else "broker", error)
            self._away = True
            return RETRY
        if self._away:
            log.warning("beat goes on")
        self._away = False
        return float(min([self.max_interval, *waits]))

    def _look(self, entry: ScheduleEntry, now: int) -> float:
        """Sends an entry if it is due and this beat wins its slot; seconds until it is due again."""
        by_calendar = type(entry.schedule) is not Interval
        if by_calendar:
            slot = Slot.of_calendar(now)
            due, wait = self._calendar(entry)
        else:
            slot = Slot.of_interval(now, entry.schedule.run_every.total_seconds())
            due, wait = slot.begin > self._handled.get(entry.name, -1), (slot.ends - now) / 1000
        if not due:
            return wait
        self._reach_broker()
        if self._claim(entry, slot):
            self._send(entry, slot)
        self._handled[entry.name] = slot.begin
        if by_calendar:
            self.reserve(entry)
        return wait

    def _calendar(self, entry: ScheduleEntry) -> tuple[bool, float]:
        """Whether an entry is due by its own schedule and this host's clock, and seconds until it is due again."""
        try:
            due, wait = entry.is_due()
        except Exception:
            # one that can't be reckoned (dawn, in a polar night) must not end beat, and all other entries with it
            log.exception("beat can't reckon when %s is due", entry.name)
            return False, float(self.max_interval)
        return bool(due), float(wait)

    def _ensure_connected(self) -> Any:
        """Tries each of the broker's hosts once; one that tried for ever could not say that beat runs."""
        return self.connection.ensure_connection(max_retries=max(0, len(self.connection.alt) - 1))

    def _reach_broker(self) -> None:
        """Who claims a slot must be able to send it."""
        try:
            channel = self.producer.channel
            if hasattr(channel, "conn_or_acquire"):  # Redis', whose connections break unnoticed
                with channel.conn_or_acquire() as client:
                    client.ping()
        except Exception as error:
            self._disconnect()
            raise _BrokerAwayError(str(error)) from error

    def _claim(self, entry: ScheduleEntry, slot: Slot) -> bool:
        """Whether it falls to this beat to send a slot; asking again answers the same."""
        store = current(self.app).store
        lease, token = f"beat:{entry.name}:{slot.begin}", f"{self._me}:{slot.begin}"
        if not store.execute(op.TakeLease(lease, token, 2 * slot.width + MARGIN)):
            return False
        if store.execute(op.Facts()).now > slot.last_claim:
            log.warning("beat was too late to send %s; the next slot does its work", entry.name)
            return False
        return True

    def _send(self, entry: ScheduleEntry, slot: Slot) -> None:
        once = copy.copy(entry)
        once.options = {"retry": False, **entry.options}  # a message whose acknowledgement was lost would go twice
        try:
            self.apply_async(once, producer=self.producer, advance=False)
        except Exception as error:
            # it may have gone out: neither this beat nor another sends the slot again
            log.warning("beat may not have sent %s; the next slot does its work: %s", entry.name, error)
            self._disconnect()
            return
        log.info("sent %s (%s) for slot %s", entry.name, entry.task, slot.begin)

    def _disconnect(self) -> None:
        """Lets the next message open a connection of its own."""
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            ignore_errors(connection, connection.release)  # type: ignore[no-untyped-call]

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
