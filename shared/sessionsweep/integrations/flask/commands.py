"""`flask sessions-list`, `sessions-cleanup`, `sessions-stats`: what the command line does, for one app's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from math import inf
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from sessionsweep.engine.orphans import Orphans
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.results import Result
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.errors import SessionSweepError
from sessionsweep.integrations.flask.interface import binding
from sessionsweep.operator import fields
from sessionsweep.operator.queries import overview
from sessionsweep.operator.wording import brief, count, printable
from sessionsweep.sessions.sync import Sessions
from sessionsweep.store.flow import run
from sessionsweep.units import format_size

PAGE = 500
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("sessions-list")
@click.option("--user", help="Only this user's.")
@as_json
@with_appcontext
def list_(user: str | None, as_json: bool) -> None:
    """List live sessions. Reading renews nothing."""
    sessions, first, cursor = _sessions(), True, None
    found: list[dict[str, Any]] = []
    while first or cursor is not None:
        first = False
        page, cursor = sessions.list(user, cursor, PAGE)
        found.extend(fields.of_session(session) for session in page)
    if as_json:
        return click.echo(json.dumps({"sessions": found}, indent=2, default=datetime.isoformat))
    for row in found:
        user_id, address = printable(row["user_id"] or "-"), row["ip_address"] or "-"
        idle, size = brief(row["idle_seconds"]), format_size(row["total_bytes_used"])
        resources = count(row["resource_count"], "resource")
        click.echo(f"{row['session_id']}  {user_id}  {address}  idle {idle}  {resources}, {size}")
    return click.echo(count(len(found), "live session"))


@click.command("sessions-cleanup")
@as_json
@with_appcontext
def cleanup(as_json: bool) -> None:
    """End what is due, delete what ended sessions left on this node's volumes, look there for orphans for a minute."""
    sessions = _sessions()
    for problem in run(sessions.core.mounts.mount(), sessions.store):
        click.echo(f"warning: {problem}", err=True)
    trust = Trust(sessions.core, sessions.store)
    here = sessions.core, sessions.store, trust
    parts: dict[str, Result] = {
        "sweep": Sweep(*here).run_once(budget=inf),  # whoever calls it waits for it
        "reclaim": Reclaim(*here).run_once(budget=inf),
        "orphans": Orphans(*here).run_once(),
    }
    done = {name: result.as_dict() for name, result in parts.items()}
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        for name, counts in done.items():
            click.echo(f"{name}: {_worded(counts)}")
    if held := done["reclaim"].get("held"):
        raise click.ClickException(f"destruction is held at {', '.join(held)}; see sessionsweep holds list")


@click.command("sessions-stats")
@as_json
@with_appcontext
def stats(as_json: bool) -> None:
    """Show totals, and when the last sweep ran."""
    sessions = _sessions()
    seen = run(overview(sessions.core), sessions.store)
    s, holds = seen.stats, [hold.scope for hold in seen.holds]
    if as_json:
        extra = {"last_sweep_seconds_ago": seen.last_sweep_seconds_ago, "holds": holds}
        return click.echo(json.dumps({**asdict(s), **extra}, indent=2, default=dict))
    last = seen.last_sweep_seconds_ago
    for name, text in (
        ("sessions", f"{s.active_sessions:,} active, {s.total_sessions_created:,} created"),
        ("ended", f"{s.total_sessions_cleaned:,}"),
        ("average", f"{brief(s.avg_session_duration)}, {s.avg_resources_per_session:.1f} resources"),
        ("resources", f"{s.resources['active']:,} active, {s.resources['owed']:,} owed"),
        ("bytes", f"{format_size(s.active_bytes)} active, {format_size(s.total_bytes_cleaned)} deleted"),
        ("last sweep", "never" if last is None else f"{brief(last)} ago"),
        ("holds", ", ".join(holds) or "none"),
    ):
        click.echo(f"{name:<10}  {text}")
    return None


COMMANDS = (list_, cleanup, stats)


def _sessions() -> Sessions:
    sessions = binding(current_app._get_current_object()).sessions  # type: ignore[attr-defined]
    if sessions.settings.in_memory:
        raise click.ClickException(
            "SESSIONSWEEP_REDIS_URL=memory:// is each process's own memory: this command would see an empty one, not "
            "the app's, whose own thread sweeps it. Give a server's URL to use the commands."
        )
    try:
        run(overview(sessions.core), sessions.store)
    except SessionSweepError as error:
        raise click.ClickException(str(error)) from None
    return sessions


def _worded(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counts.items())
