"""`/admin/trends`: what was done in each minute, hour or day."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from sessionsweep.admin.desk import Here, Reader
from sessionsweep.admin.problems import BadRequestError
from sessionsweep.operator.trends import of_trends, step_for, trends
from sessionsweep.units import parse_duration

router = APIRouter(tags=["operations"])


@router.get("/trends")
def show_trends(
    here: Here,
    reader: Reader,
    since: Annotated[
        str | None, Query(max_length=40, description="For how long: `24h`, `14d`; as long as it is kept if left out.")
    ] = None,
    by: Annotated[
        str | None, Query(max_length=40, description="`minute` (3 hours are kept), `hour` (14 days) or `day` (400).")
    ] = None,
) -> dict[str, Any]:
    """Sessions created, ended and why, their mean duration, resources and bytes, step by step; the last one still runs.

    What stands at a moment (`active_…`, `owed_…`, `dead_letters`) is told as at the step's end, and as its peak.
    """
    try:
        seconds = None if since is None else parse_duration(since)
        step = step_for(seconds, by)
    except ValueError as error:
        raise BadRequestError(f"`since` or `by`: {error}.") from None
    return of_trends(trends(here.core, here.store, step, seconds))
