"""The open-loop generator: requests are sent when they are meant to be, however slow the answers are, and their latency
counts from the moment at which they were meant to be sent. (A generator that waits for one answer before it asks again
leaves out just the requests that would have waited: coordinated omission.)"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

from benchmarks.load.http11 import Connections, UnansweredError
from benchmarks.load.visitors import UnwantedError, Visitor

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
LONGEST = 600_000_000  # us that a histogram can tell
MARK = 60.0  # seconds after which, again and again, a stretch notes what is under way
WORST_BACKLOG = 10.0  # seconds' worth of requests under way: a rate far beyond what can be held is given up


def histogram() -> HdrHistogram:
    """Microseconds, three digits."""
    return HdrHistogram(1, LONGEST, 3)


def percentiles(of: HdrHistogram) -> dict[str, float]:
    """The figures of the table, milliseconds; all 0 where nothing was counted."""
    if not of.get_total_count():
        return dict.fromkeys(PERCENTILES, 0.0)
    return {name: round(of.get_value_at_percentile(share) / 1000, 3) for name, share in PERCENTILES.items()}


@dataclass
class Measured:
    """What one stretch of traffic measured."""

    rate: float
    seconds: float
    answered: HdrHistogram = field(default_factory=histogram)
    late: HdrHistogram = field(default_factory=histogram)  # the generator's own lateness
    by_action: dict[str, HdrHistogram] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    backlogs: list[int] = field(default_factory=list)  # requests under way at each mark and at the end
    waited: int = 0  # requests that found no visitor free
    given_up: bool = False
    good: Counter[int] = field(default_factory=Counter)  # second of the stretch → requests answered

    @property
    def count(self) -> int:
        """Requests answered as they should be."""
        return int(self.answered.get_total_count())

    @property
    def failures(self) -> int:
        """Requests that weren't."""
        return sum(self.failed.values())

    @property
    def backlog(self) -> int:
        """The most requests that were under way at a mark or at the end."""
        return max(self.backlogs, default=0)

    @property
    def longest_gap(self) -> int:
        """The longest run of whole seconds in which nothing was answered."""
        longest = run = 0
        for second in range(int(self.seconds)):
            run = 0 if self.good[second] else run + 1
            longest = max(longest, run)
        return longest

    def add(self, other: Measured) -> None:
        """Takes in the figures of the stretch that followed."""
        self.good.update({int(self.seconds) + second: count for second, count in other.good.items()})
        self.seconds += other.seconds
        self.answered.add(other.answered)
        self.late.add(other.late)
        for action, found in other.by_action.items():
            self.by_action.setdefault(action, histogram()).add(found)
        self.failed.update(other.failed)
        self.backlogs += other.backlogs
        self.waited += other.waited
        self.given_up = self.given_up or other.given_up

    def as_json(self) -> dict[str, Any]:
        """For the report; latencies in ms, with the histogram itself so that others can read other percentiles."""
        return {
            "rate": round(self.rate, 1),
            "seconds": round(self.seconds, 1),
            "answered": self.count,
            "failed": dict(self.failed),
            "failed_share": round(self.failures / max(1, self.failures + self.count), 6),
            "backlogs": self.backlogs,
            "waited_for_a_visitor": self.waited,
            "given_up": self.given_up,
            "longest_gap_s": self.longest_gap,
            "latency_ms": percentiles(self.answered),
            "by_action_ms": {name: percentiles(found) for name, found in sorted(self.by_action.items())},
            "generator_late_ms": percentiles(self.late),
            "histogram": self.answered.encode().decode(),
        }


class _Free:
    """Visitors who may act now: who comes from a rest is next, so that it lasts as long as was drawn; the others in
    turn, not at random: nobody is forgotten for longer than a session lasts."""

    def __init__(self, visitors: Sequence[Visitor]) -> None:
        self._queue: asyncio.PriorityQueue[tuple[int, int, Visitor]] = asyncio.PriorityQueue()
        self._turns = itertools.count()
        for visitor in visitors:
            self._put(1, visitor)

    def _put(self, rank: int, visitor: Visitor) -> None:
        self._queue.put_nowait((rank, next(self._turns), visitor))

    @property
    def none(self) -> bool:
        """Whether who wants one now must wait."""
        return self._queue.empty()

    async def take(self) -> Visitor:
        """Who is next."""
        return (await self._queue.get())[2]

    def give_back(self, visitor: Visitor) -> None:
        """Once it has rested, if it rests now."""
        if rest := visitor.rest():
            asyncio.get_running_loop().call_later(rest, self._put, 0, visitor)
        else:
            self._put(1, visitor)


class Generator:
    """Visitors at a rate. The same seed sends the same moments and the same decisions."""

    def __init__(self, visitors: Sequence[Visitor], seed: str) -> None:
        self._seed, self._turns = seed, 0
        self._visitors = list(visitors)

    async def run(
        self,
        rate: float,
        seconds: float,
        stop: asyncio.Event | None = None,
        *,
        hopeless: Callable[[Measured], bool] = lambda _: False,
        mark: float = MARK,
    ) -> Measured:
        """`rate` requests a second on average, at random moments (Poisson), for `seconds` or until `stop`. Every `mark`
        seconds it is asked whether what was measured so far is `hopeless`, and given up if so; nothing pauses."""
        self._turns += 1
        dice = random.Random(f"{self._seed} turn {self._turns}")
        measured = Measured(rate, seconds)
        free = _Free(self._visitors)
        http = Connections()
        tasks: set[asyncio.Task[None]] = set()
        begun = time.monotonic()
        meant, marked = begun + dice.expovariate(rate), begun
        while meant < begun + seconds and not (stop and stop.is_set()):
            await asyncio.sleep(max(0.0, meant - time.monotonic()))
            measured.late.record_value(max(1, round((time.monotonic() - meant) * 1e6)))
            task = asyncio.create_task(self._one(http, free, meant, begun, measured))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            meant += dice.expovariate(rate)
            if meant - marked >= mark:
                marked += mark
                measured.backlogs.append(len(tasks))
                measured.given_up = hopeless(measured)
            if measured.given_up or len(tasks) > rate * WORST_BACKLOG + 100:
                measured.given_up = True
                break
        measured.backlogs.append(len(tasks))
        measured.seconds = min(seconds, time.monotonic() - begun)
        if tasks:
            await asyncio.wait(set(tasks))
        http.close()
        return measured

    async def _one(self, http: Connections, free: _Free, meant: float, begun: float, measured: Measured) -> None:
        measured.waited += free.none
        visitor = await free.take()
        try:
            action = await visitor.act(http)
        except UnansweredError as error:
            measured.failed[str(error)] += 1
        except UnwantedError as error:
            measured.failed[f"status {error}"] += 1
        except Exception as error:  # an answer of another form, or a mistake of ours: else nobody would hear of it
            measured.failed[repr(error)] += 1
        else:
            done = time.monotonic()
            took = min(LONGEST, max(1, round((done - meant) * 1e6)))
            measured.answered.record_value(took)
            measured.by_action.setdefault(action, histogram()).record_value(took)
            measured.good[int(done - begun)] += 1
        finally:
            free.give_back(visitor)
