"""`sweep`: a pass on demand, by the workers or in this process; or only what it would do, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sessionsweep.cli import passes, workers
from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json, Yes, confirm, duration
from sessionsweep.cli.output import brief, complain, count, note, print_json, print_table, say, waiting
from sessionsweep.model.holds import IDLE
from sessionsweep.operator import endings, preview
from sessionsweep.units import format_duration, format_size

app = typer.Typer(no_args_is_help=True, help="Run a pass now.")

Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is done, and say what it did.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only report what it would do and why: reads, changes nothing.")
]
Here = Annotated[bool, typer.Option("--here", help="In this process, with this node's volumes; not by the workers.")]
Timeout = Annotated[str, typer.Option(metavar="DURATION", callback=duration, help="How long --wait waits.")]
IdleFor = Annotated[
    str | None,
    typer.Option(metavar="DURATION", callback=duration, help="End whom nobody has touched for so long (1h)."),
]


@dataclass(frozen=True)
class Wanted:
    """How a pass is to be run."""

    wait: bool
    timeout: float
    here: bool
    as_json: bool


@app.command()
def idle(
    wait: Wait = False,
    dry_run: DryRun = False,
    idle_for: IdleFor = None,
    here: Here = False,
    timeout: Timeout = "10m",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """End sessions that are due. (Idle or too old: one pass ends both, and counts each.)"""
    seconds: Any = idle_for  # the callback made it a number
    if dry_run:
        _preview_sessions(seconds, as_json)
    elif seconds is not None:  # sessions that no pass would end
        confirm(f"End every session that nobody has touched for {format_duration(seconds)}?", yes)
        _end_idle(seconds, as_json)
    else:
        _sweep("idle", Wanted(wait, float(timeout), here, as_json))


@app.command()
def expired(
    wait: Wait = False, dry_run: DryRun = False, here: Here = False, timeout: Timeout = "10m", as_json: Json = False
) -> None:
    """End sessions that are due. (The same pass as `idle`, under its other name.)"""
    if dry_run:
        _preview_sessions(None, as_json)
    else:
        _sweep("expired", Wanted(wait, float(timeout), here, as_json))


@app.command()
def orphans(
    wait: Wait = False, dry_run: DryRun = False, here: Here = False, timeout: Timeout = "10m", as_json: Json = False
) -> None:
    """Look for files that nobody owns. One is destroyed when a second pass, a grace period later, sees it again."""
    if dry_run:
        _preview_orphans(as_json)
        return
    wanted = Wanted(wait, float(timeout), here, as_json)
    with deployment() as there:
        sender = None if here else workers.sender(there.settings)
        if sender is not None:
            _by_workers(sender, "orphans", wanted)
            return
        with waiting("looking for orphans") as progress:
            result = passes.orphans(there, wait, progress, wanted.timeout)
        if as_json:
            print_json({"where": "here", "orphans": result.as_dict()})
        else:
            _say_counts("orphans", result.as_dict())
    _finish(result.held)


def _sweep(name: str, wanted: Wanted) -> None:
    with deployment() as there:
        sender = None if wanted.here else workers.sender(there.settings)
        if sender is not None:
            _by_workers(sender, name, wanted)
            return
        with waiting("sweeping") as progress:
            swept, reclaimed = passes.sweep(there, wanted.wait, progress, wanted.timeout)
        if wanted.as_json:
            print_json({"where": "here", "sweep": swept.as_dict(), "reclaim": reclaimed.as_dict()})
        else:
            _say_counts("sweep", swept.as_dict())
            _say_counts("reclaim", reclaimed.as_dict())
            if not there.settings.volumes:
                note("This node has no volume: what lies on others is reclaimed by their workers.")
    _finish(reclaimed.held)


def _by_workers(sender: workers.Sender, name: str, wanted: Wanted) -> None:
    with sender:
        request = sender.send(name)
        if not wanted.wait:
            if wanted.as_json:
                print_json({"where": "workers", "request_id": request})
            else:
                say(f"Sent to the workers as {request}.")
            return
        with waiting(f"a worker does sweep_{name}") as progress:
            task = progress.task_ids[0]
            record = sender.finish(request, wanted.timeout, lambda text: progress.update(task, description=text))
    if wanted.as_json:
        print_json({"where": "workers", "request_id": request, **record})
    runs = {name: record, **{row.rpartition(".")[2]: part for row, part in record["parts"].items()}}
    for what, run in runs.items():
        if run["state"] == "failed":
            complain(f"{what} failed on {run['node']}: {run['result'].get('error', 'see its log')}")
        elif not wanted.as_json:
            _say_counts(f"{what} by {run['node']}", run["result"])
    if record["state"] != "done":
        raise typer.Exit(1)
    _finish([location for run in runs.values() for location in run["result"].get("held", [])])


def _end_idle(seconds: float, as_json: bool) -> None:
    with deployment() as there, waiting("ending idle sessions") as progress:
        task = progress.task_ids[0]
        done = endings.end_idle(
            there.core,
            there.store,
            seconds,
            lambda ended: progress.update(task, description=f"{count(ended, 'session')} ended"),
        )
    if as_json:
        print_json(done)
    else:
        owed = count(done.owed, "resource")
        say(f"Ended {count(done.ended, 'session')} idle for {format_duration(seconds)} or longer; {owed} owed.")
    passes.fail_unreadable(done)


def _preview_sessions(seconds: float | None, as_json: bool) -> None:
    with deployment() as there, waiting("reading"):
        found = preview.sweep(there.core, there.store, seconds)
    if as_json:
        print_json(_dry(found))
        return
    rows = [
        (w.session_id, w.reason, brief(w.idle_seconds), brief(w.age_seconds), w.resources, format_size(w.bytes))
        for w in found.would_end
    ]
    print_table(("ID", "WHY", ">IDLE", ">AGE", ">RES", ">SIZE"), rows, "No session would be ended.")
    leaving = f"{count(found.resources, 'resource')}, {format_size(found.bytes)}"
    say(f"Would end {count(found.sessions, 'session')}: {leaving}.")
    for waits in found.backlog:
        say(f"Already owed at {waits.location}: by {count(waits.sessions, 'session')}.")
    if found.unreadable:
        note(f"{count(found.unreadable, 'record')} can't be read, and would stay: see the log of the workers.")
    if IDLE in found.held:
        note("Idle ends are held: see `sessionsweep holds list`.")


def _preview_orphans(as_json: bool) -> None:
    with deployment() as there, waiting("reading"):
        found = preview.orphans(there.core, there.store)
        others = passes.volumes_elsewhere(there)
    if as_json:
        print_json({**_dry(found), "elsewhere": others})
        return
    rows = [
        (o.resource_id, o.session_id, o.volume, format_size(o.bytes), brief(max(0.0, o.age_seconds)), o.would)
        for o in found.found
    ]
    print_table(("FILE", "SESSION", "VOLUME", ">SIZE", ">AGE", "WOULD"), rows, "No file is without an owner.")
    say(f"Of {count(found.files, 'file')} would destroy {found.destroy:,} ({format_size(found.bytes)}), seen twice.")
    if found.spare:
        say(f"Would spare {found.spare:,}: younger than {format_duration(there.settings.orphan_min_age)}.")
    if found.register:
        say(f"Would register {found.register:,} again: their sessions live.")
    for text in found.not_here:
        note(f"Not looked at: {text}")
    if found.unknown:
        note(f"{found.unknown:,} could not be looked at: unknown is not gone.")
    for scope in found.held:
        note(f"Held by {scope}: nothing would be destroyed. See `sessionsweep holds list`.")
    if others:
        note(f"On other nodes, not looked at: {', '.join(others)}.")


def _dry(found: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {"dry_run": True, **asdict(found)}


def _say_counts(name: str, result: dict[str, Any]) -> None:
    parts = [
        f"{key.replace('_', ' ')} {value}"
        for key, value in result.items()
        if value and key not in ("seconds", "held", "more", "next_due", "idle_held_until", "confirm_in", "bytes")
    ]
    if result.get("bytes"):
        parts.append(format_size(result["bytes"]))
    say(f"{name}: {', '.join(parts) or 'nothing to do'} ({result.get('seconds', 0):.1f} s)")
    if result.get("more"):
        note(f"{name}: not done yet; run it again, or with --wait.")
    if result.get("confirm_in"):
        note(f"{name}: what was seen for the first time can be confirmed in {brief(result['confirm_in'])}.")
    if result.get("idle_held_until"):
        note(f"{name}: idle ends are held; see `sessionsweep holds list`.")


def _finish(held: list[str]) -> None:
    """Exit status 1 where destruction is held: a cron job must not take that for done."""
    if held:
        note(f"Held at {', '.join(sorted(set(held)))}: see `sessionsweep holds list`.")
        raise typer.Exit(1)
