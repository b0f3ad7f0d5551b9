"""Whether a figure grows over time: Theil and Sen's slope, which a few outliers don't bend."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import combinations

from benchmarks.load.probes import Look, StoreLook

_MOST = 300  # points of one life that are compared with each other
_SURE = statistics.NormalDist().inv_cdf(0.99)

Point = tuple[float, float]  # seconds, value


def slope(lives: Iterable[Sequence[Point]]) -> float | None:
    """The median slope, a second, over all pairs of points of the same life (None: too few). A life is what lies
    between two restarts: a new process begins anew, and that jump is neither growth nor shrinking."""
    found, _ = _slopes(lives)
    return statistics.median(found) if len(found) >= 10 else None


def at_least(lives: Iterable[Sequence[Point]]) -> float | None:
    """The slope that is sure, a second: the lower end of the interval around `slope` (None: too few), below which one
    of a hundred trends lies whose points scatter like these. P. K. Sen, JASA 63 (1968) 1379-1389."""
    found, variance = _slopes(lives)
    if len(found) < 10:
        return None
    return sorted(found)[max(0, math.floor((len(found) - _SURE * math.sqrt(variance)) / 2))]


def _slopes(lives: Iterable[Sequence[Point]]) -> tuple[list[float], float]:
    """The slopes of all pairs, and the variance of how many of them rise rather than fall where nothing grows."""
    found, variance = list[float](), 0.0
    for life in lives:
        points = life[:: max(1, len(life) // _MOST)]
        found += [(b - a) / (t - s) for (s, a), (t, b) in combinations(points, 2) if t > s]
        variance += len(points) * (len(points) - 1) * (2 * len(points) + 5) / 18
    return found, variance


def lives(looks: Sequence[Look | StoreLook], value: str, warm_up: float) -> list[list[Point]]:
    """A role's figure by incarnation, without the first `warm_up` seconds of each."""
    by_pid: dict[int, list[Look | StoreLook]] = {}
    for look in looks:
        by_pid.setdefault(look.pid, []).append(look)
    return [
        [(look.at, float(getattr(look, value))) for look in one if look.at - one[0].at >= warm_up]
        for one in by_pid.values()
    ]


def floors(found: Iterable[Sequence[Point]], window: float) -> list[list[Point]]:
    """Each life by its least value of every `window` seconds: what is open comes and goes, what leaks stays, and
    raises the floor."""
    lowest = []
    for life in found:
        least: dict[int, Point] = {}
        for at, value in life:
            part = int((at - life[0][0]) // window)
            if part not in least or value < least[part][1]:
                least[part] = (at, value)
        lowest.append(list(least.values()))
    return lowest


def longest(found: Iterable[Sequence[Point]]) -> float:
    """The longest life, in seconds: how much a slope can say."""
    return max((life[-1][0] - life[0][0] for life in found if life), default=0.0)
