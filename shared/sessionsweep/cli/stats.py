"""`stats`: the books, what waits to be reclaimed, what is held, and alarms."""

from __future__ import annotations

from dataclasses import asdict

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json
from sessionsweep.cli.output import brief, print_json, print_pairs, print_table, say
from sessionsweep.operator.queries import Overview, overview
from sessionsweep.units import format_size


def stats(as_json: Json = False) -> None:
    """Show totals: sessions, resources, bytes, what waits to be reclaimed, and holds."""
    with deployment() as here:
        seen = here.run(overview(here.core))
    if as_json:
        rest = {
            "backlog": seen.backlog,
            "holds": [hold.scope for hold in seen.holds],
            "alarms": [{"reason": alarm.reason, "text": alarm.text} for alarm in seen.alarms],
            "last_sweep_seconds_ago": seen.last_sweep_seconds_ago,
        }
        print_json({**asdict(seen.stats), **rest})
        return
    _human(seen)


def _human(seen: Overview) -> None:
    s = seen.stats
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(s.ended_by_reason.items()))
    r = s.resources
    resources = ", ".join(f"{number:,} {name}" for name, number in r.items() if number and name != "registered")
    sweep = "never" if seen.last_sweep_seconds_ago is None else f"{brief(seen.last_sweep_seconds_ago)} ago"
    print_pairs(
        [
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
            ("last sweep", sweep),
            ("holds", ", ".join(hold.scope for hold in seen.holds) or "none"),
            *(("alarm", alarm.text) for alarm in seen.alarms),
        ]
    )
    if seen.backlog:
        say("")
        rows = [(b.location, f"{b.sessions:,}", brief(b.oldest_due_seconds)) for b in seen.backlog]
        print_table(("LOCATION", ">SESSIONS OWING", ">OLDEST DUE"), rows, "")
