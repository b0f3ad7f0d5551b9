"""`stats`: the books, what waits to be reclaimed, what is held, and alarms; with `--since`, the trends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sessionsweep.cli.connecting import deployment, warn_if_forgetful
from sessionsweep.cli.options import Json, duration
from sessionsweep.cli.output import brief, count, print_json, print_listing, print_pairs, say
from sessionsweep.cli.trends import print_trends
from sessionsweep.cli.watching import Watch, watched
from sessionsweep.operator import fields, nodes, places
from sessionsweep.operator.queries import Overview, overview
from sessionsweep.operator.volumes import has_any
from sessionsweep.units import format_size


def stats(
    since: Annotated[
        str | None, typer.Option(help="What was done in so long (24h, 14d), step by step.", callback=duration)
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="minute|hour|day", help="The steps; kept for 3 hours, 14 and 400 days.")
    ] = None,
    watch: Watch = None,
    as_json: Json = False,
) -> None:
    """Show totals, workers, what waits on each volume to be deleted and why, holds and alarms. With --since or --by,
    what was done in each minute, hour or day: sessions created and ended and why, resources, bytes, peaks."""
    seconds: Any = since  # its callback made a number of it
    trends_wanted = since is not None or by is not None
    watched(watch, as_json, lambda: print_trends(seconds, by, as_json) if trends_wanted else _stats(as_json))


def _stats(as_json: bool) -> None:
    with deployment() as here:
        seen = here.run(overview(here.core))
        alive = here.run(nodes.listed(here.core))
        where = places.look(here.core, here.store)
        if here.run(has_any(here.core)):  # sessions alone need no volume
            warn_if_forgetful(here)
    if as_json:
        print_json(fields.of_overview(seen, where, alive))
        return
    print_pairs(_totals(seen, alive))
    if where:
        say("")
        columns = ("VOLUME", "ID", ">OWED", ">SIZE", ">OLDEST", ">LATE", "WORKERS")
        print_listing(columns, [(_row(place), place.problems) for place in where], "")


def _totals(seen: Overview, alive: Sequence[nodes.Node]) -> list[tuple[str, object]]:
    s, r = seen.stats, seen.stats.resources
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(s.ended_by_reason.items()))
    resources = ", ".join(f"{number:,} {name}" for name, number in r.items() if number and name != "registered")
    return [
        ("sessions", f"{s.active_sessions:,} active, {s.total_sessions_created:,} created"),
        ("ended", f"{s.total_sessions_cleaned:,}" + (f" ({reasons})" if reasons else "")),
        ("average", f"{brief(s.avg_session_duration)}, {s.avg_resources_per_session:.1f} resources"),
        ("resources", f"{r['registered']:,} registered" + (f": {resources}" if resources else "")),
        (
            "bytes",
            f"{format_size(max(0, s.active_bytes))} active, {format_size(max(0, s.owed_bytes))} owed, "
            f"{format_size(max(0, s.total_bytes_cleaned))} deleted",
        ),
        ("books", "balance" if not s.imbalance else f"DON'T BALANCE: {s.imbalance} resources unaccounted for"),
        ("last sweep", _ago(seen.last_sweep_seconds_ago)),
        ("last beat", _ago(seen.beat_seconds_ago)),
        ("workers", ", ".join(_node(node) for node in alive) or "NONE was ever seen"),
        ("holds", ", ".join(hold.scope for hold in seen.holds) or "none"),
        *((("dead", f"{count(r['dead'], 'dead letter')}: see sessionsweep dead-letters list"),) if r["dead"] else ()),
        *(("alarm", alarm.text) for alarm in seen.alarms),
    ]


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{brief(seconds)} ago"


def _node(node: nodes.Node) -> str:
    if not node.readable:
        return f"{node.name} UNKNOWN"
    seen = brief(node.seen_seconds_ago)
    return f"{node.name} {seen} ago" if node.alive else f"{node.name} SILENT for {seen}"


def _row(place: places.Place) -> tuple[object, ...]:
    debt, more = place.debt, "" if place.debt.is_complete else "+"
    waits = debt.sessions > 0
    mounting = [worker for worker in place.workers if worker.mounts]
    working = " ".join(worker.node if worker.alive else f"{worker.node}(silent)" for worker in mounting)
    return (
        place.name or place.location,
        place.volume_id or "-",
        f"{debt.owed:,}{more}",
        format_size(debt.bytes) + more if waits else "-",
        brief(debt.oldest_seconds) + more if waits else "-",
        brief(debt.late_seconds) if debt.late_seconds else "-",
        working or ("NONE" if place.volume_id else "-"),
    )
