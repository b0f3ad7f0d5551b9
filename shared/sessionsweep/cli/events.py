"""`events`: what happened and what happens; `sessions replay`: one session's timeline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json, duration, session_id
from sessionsweep.cli.output import complain, count, lines_of_json, note, out, print_json, printable, say
from sessionsweep.errors import SessionSweepError, StoreError
from sessionsweep.model.events import Event, EventName
from sessionsweep.operator import fields, naming, timeline
from sessionsweep.operator.events import of_event, told
from sessionsweep.operator.naming import Names
from sessionsweep.operator.queries import Life, SessionCase
from sessionsweep.operator.reached import Deployment
from sessionsweep.operator.timeline import Cursors, Wanted
from sessionsweep.operator.wording import brief, owing
from sessionsweep.sessions.view import SessionView
from sessionsweep.store import operations as op
from sessionsweep.units import moment

PAGE = 500
POLL = 1.0  # seconds between two looks while following
NAMED = max(map(len, EventName))


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only of so long ago: 600, 10m.", callback=duration)
    ] = None,
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this session.", callback=session_id)
    ] = None,
    name: Annotated[list[EventName] | None, typer.Option(help="Only of this name; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an event a line.")] = False,
) -> None:
    """What happened, as long as it is kept, the oldest first; with --follow what happens from now on."""
    wanted = Wanted(frozenset(name or ()), session)
    with deployment() as here:
        names = here.run(naming.names(here.core))
        begun = _begin(here, wanted, since, now=follow)  # type: ignore[arg-type]  # the callback made seconds of it
        try:
            for event in _read(here, begun, wanted, follow=follow):
                _print(event, names, as_json=as_json)
        except KeyboardInterrupt:
            return


def _begin(here: Deployment, wanted: Wanted, since: float | None, *, now: bool) -> Cursors:
    known = here.run(timeline.streams(here.core, wanted.session_id))
    if since is not None:
        return Cursors.of(known, max(0, here.store.execute(op.Facts()).now - round(since * 1000)))
    return Cursors.of(known, now=now)


def _read(here: Deployment, cursors: Cursors, wanted: Wanted, *, follow: bool) -> Iterator[Event]:
    """Page after page. While it follows, a store that is away is told of, and looked for again."""
    away = False
    while True:
        try:
            read = timeline.page(here.store, cursors, PAGE, wanted)
        except StoreError as error:
            if not follow:
                raise
            if not away:
                complain(str(error))
            away = True
        else:
            away, cursors = False, read.cursors
            yield from read.events
            if read.more:
                continue
            if not follow:
                return
        threading.Event().wait(POLL)


def _print(event: Event, names: Names, *, as_json: bool) -> None:
    if as_json:
        with lines_of_json():
            print_json(of_event(event, names))
    else:
        at = _time(moment(event.at))
        say(f"{at}  {event.name:<{NAMED}}  {event.session_id or '-':<20}  {told(event, names)}")


def replay(
    the_id: Annotated[
        str, typer.Argument(metavar="ID", help="The session's id: its public part.", callback=session_id)
    ],
    as_json: Json = False,
) -> None:
    """Replay a session: what happened to it and to what it owned, and how it stands now. Reading renews nothing."""
    with deployment() as here:
        line = timeline.replay(here.core, here.store, the_id)
        names = here.run(naming.names(here.core))
    if not line.events and line.case is None:
        raise SessionSweepError(
            f"Nothing is known of session {the_id}: it never was, or its receipt and its events are no longer kept."
        )
    if as_json:
        now = None if line.case is None else fields.of_case(line.case, names)
        shown = [of_event(event, names) for event in line.events]
        print_json({"session_id": the_id, "complete": line.complete, "events": shown, "now": now})
        return
    _draw(line.events, names)
    if not line.complete:
        note("What was before is no longer kept: a partition's stream holds its last 10,000 events.")
    say("")
    say(f"Now: {_stands(line.case)}")


def _draw(told_of: tuple[Event, ...], names: Names) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("TIME (UTC)", no_wrap=True, style="dim")
    table.add_column("AFTER", no_wrap=True, justify="right")
    table.add_column("WHAT", overflow="fold")
    for event in told_of:
        after = timedelta(milliseconds=event.at - told_of[0].at)
        table.add_row(
            _time(moment(event.at)), _offset(after), Text(printable(told(event, names)), _STYLES.get(event.name, ""))
        )
    out().print(table)


#: What somebody looks for in a long timeline.
_STYLES = {
    EventName.SESSION_CREATED: "green",
    EventName.SESSION_ENDED: "bold",
    EventName.LIMIT_REACHED: "yellow",
    EventName.SESSION_ADDRESS_CHANGED: "yellow",
    EventName.RESOURCE_FAILED: "red",
    EventName.RESOURCE_DEAD_LETTERED: "red",
    EventName.EVENTS_LOST: "red",
}


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def _offset(after: timedelta) -> str:
    seconds = after.total_seconds()
    return f"+{seconds:.3f}s" if seconds < 60 else f"+{brief(seconds)}"


def _stands(case: SessionCase | None) -> str:
    if case is None:
        return "it ended; it owed nothing, or its receipt is no longer kept."
    if case.record is not None:
        view = SessionView(case.record, case.now)
        what = "due: dead to every request, ended by the next sweep" if case.life is Life.DUE else "live"
        return f"{what}; it owns {count(view.resource_count, 'resource')} and {count(view.stream_count, 'stream')}."
    if case.tombstone is None:
        return f"ended; {count(len(case.resources), 'resource')} left."
    t = case.tombstone
    return f"ended ({t.reason}); {count(t.deleted, 'resource')} deleted, {owing(t)} owed."
