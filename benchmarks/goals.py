"""The goals, and a measurement held against its goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a figure, mostly a ratio; `least` and `most` are inclusive, None: not bounded."""

    least: float | None = None
    most: float | None = None

    def met_by(self, figure: float) -> bool:
        """Whether the figure keeps the goal."""
        return (self.least is None or figure >= self.least) and (self.most is None or figure <= self.most)

    def __str__(self) -> str:
        if self.least is not None and self.least == self.most:
            return f"= {self.least:g}"
        if self.least is not None:
            return f">= {self.least:g}"
        return f"<= {self.most:g}" if self.most is not None else ""


NONE = Goal()  # measured beside a goal, to explain it


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ours` and `other` carry their unit as text; `figure` is what the goal bounds."""

    id: str
    what: str
    ours: str
    other: str
    figure: float
    goal: Goal = NONE

    @property
    def verdict(self) -> str:
        """met, short, or nothing where there is no goal."""
        if self.goal == NONE:
            return ""
        return "met" if self.goal.met_by(self.figure) else "SHORT"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: `--quick` is a tenth of the sessions and a few of the rounds."""

    quick: bool = False

    @property
    def sessions(self) -> int:
        """How many sessions stand for "many"."""
        return 100_000 if self.quick else 1_000_000

    @property
    def rounds(self) -> int:
        """Rounds of an interleaved comparison."""
        return 7 if self.quick else 15


Benchmark = Callable[[Scale], list[Row]]


def per_second(rate: float) -> str:
    """A rate as text."""
    return f"{rate:,.0f}/s"
