"""The first page: what is alive, owed, held, dead or silent, at a glance; and the numbers that its charts move by."""

from __future__ import annotations

import json

from fastapi import APIRouter, Request, Response

from sessionsweep.admin.desk import Here
from sessionsweep.admin.pages.entry import PageRoute, Visitor
from sessionsweep.admin.pages.rendering import page
from sessionsweep.admin.pages.trends import minutes
from sessionsweep.model.snapshots import Step
from sessionsweep.model.states import EndReason
from sessionsweep.operator import fields, verdict, vitals
from sessionsweep.operator.findings import Code, Level
from sessionsweep.operator.trends import trends
from sessionsweep.operator.vitals import Vitals

router = APIRouter(route_class=PageRoute)
MINUTES = 60  # of which the overview tells what ended

#: The page that tells more of what a finding is about.
MORE = {
    Code.NO_WORKER: "/nodes",
    Code.WORKER: "/nodes",
    Code.SWEEP: "/sweeps",
    Code.BEAT: "/sweeps",
    Code.RUN_FAILED: "/sweeps",
    Code.HOLD: "/holds",
    Code.DEAD_LETTERS: "/dead-letters",
    Code.UNATTENDED: "/volumes",
    Code.NOT_MOUNTED: "/volumes",
    Code.NOT_ANSWERING: "/volumes",
    Code.FAILING: "/owed?failing=1",
    Code.IN_USE: "/owed",
    Code.LATE: "/volumes",
    Code.DISK: "/volumes",
    Code.UNWRITABLE: "/volumes",
}


@router.get("/")
def show(request: Request, here: Here, visit: Visitor) -> Response:
    """The overview. Its cost is the same at any number of sessions."""
    seen = vitals.look(here.core, here.store)
    found = verdict.judge(seen, here.settings)
    late = max((place.debt.late_seconds for place in seen.places or ()), default=0.0)
    return page(
        request,
        "overview.html",
        stats=seen.stats,
        seen=seen,
        places=seen.places or (),
        nodes=seen.nodes,
        holds=[fields.of_hold(hold, seen.now) for hold in seen.holds],
        late=late,
        reasons=[(reason, seen.stats.ended_by_reason.get(reason, 0)) for reason in EndReason],
        findings=[one for one in found if one.level not in (Level.OK, Level.NOTE)],
        notes=[one for one in found if one.level is Level.NOTE],
        more=MORE,
        sample=json.dumps(_sample(seen, late)),
        minutes=json.dumps(minutes(trends(here.core, here.store, Step.MINUTE, MINUTES * 60))),
    )


def _sample(seen: Vitals, late: float) -> dict[str, object]:
    """One point of every chart but that of endings. `at`: s."""
    stats = seen.stats
    return {
        "at": seen.now / 1000,
        "active": stats.active_sessions,
        "bytes": max(0, stats.active_bytes),
        "owed": stats.resources["owed"],
        "owed_bytes": max(0, stats.owed_bytes),
        "late": late,
        "created": stats.total_sessions_created,  # less than before: this is another store
    }
