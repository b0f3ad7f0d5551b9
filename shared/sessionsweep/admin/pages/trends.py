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
from sessionsweep.units import moment

router = APIRouter(route_class=PageRoute)
YEAR = 365 * 86_400.0
Column = list[float | None]


@dataclass(frozen=True, slots=True)
class Range:
    """How far back a view looks, how often it is renewed (s), and how it writes a moment."""

    name: str
    seconds: float | None
    renewed: int
    when: str


RANGES = {
    Step.MINUTE: Range("3 hours", None, 15, "%Y-%m-%d %H:%M"),
    Step.HOUR: Range("14 days", None, 60, "%Y-%m-%d %H:%M"),
    Step.DAY: Range("A year", YEAR, 300, "%Y-%m-%d"),
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
    """What the charts draw, as columns: how much was done per step, and peaks. `at` (s): when each begins."""

    def rates(number: Callable[[Period], int]) -> Column:
        return _counted(found, lambda period: per_step(period, found.step, number(period)))

    def peaks(gauge: str) -> Column:
        return _standing(found, lambda period: period.peaks[gauge])

    return {
        "at": _at(found),
        "reasons": ended(found),
        "created": rates(lambda period: period.done[books.CREATED]),
        "ended": rates(lambda period: period.done[books.ENDED]),
        "duration": _standing(found, lambda period: period.mean_duration),
        "registered": rates(lambda period: period.done[books.REGISTERED]),
        "reclaimed": rates(lambda period: period.reclaimed),
        "freed": rates(lambda period: period.bytes_deleted),
        "active": peaks(SESSIONS),
        "bytes": peaks(books.ACTIVE_BYTES),
        "owed": peaks(books.OWED),
        "owed_bytes": peaks(books.OWED_BYTES),
        "dead": peaks(books.DEAD),
    }


def minutes(found: Trends) -> dict[str, object]:
    """The overview's chart of endings."""
    return {"at": _at(found), "ended": ended(found)}


def ended(found: Trends) -> dict[str, Column]:
    """Sessions ended per step, by reason: of those for which any did."""

    def rates(field: str) -> Column:
        return _counted(found, lambda period: per_step(period, found.step, period.done[field]))

    happened = found.whole.ended_by if found.whole else {}
    return {reason.value: rates(field) for reason, field in ENDED_BY.items() if reason in happened}


def per_step(period: Period, step: Step, number: int) -> float:
    """A number per step, also where a missed snapshot joined several; of one that still runs what there is so far."""
    return round(number / max(1, round(period.seconds * 1000 / step.ms)), 2)  # a minute of 61 s is one


def _at(found: Trends) -> list[float]:
    return [period.since / 1000 for period in found.periods] + [found.now / 1000] * bool(found.periods)


def _standing(found: Trends, number: Callable[[Period], float | None]) -> Column:
    """Each period's number; None where nothing is known. The last one is told twice, to be drawn until now."""
    told = [None if period.restarted else number(period) for period in found.periods]
    return told + told[-1:]


def _counted(found: Trends, number: Callable[[Period], float]) -> Column:
    """The same of what adds up. The step that still runs would look like a fall: left out, unless it is the first."""
    told = _standing(found, number)
    if len(found.periods) > 1 and not found.periods[-1].complete:
        told[-2:] = [told[-3], None]
    return told
