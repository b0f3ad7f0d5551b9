"""The first page: what is alive, owed, held, dead or silent, at a glance; and the numbers that its charts move by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from sessionsweep.admin.desk import Here
from sessionsweep.admin.pages.entry import PageRoute, Visitor
from sessionsweep.admin.pages.rendering import page
from sessionsweep.model.states import EndReason
from sessionsweep.operator import fields, holds, nodes, places
from sessionsweep.operator.nodes import Node
from sessionsweep.operator.places import LATE, Place
from sessionsweep.operator.queries import Overview, overview
from sessionsweep.operator.wording import brief, count
from sessionsweep.settings import Settings

router = APIRouter(route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that somebody should look at, in a sentence, and the page that tells more."""

    text: str
    where: str = ""


@router.get("/")
def show(request: Request, here: Here, visit: Visitor) -> Response:
    """The overview. Its cost is the same at any number of sessions."""
    seen = here.run(overview(here.core))
    where = places.look(here.core, here.store)
    alive = here.run(nodes.listed(here.core))
    standing, now = here.run(holds.listed())
    late = max((place.debt.late_seconds for place in where), default=0.0)
    return page(
        request,
        "overview.html",
        stats=seen.stats,
        seen=seen,
        places=where,
        nodes=alive,
        holds=[fields.of_hold(hold, now) for hold in standing],
        late=late,
        reasons=[(reason, seen.stats.ended_by_reason.get(reason, 0)) for reason in EndReason],
        findings=findings(seen, where, alive, here.settings),
        sample=json.dumps(_sample(seen, late, now)),
    )


def findings(seen: Overview, where: Sequence[Place], alive: Sequence[Node], settings: Settings) -> list[Finding]:
    """What is wrong, the gravest first; nothing: all is well."""
    told = []
    if seen.stats.imbalance:
        lost = f"The books don't balance: {count(abs(seen.stats.imbalance), 'resource')} unaccounted for."
        told.append(Finding(lost))
    told += [Finding(f"Hold on {hold.scope}: {hold.reason}.", "/ui/holds") for hold in seen.holds]
    told += [Finding(alarm.text) for alarm in seen.alarms]
    told += [_silent(node) for node in alive if not node.alive]
    if not alive:
        told.append(Finding("No worker was ever seen: nothing is cleaned. Start one.", "/ui/nodes"))
    told += _late(seen, settings)
    stopped = {hold.scope for hold in seen.holds}  # told already
    for place in where:
        if place.problems and not stopped.intersection(place.holds):
            told.append(Finding(f"{place.name or place.location}: {place.problems[0]}.", "/ui/volumes"))
    if seen.stats.resources["dead"]:
        told.append(Finding(f"{count(seen.stats.resources['dead'], 'dead letter')} to look at.", "/ui/dead-letters"))
    return told


def _silent(node: Node) -> Finding:
    if not node.readable:
        return Finding(f"The heartbeat of {node.name} can't be read.", "/ui/nodes")
    return Finding(f"The worker of {node.name} is silent for {brief(node.seen_seconds_ago)}.", "/ui/nodes")


def _late(seen: Overview, settings: Settings) -> list[Finding]:
    """Who should have come by meanwhile: the sweep, and the beat that sends it."""
    told, patience = [], max(nodes.SILENCE, LATE * settings.cleanup_interval)
    if seen.beat_seconds_ago is not None and seen.beat_seconds_ago > patience:
        told.append(Finding(f"No beat for {brief(seen.beat_seconds_ago)}: nobody sends sweeps.", "/ui/sweeps"))
    if seen.last_sweep_seconds_ago is None:
        if seen.stats.total_sessions_created:
            told.append(Finding("No sweep has ever run: sessions that are due are not ended.", "/ui/sweeps"))
    elif seen.last_sweep_seconds_ago > patience:
        told.append(Finding(f"The last sweep ran {brief(seen.last_sweep_seconds_ago)} ago.", "/ui/sweeps"))
    return told


def _sample(seen: Overview, late: float, now: int) -> dict[str, object]:
    """One point of every chart; totals, from which the page computes rates. `at`: s."""
    stats = seen.stats
    return {
        "at": now / 1000,
        "active": stats.active_sessions,
        "bytes": max(0, stats.active_bytes),
        "owed": stats.resources["owed"],
        "owed_bytes": max(0, stats.owed_bytes),
        "late": late,
        "ended": {reason: stats.ended_by_reason.get(reason, 0) for reason in EndReason},
    }
