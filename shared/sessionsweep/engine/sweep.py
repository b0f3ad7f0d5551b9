"""The sweep: ends what is due, makes overdue intents owed, gives places back. O(due), in small paced steps."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from sessionsweep.deployment import Core, partitions
from sessionsweep.engine.pace import Pace
from sessionsweep.engine.results import SweepResult
from sessionsweep.engine.trust import Trust
from sessionsweep.errors import OutcomeUnknownError, RecordUnreadableError, StoreError, StoreUnavailableError
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.outbox import drain
from sessionsweep.store.protocol import Store

log = logging.getLogger(__name__)

BATCH = 25  # sessions a step: p99 of a concurrent request stays within 3 × at this size (docs/performance.md)
INTENTS = 100


class Sweep:
    """One pass over every partition's wheel. Any number may run at once: each step re-checks what it ends."""

    def __init__(self, core: Core, store: Store, trust: Trust | None = None) -> None:
        self._core = core
        self._store = store
        self._trust = trust or Trust(core, store)

    def run_once(
        self,
        now: int = 0,
        *,
        budget: float = 20.0,
        effort: float = 0.5,
        stop: threading.Event | None = None,
        renew: bool = True,
    ) -> SweepResult:
        """Ends everything due by `now` (ms of the store's clock; 0, or a time to come: its present).

        Args:
            budget: seconds after which the pass stops with `more`.
            effort: share of the time that is worked (see Pace).
            renew: whether this counts as the last sweep, by which workers tell that one is overdue. Not a dry run.
        """
        result, pace = SweepResult(), Pace(budget, effort, stop, "sweep", self._core.meter)
        observe = self._core.settings.mode == "observe"
        facts = self._trust.watch_server()
        failed: StoreError | None = None
        # lowering PARTITIONS governs new sessions only: every partition ever used is swept
        self._store.execute(op.SetMeta({"partitions": str(self._core.settings.partitions)}, raise_only=True))
        for partition in run(partitions(self._core), self._store):
            parts: list[Callable[[], None]] = [
                partial(self._wheel, partition, now or facts.now, observe, result, pace),
                partial(self._outbox, partition, result, pace),
            ]
            if not observe:
                parts.append(partial(self._intents, partition, now, result, pace))
            for part in parts:
                try:
                    part()
                except (StoreUnavailableError, RecordUnreadableError) as error:
                    # one damaged record must not keep the other parts and partitions from their turn
                    log.warning("a part of the sweep failed in partition %s: %s", partition, error)
                    failed = failed or error
            if result.more:
                break
        if result.idle_held_until:
            self._trust.show_idle_hold(result.idle_held_until)
        if renew:
            self._store.execute(op.SetMeta({"last_sweep": str(facts.now)}, raise_only=True))
        result.seconds = pace.end()
        if failed is not None:
            raise failed
        return result

    def _wheel(self, partition: str, bound: int, observe: bool, result: SweepResult, pace: Pace) -> None:
        core = self._core
        step = op.SweepStep(partition, core.width, core.grace, core.hold, BATCH, bound, observe)
        while True:
            try:
                swept = self._store.execute(step)
            except OutcomeUnknownError:
                # done or not, the wheel says what remains
                log.warning("a sweep step's answer was lost: partition %s", partition)
                swept = op.Swept(0, 0, 0, 0, True, 0)
            result.idle += swept.idle
            result.expired += swept.expired
            result.refiled += swept.refiled
            result.stale += swept.stale
            result.owed += swept.owed
            result.idle_held_until = max(result.idle_held_until, swept.held_until)
            for told in swept.would:
                session_id, reason = told.split()
                log.info("would end session %s: %s", session_id, reason)
            result.would_end += len(swept.would)
            if swept.newer:
                log.warning("sessions in partition %s wait for a newer release's sweep: upgrade this one", partition)
            if not swept.more:
                return
            if not pace.next():
                result.more = True
                return

    def _outbox(self, partition: str, result: SweepResult, pace: Pace) -> None:
        while released := run(drain(partition), self._store):
            result.released += released
            if not pace.next():
                return

    def _intents(self, partition: str, bound: int, result: SweepResult, pace: Pace) -> None:
        while True:
            found = self._store.execute(op.OverdueIntents(partition, INTENTS, bound, self._core.hold))
            result.intents += found
            if found < INTENTS:
                return
            if not pace.next():
                result.more = True
                return
