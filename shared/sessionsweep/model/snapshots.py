"""Snapshots: a deployment's summed books at one moment, of which one is kept for each minute, hour and day."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sessionsweep.model import books
from sessionsweep.model.rows import whole
from sessionsweep.model.states import EndReason

ENDED_BY = {reason: f"{books.ENDED}:{reason}" for reason in EndReason}
ORPHANS, ORPHAN_BYTES = "orphans", "b_orphans"  # counted by the orphan pass
#: What only ever grows. Rows hold the numbers alone, in this order: a new one comes last.
COUNTERS = (
    books.CREATED, books.ENDED, books.LIFETIME, books.REGISTERED, books.DELETED, books.GONE, books.PROMOTED,
    books.FORGOTTEN, books.EVICTED, books.DELETED_BYTES, ORPHANS, ORPHAN_BYTES, *ENDED_BY.values(),
)  # fmt: skip
#: What stands at a moment, likewise. Sessions are the difference of two counters.
SESSIONS = "sessions"
GAUGES = (SESSIONS, books.ACTIVE, books.ACTIVE_BYTES, books.OWED, books.OWED_BYTES, books.DEAD)


class Step(StrEnum):
    """How far apart snapshots lie."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def ms(self) -> int:
        """That, in ms."""
        return _STEPS[self][0]

    @property
    def kept(self) -> int:
        """For how many steps there is one."""
        return _STEPS[self][1]

    @property
    def table(self) -> str:
        """The table of the deployment that holds them: number of the step since 1970 → snapshot."""
        return f"trend:{self}"

    @property
    def finer(self) -> Step | None:
        """The next smaller step."""
        return {Step.HOUR: Step.MINUTE, Step.DAY: Step.HOUR}.get(self)

    def number(self, at: int) -> int:
        """Which one of them `at` (ms since 1970) lies in."""
        return at // self.ms

    def is_kept(self, row: str, now: int) -> bool:
        """Whether a row of that name still belongs to the table."""
        if not (row.isascii() and row.isdecimal() and len(row) < 12):
            return False
        # ahead of the clock: the clock was set back. One step is how late a writer's `now` may be
        return self.number(now) - self.kept <= int(row) <= self.number(now) + 1


_STEPS = {Step.MINUTE: (60_000, 3 * 60), Step.HOUR: (3_600_000, 14 * 24), Step.DAY: (86_400_000, 400)}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The sums over all partitions at a moment (`at`: ms of the server's clock), by the books' names.

    `peaks`: the highest gauges of the step before it, as finer snapshots saw them.
    """

    at: int
    sums: Mapping[str, int]
    peaks: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, at: int, totals: Mapping[str, int]) -> Snapshot:
        """Takes of the books what trends are made of."""
        sums = {name: totals.get(name, 0) for name in (*COUNTERS, *GAUGES) if name != SESSIONS}
        sums[SESSIONS] = sums[books.CREATED] - sums[books.ENDED]
        return cls(at, sums)

    def peak(self, gauge: str) -> int:
        """The highest that is known of a gauge, from the step before until this moment."""
        return max(0, self.sums.get(gauge, 0), self.peaks.get(gauge, 0))

    def after(self, finer: Iterable[Snapshot]) -> Snapshot:
        """The same, with the peaks that `finer` ones saw."""
        seen = list(finer)
        peaks = {gauge: max((one.peak(gauge) for one in seen), default=0) for gauge in GAUGES}
        return Snapshot(self.at, self.sums, peaks)

    def encode(self) -> str:
        """As a row: numbers without their names, because a thousand of them are kept."""
        row = [self.at, _listed(self.sums, COUNTERS), _listed(self.sums, GAUGES), _listed(self.peaks, GAUGES)]
        return json.dumps(row, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Snapshot | None:
        """Reads a row back, also one with fewer or more numbers than ours; None where it is none."""
        match _json(text):
            case [int(at), list(counters), list(gauges), list(peaks), *_] if whole(at) >= 0:
                sums = _named(counters, COUNTERS) | _named(gauges, GAUGES)
                return cls(at, sums, _named(peaks, GAUGES))
        return None


def read(rows: Mapping[str, str], step: Step, now: int) -> list[Snapshot]:
    """A table's snapshots, the oldest first: those that can be read, lie where they say, and not ahead of the clock."""
    found = [
        snapshot
        for row, text in rows.items()
        if step.is_kept(row, now)
        and (snapshot := Snapshot.decode(text)) is not None
        and step.number(snapshot.at) == int(row)
        and snapshot.at <= now
    ]
    return sorted(found, key=lambda snapshot: snapshot.at)


def _json(text: str) -> object:
    """Whatever stands there; None where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _listed(numbers: Mapping[str, int], names: Sequence[str]) -> list[int]:
    """Without the zeros at the end: of most reasons there are none."""
    found = [numbers.get(name, 0) for name in names]
    while found and not found[-1]:
        found.pop()
    return found


def _named(numbers: Sequence[object], names: Sequence[str]) -> dict[str, int]:
    return {name: max(0, whole(numbers[at])) if at < len(numbers) else 0 for at, name in enumerate(names)}
