"""The load test: the highest rate two nodes hold, its latencies, the same under kills, and beside Flask-Session."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load import outside
from benchmarks.load.deployed import FlaskSession, Side, Up, both
from benchmarks.load.faults import Fault, Faults, Kinds, Missed
from benchmarks.load.openloop import Generator, Measured, percentiles
from benchmarks.load.probes import Sampler, cpu_seconds
from benchmarks.load.soak import RECOVERIES, RECOVERY, SETTINGS
from benchmarks.load.tables import Verdict, verdict
from benchmarks.load.visitors import Record, Visitor

HELD_P99 = 500.0  # ms: what "held" means, beside no failure and no backlog
HELD_BACKLOG = 0.5  # seconds' worth of requests that may be under way at each minute and at the end
ENOUGH = 60.0  # seconds: shorter stretches may see no kill
FIRST, FACTOR, TOP = 40.0, 1.25, 5000.0  # requests a second
BELOW = 0.88  # a rate that isn't held for long is tried again so much lower …
TRIES = 5  # … so many times
KILLS: Kinds = (
    ("kill", ("worker-a", "worker-b")),
    ("kill", ("web-a", "web-b")),
    ("kill", ("redis",)),
)
CAUSES = ("web-a", "web-b", "worker-a", "worker-b", "beat", "redis")  # what a request and its clearing-up costs


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes; seconds."""

    seed: str
    seconds: float
    step: float = 20.0
    turn: float = 30.0  # of each side, side by side
    beside: float = 600.0  # all turns together
    first: float = FIRST  # the first step's rate
    top: float = TOP  # the last step's, at most: what is held for long is no higher
    kills: bool = True
    visitors: int = 400
    pause: tuple[float, float] = (20.0, 40.0)  # between a recovery and the next kill


@dataclass
class Stretches:
    """The long stretches of one side: at the highest rate that it held, and with kills at the lower of those rates.
    `owed`: sessions whose files waited for a worker meanwhile, medians of the first and the last third. `beside`:
    processor seconds that the other side, which had nothing to do, used meanwhile, by stretch."""

    held: Measured | None = None
    owed: tuple[float, float] = (0, 0)
    beside: dict[str, float] = field(default_factory=dict)
    faulty: Measured | None = None
    faults: list[Fault] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)

    def measured(self) -> dict[str, Measured]:
        """Those there were."""
        return {name: one for name, one in (("held", self.held), ("with kills", self.faulty)) if one}

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "held": self.held.as_json() if self.held else None,
            "owed_sessions": {"median_of_first_third": self.owed[0], "median_of_last_third": self.owed[1]},
            "other_side_cpu_s": self.beside,
            "with_faults": self.faulty.as_json() if self.faulty else None,
            "faults": [fault.as_json() for fault in self.faults],
            "faults_missed": [one.as_json() for one in self.missed],
        }


@dataclass
class Outcome:
    """What a load test saw; rates in requests a second."""

    plan: Plan
    steps: list[dict[str, Any]] = field(default_factory=list)
    highest: dict[str, float] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)
    tried: list[dict[str, Any]] = field(default_factory=list)
    clean: list[float | None] = field(default_factory=list)  # seconds until ours was, before each stretch of theirs
    ours: Stretches = field(default_factory=Stretches)
    theirs: Stretches = field(default_factory=Stretches)
    records: dict[str, Record] = field(default_factory=dict)
    left: dict[str, Any] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """What contradicts the visitors' records."""
        return [text for record in self.records.values() for text in record.wrong]

    def measured(self) -> list[Verdict]:
        """Whether it measured what it is for."""
        times = [getattr(fault, pick) for fault in self.ours.faults for _, pick in RECOVERIES]
        worst = None if None in times else max(times, default=None)
        with_kills = self.ours.faulty is None or self.ours.faulty.given_up
        unclean = sum(seconds is None for seconds in self.clean) if self.clean else None
        return [
            verdict("of theirs, stretches in which something of ours was still owed", unclean, 0),
            verdict("no rate was held for the whole time", int(self.ours.held is None), 0),
            verdict("given up with kills", int(with_kills), 0, judged=self.plan.kills),
            verdict(
                "slowest recovery with kills, s",
                worst,
                RECOVERY,
                judged=self.plan.kills and self.plan.seconds >= ENOUGH,
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "plan": asdict(self.plan) | {"settings": SETTINGS, "held_p99_ms": HELD_P99, "held_backlog_s": HELD_BACKLOG},
            "steps": self.steps,
            "highest_step": self.highest,
            "side_by_side": self.beside,
            "rates_tried": self.tried,
            "clean_before_theirs_s": self.clean,
            "ours": self.ours.as_json(),
            "theirs": self.theirs.as_json(),
            "visitors": {
                name: {"counts": dict(record.counts), "wrong": record.wrong} for name, record in self.records.items()
            },
            "left": self.left,
            "verdicts": [one.as_json() for one in self.verdicts],
        }


def holds(measured: Measured) -> bool:
    """Whether a rate was held: nothing failed, the slowest hundredth took at most HELD_P99, nothing piled up."""
    return (
        not measured.given_up
        and not measured.failures
        and percentiles(measured.answered)["p99"] <= HELD_P99
        and measured.backlog <= max(4.0, measured.rate * HELD_BACKLOG)
    )


def hopeless(measured: Measured) -> bool:
    """Whether a rate can't be held any more, by what a part of the stretch measured."""
    return (
        measured.failures > 0
        or percentiles(measured.answered)["p99"] > 4 * HELD_P99
        or measured.backlog > max(4.0, measured.rate * HELD_BACKLOG)
    )


def load(plan: Plan, folder: Path) -> Outcome:
    """Runs it in `folder` (made, and left to the caller)."""
    outcome = Outcome(plan)
    with both(folder, SETTINGS) as (ours, theirs):
        canaries = outside.Canaries(ours)
        patience = 3 * float(str(SETTINGS["idle_timeout"])) + 60
        asyncio.run(_traffic(plan, outcome, ours, theirs, lambda: outside.until_clean(ours, canaries, patience)))
        record = outcome.records[ours.name]
        clean_after = outside.until_clean(ours, canaries, patience)
        imbalance, books = outside.balance(ours)
        outcome.left = {
            "ours": len(outside.left(ours, canaries)),
            "ours_clean_after_s": clean_after,
            "books": books,
            "theirs": len(theirs.files()),
            "theirs_bytes": sum(path.stat().st_size for path in theirs.files()),
        }
        outcome.verdicts = [
            *outcome.measured(),
            verdict("wrong in our visitors' record", len(record.wrong), 0),
            verdict("canaries harmed", len(canaries.harmed), 0),
            verdict("seconds until nothing was left or owed", clean_after, patience),
            verdict("imbalance of the books", abs(imbalance), 0),
        ]
    return outcome


async def _traffic(
    plan: Plan, outcome: Outcome, ours: Up, theirs: FlaskSession, until_clean: Callable[[], object]
) -> None:
    sides: list[Side] = [ours, theirs]
    outcome.records = {side.name: Record() for side in sides}
    idle_timeout = float(str(SETTINGS["idle_timeout"]))
    generators = {}
    for side in sides:
        record = outcome.records[side.name]
        crowd = [Visitor(n, plan.seed, side.nodes, record, idle_timeout) for n in range(plan.visitors)]
        generators[side.name] = Generator(crowd, f"{plan.seed} {side.name}")
    for side in sides:  # connections, scripts and caches are there before anything counts
        await generators[side.name].run(FIRST / 2, plan.step / 2)

    await _search(plan, outcome, generators)
    common = 0.6 * min(outcome.highest.values())
    outcome.beside = await _side_by_side(plan, common, sides, generators)
    both = ((theirs, outcome.theirs), (ours, outcome.ours))  # ours last: what it left is looked at in the end
    outcome.clean.append(await asyncio.to_thread(until_clean))
    for side, found in both:
        with _other(ours if side is theirs else theirs, found, "held"):
            await _hold(plan, outcome.tried, generators[side.name], side, found, outcome.highest[side.name])
    rates = [found.held.rate for _, found in both if found.held]
    if not rates or not plan.kills:
        return
    outcome.clean.append(await asyncio.to_thread(until_clean))
    for side, found in both:
        _say(f"{side.name} at {min(rates):.0f}/s with kills")
        with _other(ours if side is theirs else theirs, found, "with kills"):
            faults = Faults(side, plan.seed, KILLS, plan.pause)
            faults.start()
            try:
                found.faulty = await generators[side.name].run(min(rates), plan.seconds)
            finally:
                found.faults, found.missed = faults.close(), faults.missed


@contextlib.contextmanager
def _other(side: Side, found: Stretches, name: str) -> Iterator[None]:
    """Notes what that side costs meanwhile. Nobody kills its processes, so two looks suffice."""
    before = cpu_seconds(side)
    yield
    after = cpu_seconds(side)
    found.beside[name] = round(sum(after[role] - before.get(role, 0) for role in after), 1)


async def _hold(
    plan: Plan, tried: list[dict[str, Any]], generator: Generator, side: Side, found: Stretches, rate: float
) -> None:
    """Holds `rate`, or the next lower one that can be held; after TRIES none."""
    for attempt in range(TRIES):
        rate *= BELOW if attempt else 1
        _say(f"{side.name} at {rate:.0f}/s for {plan.seconds:.0f} s")
        sampler = Sampler(side, 2.0)
        sampler.start()
        try:
            measured = await generator.run(rate, plan.seconds, hopeless=hopeless)
        finally:
            looks = sampler.close().store
        held = holds(measured)
        tried.append({"side": side.name, "rate": round(rate, 1), "held": held, **_short(measured)})
        if held:
            third = max(1, len(looks) // 3)
            first, last = ([look.owed for look in part] or [0] for part in (looks[:third], looks[-third:]))
            found.held, found.owed = measured, (statistics.median(first), statistics.median(last))
            return


async def _search(plan: Plan, outcome: Outcome, generators: Mapping[str, Generator]) -> None:
    """Rising steps, the sides in turn at the same rate, each until it fails twice at one."""
    rate, open_sides = plan.first, dict(generators)
    outcome.highest = dict.fromkeys(generators, plan.first / 2)
    while open_sides and rate <= plan.top:
        for name in list(open_sides):
            for attempt in (1, 2):
                measured = await open_sides[name].run(rate, plan.step)
                held = holds(measured)
                outcome.steps.append({"side": name, "rate": round(rate, 1), "held": held, **_short(measured)})
                _say(f"{name} at {rate:.0f}/s: {'held' if held else 'not held'} {_short(measured)}")
                if held:
                    outcome.highest[name] = rate
                    break
                if attempt == 2:
                    del open_sides[name]
        rate *= FACTOR


async def _side_by_side(
    plan: Plan, rate: float, sides: Sequence[Side], generators: Mapping[str, Generator]
) -> dict[str, Any]:
    """Both at one rate in short turns: a load that lasts longer than a turn weighs on both."""
    rounds = max(2, round(plan.beside / (2 * plan.turn)))
    _say(f"side by side at {rate:.0f}/s, {rounds} rounds of {plan.turn:.0f} s each")
    total = {side.name: Measured(rate, 0.0) for side in sides}
    parts: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    # A process isn't killed here, so what it used is the difference of two looks; our workers' work is counted
    # in whoever's turn they do it.
    cpu = {side.name: cpu_seconds(side) for side in sides}
    order = list(sides)
    for _ in range(rounds):
        for side in order:
            part = await generators[side.name].run(rate, plan.turn)
            total[side.name].add(part)
            parts[side.name].append(percentiles(part.answered))
        order.append(order.pop(0))
    used = {
        side.name: sum(cpu_seconds(side).get(role, 0) - cpu[side.name].get(role, 0) for role in CAUSES)
        for side in sides
    }
    ours, theirs = (side.name for side in sides)
    each = {name: 1000 * used[name] / max(1, total[name].count) for name in used}
    return {
        "rate": round(rate, 1),
        "rounds": rounds,
        "latency_ms": {name: percentiles(measured.answered) for name, measured in total.items()},
        "failed": {name: dict(measured.failed) for name, measured in total.items()},
        "cpu_ms_a_request": {name: round(value, 3) for name, value in each.items()},
        "ratios": {
            **{
                f"{name} (median of the rounds' ratios)": round(_ratio(parts[ours], parts[theirs], name), 2)
                for name in ("p50", "p90", "p99")
            },
            "processor time a request": round(each[ours] / max(1e-9, each[theirs]), 2),
        },
    }


def _ratio(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(a[name] / max(1e-9, b[name]) for a, b in zip(ours, theirs, strict=True))


def _short(measured: Measured) -> dict[str, Any]:
    return {"answered": measured.count, "failed": dict(measured.failed), "backlog": measured.backlog,
            **percentiles(measured.answered)}  # fmt: skip


_say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
