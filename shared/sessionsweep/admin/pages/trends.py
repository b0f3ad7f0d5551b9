"""Trends: what was done in the last hours, days and the last year, as charts and as figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from sessionsweep.admin.desk import Here
from sessionsweep.admin.pages.entry import PageRoute, Visitor
from sessionsweep.admin.pages.rendering import UI, page
from sessionsweep.admin.problems import NotFoundError
from sessionsweep.model import books
from sessionsweep.model.snapshots import ENDED_BY, SESSIONS, Step
from sessionsweep.operator.trends import Period, Trends, trends
from sessionsweep.sessions.view import moment

router = APIRouter(route_class=PageRoute)
YEAR = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Range:
    """How far back a view looks, and how often it is renewed (s)."""

    name: str
    seconds: float | None
    renewed: int


RANGES = {
    Step.MINUTE: Range("3 hours", None, 15),
    Step.HOUR: Range("14 days", None, 60),
    Step.DAY: Range("A year", YEAR, 300),
}


@router.get(f"{UI}/trends")
def show(request: Request, here: Here, visit: Visitor, by: Annotated[str, Query(max_length=20)] = "hour") -> Response:
    """One of the three views. Its cost is the same at any number of sessions."""
    if by not in set(Step):
        raise NotFoundError("There is no such view: take minute, hour or day.")
    step = Step(by)
    found = trends(here.core, here.store, step, RANGES[step].seconds)
    return page(
        request,
        "trends.html",
        step=step,
        ranges=RANGES,
        periods=found.periods[::-1],
        total=found.whole,
        fields=books,
        SESSIONS=SESSIONS,
        moment_of=moment,
        drawn=json.dumps(drawn(found)),
    )


def drawn(found: Trends) -> dict[str, object]:
    """What the charts draw, as columns: numbers per step, peaks, and None where nothing is known.

    `at` (s) is when each begins; the last number is told twice, so that it is drawn until now.
    """

    def of(number: Callable[[Period], float | None]) -> list[float | None]:
        told = [None if period.restarted else number(period) for period in found.periods]
        return told + told[-1:]

    def rates(field: str) -> list[float | None]:
        return of(lambda period: per_step(period, found.step, period.done[field]))

    def peaks(gauge: str) -> list[float | None]:
        return of(lambda period: period.peaks[gauge])

    return {
        "at": [period.since / 1000 for period in found.periods] + [found.now / 1000] * bool(found.periods),
        "created": rates(books.CREATED),
        "ended": rates(books.ENDED),
        "reasons": ended(found),
        "duration": of(lambda period: period.mean_duration),
        "registered": rates(books.REGISTERED),
        "reclaimed": of(lambda period: per_step(period, found.step, period.reclaimed)),
        "freed": of(lambda period: per_step(period, found.step, period.bytes_deleted)),
        "active": peaks(SESSIONS),
        "bytes": peaks(books.ACTIVE_BYTES),
        "owed": peaks(books.OWED),
        "owed_bytes": peaks(books.OWED_BYTES),
        "dead": peaks(books.DEAD),
    }


def ended(found: Trends) -> dict[str, list[float | None]]:
    """Sessions ended per step, by reason: of those for which any did."""
    told = {}
    for reason, field in ENDED_BY.items():
        if any(period.done[field] for period in found.periods):
            rates = [None if one.restarted else per_step(one, found.step, one.done[field]) for one in found.periods]
            told[reason.value] = rates + rates[-1:]
    return told


def minutes(found: Trends) -> dict[str, object]:
    """The overview's chart of endings."""
    at = [period.since / 1000 for period in found.periods] + [found.now / 1000] * bool(found.periods)
    return {"at": at, "ended": ended(found)}


def per_step(period: Period, step: Step, number: int) -> float:
    """A number per step, also where a missed snapshot joined several; of one that still runs what there is so far."""
    return round(number / max(1.0, period.seconds * 1000 / step.ms), 2)
