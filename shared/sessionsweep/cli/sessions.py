"""`sessions`: list, show and end sessions."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sessionsweep.cli.connecting import deployment
from sessionsweep.cli.options import Json, Yes, confirm, session_id
from sessionsweep.cli.output import brief, count, note, print_json, print_listing, print_pairs, print_table, say
from sessionsweep.cli.watching import Watch, Watchable, watched
from sessionsweep.errors import SessionSweepError
from sessionsweep.model.receipts import ReceiptPlace
from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.states import EndReason
from sessionsweep.operator import causes, fields, naming
from sessionsweep.operator.naming import Names
from sessionsweep.operator.queries import SessionCase, show
from sessionsweep.operator.reached import Deployment
from sessionsweep.operator.wording import owing
from sessionsweep.sessions import lifecycle
from sessionsweep.sessions.sync import Session
from sessionsweep.sessions.view import Resource, SessionView
from sessionsweep.units import format_size, moment

app = typer.Typer(no_args_is_help=True, help="Sessions.")
Id = Annotated[str, typer.Argument(metavar="ID", help="The session's id: its public part.", callback=session_id)]


@app.command("list", cls=Watchable)
def list_(
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on from an earlier list.")] = None,
    watch: Watch = None,
    as_json: Json = False,
) -> None:
    """List live sessions, those due first on top. Reading renews nothing."""
    watched(watch, as_json, lambda: _list(user, limit, cursor, as_json))


def _list(user: str | None, limit: int, cursor: str | None, as_json: bool) -> None:
    with deployment() as here:
        found, following = _pages(here, user, cursor, limit)
    if as_json:
        print_json({"sessions": [fields.of_session(session) for session in found], "next_cursor": following})
        return
    rows = [
        (
            s.id,
            s.user or "-",
            brief((s.read_at - s.created_at).total_seconds()),
            brief((s.read_at - s.last_activity).total_seconds()),
            s.request_count,
            s.resource_count + s.stream_count,
            format_size(s.bytes_used),
        )
        for s in found
    ]
    columns = ("ID", "USER", ">AGE", ">IDLE", ">REQ", ">RES", ">SIZE")
    print_table(columns, rows, "No live sessions." if following is None else "None on this page.")
    if following is not None:
        note(f"More: --cursor {following}")


def _pages(here: Deployment, user: str | None, cursor: str | None, limit: int) -> tuple[list[Session], str | None]:
    """Page after page, for one may be short, until there are `limit`."""
    found: dict[str, Session] = {}
    while True:
        try:
            page, cursor = here.sessions.list(user, cursor, min(limit - len(found), 500))
        except ValueError:
            raise typer.BadParameter(f"{cursor!r} is no cursor of a list; leave it out to begin anew") from None
        found.update((session.id, session) for session in page)
        if cursor is None or len(found) >= limit:
            return list(found.values()), cursor


@app.command("show")
def show_(the_id: Id, as_json: Json = False) -> None:
    """Show one session, live or ended, and what it owns or still owes. Its data isn't shown."""
    with deployment() as here:
        case = here.run(show(the_id))
        names = here.run(naming.names(here.core))
    if case is None:
        raise SessionSweepError(
            f"There is no session {the_id}: it never was, ended owning nothing, or its receipt's time is over."
        )
    if as_json:
        print_json(fields.of_case(case, names))
        return
    print_pairs(_pairs(case))
    if case.tombstone is not None and case.tombstone.places:
        say("")
        heads = ("WHERE", ">DELETED", ">SIZE", ">GONE", ">PROMOTED", ">FORGOTTEN", ">FAILURES", ">DEAD")
        print_listing(heads, [_became(place, names) for place in case.tombstone.places], "")
    if case.resources:
        say("")
        print_listing(
            ("ID", "STATE", "KIND", ">SIZE", ">TRIES"), [_resource(r, case, names) for r in case.resources], ""
        )


def _became(p: ReceiptPlace, names: Names) -> tuple[tuple[object, ...], list[str]]:
    """What became of what it had at one location; below it why something couldn't be deleted."""
    below = [f"last {moment(p.last):%Y-%m-%d %H:%M:%S} UTC"] if p.last else []
    if p.error:
        below.append(f"failed {moment(p.failed_at):%Y-%m-%d %H:%M:%S} UTC: {causes.explained(p.error)}")
    size = format_size(p.bytes_deleted)
    numbers = (p.gone, p.promoted, p.forgotten, p.failures, p.dead_letters)
    return (names.label(p.location), p.deleted, size, *numbers), below


def _resource(r: ResourceRecord, case: SessionCase, names: Names) -> tuple[tuple[object, ...], list[str]]:
    """A row, and what stands below it: where it lies, and why it couldn't be deleted."""
    path = names.path(case.session_id, r)
    below = [f"{names.label(r.location)}: {path}" if path else names.label(r.location)]
    if r.error:
        below.append(causes.explained(r.error))
    return (r.resource_id, fields.state_of(r, case), Resource.of(r).kind, format_size(r.size), r.tries or "-"), below


def _pairs(case: SessionCase) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = [("session", case.session_id), ("state", case.life)]
    if case.record is not None:
        s = SessionView(case.record, case.now)
        pairs += [
            ("user", s.user or "-"),
            ("created", f"{s.created_at:%Y-%m-%d %H:%M:%S} UTC, from {s.ip or 'an unknown address'}"),
            ("user agent", s.user_agent or "-"),
            ("idle", brief((s.read_at - s.last_activity).total_seconds())),
            ("ends in", brief(s.expires_in)),
            ("requests", s.request_count),
            (
                "owns",
                f"{count(s.resource_count, 'resource')}, {count(s.stream_count, 'stream')}, "
                f"{format_size(s.bytes_used)}",
            ),
        ]
    elif case.tombstone is not None:
        t = case.tombstone
        pairs += [
            ("user", t.user or "-"),
            ("ended", f"{moment(t.ended):%Y-%m-%d %H:%M:%S} UTC ({t.reason})"),
            ("lasted", brief((t.ended - t.created) / 1000) if t.created else "unknown: its record was lost"),
            ("had", "-" if t.owned is None else f"{count(t.owned, 'resource')}, {format_size(t.bytes_owned)}"),
            ("still owed", owing(t)),
            ("deleted", f"{count(t.deleted, 'resource')}, {format_size(t.bytes_deleted)}"),
        ]
    return pairs


@app.command()
def end(
    the_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The session's id: its public part.", callback=session_id)
    ] = None,
    key: Annotated[str | None, typer.Option(help="The app's own key of a tracked session; - reads it.")] = None,
    yes: Yes = False,
) -> None:
    """End a session: unusable everywhere from now on, its resources reclaimed at once."""
    if (the_id is None) == (key is None):
        raise typer.BadParameter("give either a session's id or --key")
    confirm(f"End {f'session {the_id}' if the_id else 'the session of that key'}?", yes)  # the key may be secret
    if key == "-":  # and what stands among a program's arguments, every user of the machine can read
        key = sys.stdin.readline().rstrip("\n")
    if key == "":
        raise typer.BadParameter("--key is empty")
    with deployment() as here:
        if key is not None:
            if not here.sessions.end(key=key, reason=EndReason.ADMIN):
                raise SessionSweepError("No live session is tracked under that key.")  # the key may be secret
            say("Ended.")
            return
        assert the_id is not None
        ended = here.run(lifecycle.end(here.core, the_id, EndReason.ADMIN))
    if ended.done:
        say(f"Ended {the_id}; {count(ended.owed, 'resource')} owed.")
    elif ended.reason is not None:
        say(f"{the_id} had ended already ({ended.reason}).")
    else:
        raise SessionSweepError(f"There is no live session {the_id}: it ended owning nothing, or never was.")
