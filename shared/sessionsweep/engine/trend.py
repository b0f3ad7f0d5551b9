"""Trends: writes down what the books say once a minute, hour and day; whoever comes first, does it for all.

A trend is the difference of two snapshots, so nothing is counted twice, no request pays for it, and one that was missed
only joins two periods.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from sessionsweep.deployment import Core, partitions
from sessionsweep.errors import StoreError
from sessionsweep.model import snapshots
from sessionsweep.model.snapshots import Snapshot, Step
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store

R = TypeVar("R")


class Trend:
    """Writes the snapshots, and lets go of those whose time is over."""

    def __init__(self, core: Core, store: Store) -> None:
        self._core = core
        self._store = store
        self._done: dict[Step, int] = {}  # the step whose snapshot this process saw there

    def run_once(self, now: int) -> int:
        """Writes the snapshots that are missing for `now` (the server's time, ms): how many.

        The lease spares the others the work; that a row is written only where there is none keeps it the first one's.
        """
        lease = f"trend:{Step.MINUTE.number(now)}"
        if not self._store.execute(op.TakeLease(lease, secrets.token_hex(8), Step.MINUTE.ms)):
            return 0
        totals = sums(self._core, self._store)
        return sum(self._write(step, Snapshot.of(now, totals)) for step in Step)

    def _write(self, step: Step, snapshot: Snapshot) -> bool:
        number = step.number(snapshot.at)
        if self._done.get(step) != number and step.finer is not None:
            rows = self._prune(step.finer, snapshot.at)
            before = snapshots.read(rows, step.finer, snapshot.at)
            snapshot = snapshot.after(one for one in before if one.at >= snapshot.at - step.ms)
            if step is Step.DAY:
                self._prune(step, snapshot.at)
        # also where it should be there: the store may have been emptied since
        new = self._store.execute(op.TablePut(step.table, str(number), snapshot.encode(), only_new=True))
        self._done[step] = number
        return new

    def _prune(self, step: Step, now: int) -> Mapping[str, str]:
        """Drops what a table no longer has to keep, and answers what it holds."""
        rows = self._store.execute(op.Table(step.table))
        over = [op.TableDrop(step.table, row) for row in rows if not step.is_kept(row, now)]
        list(_sure(self._store.execute_many(over)))
        return rows


def sums(core: Core, store: Store) -> Mapping[str, int]:
    """The counters of all partitions, added up.

    Raises:
        StoreError: one of them doesn't answer: the sum of the others would look like a loss.
    """
    total: Counter[str] = Counter()
    for counted in _sure(store.execute_many([op.Counters(one) for one in run(partitions(core), store)])):
        total.update(counted)
    return total


def _sure(answers: Iterable[R | StoreError]) -> Iterator[R]:
    for answer in answers:
        if isinstance(answer, StoreError):
            raise answer
        yield answer
