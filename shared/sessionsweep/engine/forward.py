"""The forwarder: reads each partition's stream of events on, and tells every event to the log and to hooks."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from sessionsweep.deployment import Core, ms, partitions
from sessionsweep.engine.results import Result
from sessionsweep.errors import StoreError
from sessionsweep.model.events import DEPLOYMENT, LOST, NOW, Event, EventName, place_after
from sessionsweep.observe import log as event_log
from sessionsweep.observe.hooks import Hooks
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store

log = logging.getLogger(__name__)

TABLE = "forward"  # partition → the cursor behind what was told
LEASE = 10.0  # seconds for which one process alone forwards; a killed one's successor waits this long
SAVE = LEASE / 4  # seconds after which slow hooks make it renew the lease and save where it is
BATCH = 100  # events read at once, and so the most that is told again after a kill


@dataclass
class ForwardResult(Result):
    """`lost`: gaps, each of any number of events that were dropped before anybody read them; `failed`: calls of hooks
    that raised."""

    events: int = 0
    lost: int = 0
    failed: int = 0
    elsewhere: bool = False  # another process forwards
    more: bool = False
    seconds: float = 0.0


class Forward:
    """One process's forwarder. Of a deployment's processes one at a time forwards: in order within each partition, and
    each event at least once; who is killed has told at most a batch that its successor tells again."""

    def __init__(self, core: Core, store: Store, hooks: Hooks) -> None:
        self._core = core
        self._store = store
        self._hooks = hooks
        self._seed = secrets.token_hex(8)
        self._renew_at = 0.0
        self._holds = False

    @property
    def _token(self) -> str:
        return f"{self._seed}-{os.getpid()}"  # a server may fork its processes after this was made

    @property
    def wanted(self) -> bool:
        """Whether anybody listens here: a hook, or the logger. What nobody hears stays in the stream meanwhile."""
        return bool(self._hooks) or event_log.listens()

    def run_once(self, now: int = 0, *, budget: float = 5.0, stop: threading.Event | None = None) -> ForwardResult:
        """Tells what is new, until there is no more or `budget` seconds are over.

        Args:
            now: as other passes have it; what is new doesn't depend on the time.

        Raises:
            StoreError: it doesn't answer; what was told since the last save is told again.
        """
        result, begun = ForwardResult(), time.monotonic()
        if not self.wanted:
            return result
        if not self._renew():
            result.elsewhere = True
            return result
        saved = self._store.execute(op.Table(TABLE))
        behind = [*run(partitions(self._core), self._store), DEPLOYMENT]
        cursors = {partition: _cursor(partition, saved.get(partition, "")) for partition in behind}
        while behind:
            pages = self._store.execute_many([op.Events(p, cursors[p], BATCH) for p in behind])
            following = []
            for partition, page in zip(behind, pages, strict=True):
                if isinstance(page, StoreError):
                    raise page
                if not self._tell_page(partition, cursors[partition], page, result, stop):
                    result.more = True
                    result.seconds = time.monotonic() - begun
                    return result
                if page.last != cursors[partition]:  # rows that nobody understands are passed, too
                    cursors[partition] = page.last
                    following.append(partition)
            behind = following
            if behind and time.monotonic() - begun >= budget:
                result.more = True
                break
        result.seconds = time.monotonic() - begun
        return result

    def close(self) -> None:
        """Lets another process forward at once. Idempotent."""
        if self._holds:
            self._holds = False
            with suppress(StoreError):
                self._store.execute(op.DropLease(TABLE, self._token))

    def _tell_page(
        self, partition: str, after: str, page: op.EventPage, result: ForwardResult, stop: threading.Event | None
    ) -> bool:
        """False: it was stopped, or another process forwards now."""
        if page.lost:
            self._tell(events_lost(after, page), result)
            result.lost += 1
        for event in page.events:
            self._tell(event, result)
            result.events += 1
            stopped = stop is not None and stop.is_set()
            if stopped or time.monotonic() >= self._renew_at:
                if not self._renew():
                    result.elsewhere = True
                    return False  # whoever forwards now saves where it is
                self._save(partition, event.id)
            if stopped:
                return False
        if page.last != after:
            self._save(partition, page.last)
        return True

    def _tell(self, event: Event, result: ForwardResult) -> None:
        event_log.tell(event)
        result.failed += self._hooks.tell(event)

    def _save(self, partition: str, cursor: str) -> None:
        self._store.execute(op.TablePut(TABLE, partition, cursor))

    def _renew(self) -> bool:
        self._renew_at = time.monotonic() + SAVE
        self._holds = self._store.execute(op.TakeLease(TABLE, self._token, ms(LEASE)))
        return self._holds


def events_lost(after: str, page: op.EventPage) -> Event:
    """What stands for the events that are missing before those of a page: streams keep the newest only.

    Its id is made of the place that was read to, which stays the same while more is dropped: told again, it is known.
    """
    at = page.events[0].at if page.events else 0
    return Event(f"{after}{LOST}", at or _ms(page.last), EventName.EVENTS_LOST)


def _ms(cursor: str) -> int:
    return int(cursor.partition(":")[2].partition("-")[0])


def _cursor(partition: str, text: str) -> str:
    """Where to go on; from the oldest event that is kept where that is no cursor."""
    try:
        place_after(partition, text)
    except ValueError:
        return ""
    return "" if text == NOW else text
