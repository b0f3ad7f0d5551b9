"""How two sides are compared on a noisy machine: in short turns, side by side, medians over the rounds."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

Side = Callable[[], object]
AsyncSide = Callable[[], Awaitable[object]]


class Timings:
    """Seconds per call of each side, one figure a round. All sides of a round were measured within a moment."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self.seconds = dict(seconds)

    def rate(self, side: str) -> float:
        """Calls per second, the median over the rounds."""
        return 1 / statistics.median(self.seconds[side])

    def ratio(self, side: str, base: str) -> float:
        """How many times as fast `side` is as `base`: the median of the rounds' own ratios, so that a load which
        lasts longer than a round weighs on both."""
        pairs = zip(self.seconds[side], self.seconds[base], strict=True)
        return statistics.median(theirs / ours for ours, theirs in pairs)


def interleaved(sides: Mapping[str, Side], *, rounds: int, calls: int) -> Timings:
    """Each round runs `calls` of each side in short turns; who begins changes from round to round."""
    order = list(sides)
    for side in order:
        _turn(sides[side], max(1, calls // 10))  # connections, scripts and caches are there before the clock runs
    seconds: dict[str, list[float]] = {side: [] for side in order}
    gc.collect()
    for _ in range(rounds):
        for side in order:
            seconds[side].append(_turn(sides[side], calls))
        order.append(order.pop(0))
    return Timings(seconds)


def _turn(side: Side, calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        side()
    return (time.perf_counter() - begun) / calls


async def interleaved_async(sides: Mapping[str, AsyncSide], *, rounds: int, calls: int, concurrent: int) -> Timings:
    """The same with `concurrent` tasks that call one after the other, `calls` each."""
    order = list(sides)
    for side in order:
        await _async_turn(sides[side], max(1, calls // 10), concurrent)
    seconds: dict[str, list[float]] = {side: [] for side in order}
    gc.collect()
    for _ in range(rounds):
        for side in order:
            seconds[side].append(await _async_turn(sides[side], calls, concurrent))
        order.append(order.pop(0))
    return Timings(seconds)


async def _async_turn(side: AsyncSide, calls: int, concurrent: int) -> float:
    async def one() -> None:
        for _ in range(calls):
            await side()

    begun = time.perf_counter()
    await asyncio.gather(*[one() for _ in range(concurrent)])
    return (time.perf_counter() - begun) / (calls * concurrent)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0 to 1) of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
