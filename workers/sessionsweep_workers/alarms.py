"""What workers raise an alarm about: an error in the log and a row in the store, both within two cleanup intervals.

Table `alarms`, row → a hold's JSON. They stop nothing: workers sweep by themselves, only later.

    beat     no beat runs
    disk:…   a node's disk doesn't answer (see disks.py)
    books    in a partition more, or fewer, resources were registered than are accounted for
    marks    `meta` says that a pass or a beat was at work at a time to come
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sessionsweep.deployment import partitions
from sessionsweep.errors import StoreError
from sessionsweep.model.books import differences, told
from sessionsweep.model.holds import Hold
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep_workers.context import Context

log = logging.getLogger(__name__)

TABLE = "alarms"
BEAT = "beat"
BOOKS = "books"
MARKS = "marks"
LATE = 1.5  # intervals


class BeatAlarm:
    """One worker's view of it. Raised by whichever worker notices first, cleared by any that sees beat again."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._since = 0  # ms: when this worker first looked
        self._raised: bool | None = None  # None: another worker's alarm may stand

    def look(self, now: int, beat_seen: int) -> None:
        """Raises or clears it, by the store's time and when beat was last seen (ms; 0: never)."""
        self._since = self._since or now
        interval = self._context.settings.cleanup_interval
        silent = now - max(beat_seen, self._since) > LATE * interval * 1000
        if silent and not self._raised:
            self._raise(now, beat_seen)
        elif self._raised is not False and now - beat_seen <= LATE * interval * 1000:
            if self._context.store.execute(op.TableDrop(TABLE, BEAT)):
                log.warning("beat is back")
            self._raised = False

    def _raise(self, now: int, beat_seen: int) -> None:
        seen = f"No beat was seen for {(now - beat_seen) / 1000:.1f} s" if beat_seen else "No beat was ever seen"
        text = f"{seen}: workers sweep by themselves, but later. Start one: celery beat"
        alarm = Hold(BEAT, "beat-missing", text, now, self._context.settings.node)
        new = self._context.store.execute(op.TablePut(TABLE, BEAT, alarm.encode(), only_new=True))
        self._raised = True
        log.log(logging.ERROR if new else logging.WARNING, text)


class MarksAlarm:
    """One worker's view of marks that lie ahead of the store's clock, by which a missing pass would not be missed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._raised: bool | None = None  # None: another worker's alarm may stand

    def look(self, now: int, ahead: Mapping[str, int]) -> None:
        """Raises or clears it: the marks (ms) that are ahead of now."""
        if ahead and not self._raised:
            shown = ", ".join(f"{name} {(mark - now) / 1000:.1f} s" for name, mark in sorted(ahead.items()))
            text = (
                f"Marks of the deployment lie ahead of the store's clock ({shown}), and count as absent: the clock was "
                "set back, or something else wrote them. They are put right when the next pass or beat marks its time"
            )
            alarm = Hold(MARKS, "marks-ahead", text, now, self._context.settings.node)
            new = self._context.store.execute(op.TablePut(TABLE, MARKS, alarm.encode(), only_new=True))
            self._raised = True
            log.log(logging.ERROR if new else logging.WARNING, text)
        elif not ahead and self._raised is not False:
            if self._context.store.execute(op.TableDrop(TABLE, MARKS)):
                log.warning("the deployment's marks are of its past again")
            self._raised = False


class BooksAlarm:
    """One worker's view of the books, partition by partition: the promise that they balance is checked where nobody
    looks at a dashboard."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seen: dict[str, int] = {}  # at the last look
        self._raised: dict[str, int] | None = None  # None: another worker's alarm may stand

    def look(self, now: int) -> None:
        """Raises or clears it. Each partition is read in one atomic step, in which its scripts write, too; all the same
        one look is none: only what a partition's books are off by twice in a row is told."""
        store = self._context.store
        known = run(partitions(self._context.core), store)
        answers: list[Any] = store.execute_many([op.Counters(partition) for partition in known])
        for answer in answers:
            if isinstance(answer, StoreError):
                raise answer
        off = differences(dict(zip(known, answers, strict=True)))
        again = {name: amount for name, amount in off.items() if self._seen.get(name) == amount}
        self._seen = off
        if again and again != self._raised:
            self._raise(now, again)
        elif not off and self._raised != {}:
            if store.execute(op.TableDrop(TABLE, BOOKS)):
                log.warning("the books balance again")
            self._raised = {}

    def _raise(self, now: int, off: dict[str, int]) -> None:
        text = (
            f"The books don't balance: {told(off)} (resources registered, less those accounted for). Nothing is "
            "deleted by the books; see docs/operations.md: the books differ"
        )
        alarm = Hold(BOOKS, "books-differ", text, now, self._context.settings.node).encode()
        new = self._context.store.execute(op.TablePut(TABLE, BOOKS, alarm, only_new=True))
        if not new:  # another worker's words, or of another amount
            self._context.store.execute(op.TablePut(TABLE, BOOKS, alarm))
        log.log(logging.ERROR if new or self._raised else logging.WARNING, text)
        self._raised = off
