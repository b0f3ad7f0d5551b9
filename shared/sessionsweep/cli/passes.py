"""Passes in this process, for the command line: the engine's own, repeated until done where somebody waits."""

from __future__ import annotations

import threading
import time
from dataclasses import fields
from typing import TypeVar

import typer
from rich.progress import Progress

from sessionsweep.cli.output import complain, count, note
from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.results import OrphanResult, ReclaimResult, SweepResult
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.operator.endings import BulkEnd
from sessionsweep.operator.reached import Deployment
from sessionsweep.store import operations as op

SLICE = 5.0  # seconds of a pass between two looks of the progress bar
LATEST = ("idle_held_until", "next_due")
R = TypeVar("R", SweepResult, ReclaimResult, OrphanResult)


def sweep(here: Deployment, wait: bool, progress: Progress, timeout: float) -> tuple[SweepResult, ReclaimResult]:
    """Ends what is due, then reclaims what is due on this node's volumes. Not waiting: one slice of each."""
    _mount(here)
    trust, until, task = Trust(here.core, here.store), time.monotonic() + timeout, progress.task_ids[0]
    swept, sweeper = SweepResult(), Sweep(here.core, here.store, trust)
    while True:
        swept = _sum(swept, sweeper.run_once(budget=SLICE))
        progress.update(task, description=f"{swept.idle + swept.expired:,} sessions ended")
        if not (wait and swept.more) or time.monotonic() > until:
            break
    reclaimed, reclaimer = ReclaimResult(), Reclaim(here.core, here.store, trust)
    while True:
        reclaimed = _sum(reclaimed, reclaimer.run_once(budget=SLICE))
        progress.update(task, description=f"{reclaimed.deleted:,} files deleted")
        if not (wait and reclaimed.more) or time.monotonic() > until:
            return swept, reclaimed


def orphans(here: Deployment, wait: bool, progress: Progress, timeout: float) -> OrphanResult:
    """Looks for orphans on this node's volumes; waiting, to the end, and again after a grace to confirm."""
    _mount(here)
    found, task, until = OrphanResult(), progress.task_ids[0], time.monotonic() + timeout
    looker = Orphans(here.core, here.store, Trust(here.core, here.store))
    confirmed = False
    while True:
        found = _sum(found, looker.run_once(budget=SLICE))
        progress.update(task, description=f"{found.files:,} files, {found.destroyed:,} orphans destroyed")
        if not wait or time.monotonic() > until:
            return found
        if found.more:
            continue
        if not found.confirm_in or confirmed or found.held:
            return found
        confirmed = True
        progress.update(task, description="waiting to see them again")
        threading.Event().wait(found.confirm_in + 0.05)


def volumes_elsewhere(here: Deployment) -> list[str]:
    """Ids of volumes that the store knows and this node doesn't mount under its own name."""
    rows = here.store.execute(op.Table("mounts"))
    mine = {known for row, known in rows.items() if row.partition("/")[0] == here.settings.node}
    return sorted(set(here.store.execute(op.Table("vols"))) - mine)


def _mount(here: Deployment) -> None:
    for problem in here.run(here.core.mounts.mount()):
        note(str(problem))


def _sum(before: R, latest: R) -> R:
    """Counts and seconds added up; flags, times and lists as the latest says."""
    for field in fields(latest):
        value = getattr(latest, field.name)
        if (type(value) is int and field.name not in LATEST) or field.name == "seconds":
            setattr(latest, field.name, getattr(before, field.name) + value)
    return latest


def fail_unreadable(done: BulkEnd) -> None:
    """Exit status 1 where records can't be read: whoever ended all after a break-in must not take that for done."""
    if not done.unreadable:
        return
    more = done.unreadable - len(done.unreadable_ids)
    complain(
        f"{count(done.unreadable, 'record')} can't be read, so what they stand for wasn't ended: "
        f"{', '.join(done.unreadable_ids)}{f' and {more:,} more' if more else ''}. "
        "`sessionsweep sessions show ID` says why: those of a newer release are ended by that release; a damaged one "
        "is taken out of the store by hand "
        "(docs/operations.md: a record can't be read). Then run this again."
    )
    raise typer.Exit(1)
