"""Trends: what was done in each minute, hour or day, as the difference of neighbouring snapshots of the books."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sessionsweep.deployment import Core
from sessionsweep.engine.trend import sums
from sessionsweep.model import books, snapshots
from sessionsweep.model.snapshots import COUNTERS, ENDED_BY, SESSIONS, Snapshot, Step
from sessionsweep.store import operations as op
from sessionsweep.store.protocol import Store
from sessionsweep.units import format_duration, moment


@dataclass(frozen=True, slots=True)
class Period:
    """What was done between two snapshots, and how it stood at its end.

    `complete` False: it still runs. `restarted`: a counter had gone back (part of the store was emptied or restored),
    so nothing is known of what was done, and all of it is told as 0.
    """

    since: int  # ms
    until: int  # ms
    done: Mapping[str, int]
    stands: Mapping[str, int]
    peaks: Mapping[str, int]
    complete: bool = True
    restarted: bool = False

    @property
    def seconds(self) -> float:
        """How long it was: more than a step where a snapshot was missed."""
        return (self.until - self.since) / 1000

    @property
    def ended_by(self) -> dict[str, int]:
        """Sessions ended, by reason."""
        return {reason.value: self.done[field] for reason, field in ENDED_BY.items() if self.done[field]}

    @property
    def mean_duration(self) -> float | None:
        """Of the sessions that ended, in seconds; None: none did."""
        ended = self.done[books.ENDED]
        return self.done[books.LIFETIME] / 1000 / ended if ended else None

    @property
    def reclaimed(self) -> int:
        """Resources whose bytes are gone: deleted, found gone, or destroyed as orphans."""
        return self.done[books.DELETED] + self.done[books.GONE] + self.done[snapshots.ORPHANS]

    @property
    def bytes_deleted(self) -> int:
        """With those of orphans."""
        return self.done[books.DELETED_BYTES] + self.done[snapshots.ORPHAN_BYTES]


@dataclass(frozen=True, slots=True)
class Trends:
    """Periods, the oldest first. `now`: the server's time in ms, at which the last one still runs."""

    step: Step
    now: int
    periods: tuple[Period, ...]

    @property
    def whole(self) -> Period | None:
        """All of them as one; None: nothing is known yet."""
        if not self.periods:
            return None
        first, last = self.periods[0], self.periods[-1]
        done = {field: sum(one.done[field] for one in self.periods) for field in COUNTERS}
        peaks = {gauge: max(one.peaks[gauge] for one in self.periods) for gauge in last.peaks}
        restarted = any(one.restarted for one in self.periods)
        return Period(first.since, last.until, done, last.stands, peaks, last.complete, restarted)


def trends(core: Core, store: Store, step: Step, seconds: float | None = None) -> Trends:
    """What is known of the last `seconds` (None: of as long as that step is kept). Writes nothing.

    The number of commands is the same at any number of sessions; the answer has `step.kept` periods at most.

    Raises:
        StoreError: the store doesn't answer.
    """
    finer = store.execute(op.Table(step.finer.table)) if step.finer else {}
    rows = store.execute(op.Table(step.table))
    totals = sums(core, store)  # after the snapshots: a counter read before one would seem to have gone back
    now = store.execute(op.Facts()).now
    known = snapshots.read(rows, step, now)
    standing = Snapshot.of(now, totals)
    if step.finer and known:
        standing = standing.after(one for one in snapshots.read(finer, step.finer, now) if one.at > known[-1].at)
    found = [between(one, next_) for one, next_ in pairwise(known)]
    if known and (standing.at, standing.sums) != (known[-1].at, known[-1].sums):
        found.append(replace(between(known[-1], standing), complete=False))
    oldest = now - (step.ms * step.kept if seconds is None else round(seconds * 1000))
    return Trends(step, now, tuple(period for period in found if period.until > oldest))


def between(first: Snapshot, last: Snapshot) -> Period:
    """The difference of two snapshots. Never negative: where a counter went back, nothing is known."""
    restarted = any(last.sums[field] < first.sums[field] for field in COUNTERS)
    done = {field: 0 if restarted else last.sums[field] - first.sums[field] for field in COUNTERS}
    stands = {gauge: max(0, last.sums[gauge]) for gauge in snapshots.GAUGES}
    # what a finer step saw within it; of the first one only how it stood: its peaks are those of the period before
    peaks = {gauge: max(last.peak(gauge), 0, first.sums[gauge]) for gauge in snapshots.GAUGES}
    return Period(first.at, last.at, done, stands, peaks, restarted=restarted)


def step_for(seconds: float | None, word: str | None = None) -> Step:
    """The step to tell the last `seconds` in: the one that was asked for, or what gives a readable number of rows.

    Raises:
        ValueError: there is no such step, or it isn't kept for so long; says which one is.
    """
    if seconds == 0:
        raise ValueError("a time of 0 has no steps; take 1h, 24h, 14d or so")
    if word is not None:
        try:
            step = Step(word)
        except ValueError:
            raise ValueError(f"there is no step {word!r}; take minute, hour or day") from None
        if seconds is not None and seconds * 1000 > step.ms * step.kept:
            kept = format_duration(step.ms * step.kept / 1000)
            coarser = [one for one in Step if one.ms * one.kept >= seconds * 1000]
            way = f"take {' or '.join(coarser)}, or ask for less" if coarser else "ask for less"
            raise ValueError(f"{step}s are kept for {kept}: {way}")
        return step
    if seconds is None:
        return Step.HOUR
    if seconds <= 3600:
        return Step.MINUTE
    if seconds <= 3 * 86_400:
        return Step.HOUR
    if seconds * 1000 > Step.DAY.ms * Step.DAY.kept:
        raise ValueError(f"days are kept for {format_duration(Step.DAY.ms * Step.DAY.kept / 1000)}: ask for less")
    return Step.DAY


def of_trends(found: Trends) -> dict[str, Any]:
    """As fields of JSON."""
    return {
        "by": found.step,
        "now": moment(found.now),
        "periods": [of_period(period) for period in found.periods],
        "total": None if found.whole is None else of_period(found.whole),
    }


def of_period(period: Period) -> dict[str, Any]:
    """One of them. Sizes in bytes; gauges as they stood at its end, and their peaks in it."""
    done, stands, peaks = period.done, period.stands, period.peaks
    return {
        "since": moment(period.since),
        "until": moment(period.until),
        "complete": period.complete,
        "restarted": period.restarted,
        "sessions_created": done[books.CREATED],
        "sessions_ended": done[books.ENDED],
        "ended_by_reason": period.ended_by,
        "mean_duration_seconds": period.mean_duration,
        "resources_registered": done[books.REGISTERED],
        "resources_reclaimed": period.reclaimed,
        "resources_evicted": done[books.EVICTED],
        "resources_promoted": done[books.PROMOTED],
        "resources_forgotten": done[books.FORGOTTEN],
        "orphans_destroyed": done[snapshots.ORPHANS],
        "bytes_deleted": period.bytes_deleted,
        **{f"{name}{end}": of[gauge] for end, of in (("", stands), ("_peak", peaks)) for name, gauge in _GAUGES},
    }


_GAUGES = (
    ("active_sessions", SESSIONS),
    ("active_resources", books.ACTIVE),
    ("active_bytes", books.ACTIVE_BYTES),
    ("owed_resources", books.OWED),
    ("owed_bytes", books.OWED_BYTES),
    ("dead_letters", books.DEAD),
)
