"""`GET /admin/events`: what happened, page by page; or what happens, as server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field

from sessionsweep.admin.access import Grant
from sessionsweep.admin.desk import Desk, Here, Reader
from sessionsweep.admin.feed import Feed, Following
from sessionsweep.admin.problems import BadRequestError, UnavailableError
from sessionsweep.integrations.events import MIMETYPE
from sessionsweep.model.events import EventName
from sessionsweep.model.ids import is_session_id
from sessionsweep.operator import naming, timeline
from sessionsweep.operator.events import of_event
from sessionsweep.operator.timeline import Cursors, Wanted
from sessionsweep.store import operations as op
from sessionsweep.units import parse_duration

MOST = 1000
router = APIRouter(tags=["events"])


class EventOut(BaseModel):
    """Something that happened. Its name and fields are those of docs/events.md."""

    id: str
    at: datetime
    name: EventName
    session_id: str | None = None
    resource_id: str | None = None
    fields: dict[str, str | int] = {}
    told: str = Field(description="The event in words.")


class EventsOut(BaseModel):
    """A page of events, the oldest first. One that is short isn't the last unless `next_cursor` is null."""

    events: list[EventOut]
    next_cursor: str | None = Field(None, description="Where the next page begins; null: there is none now.")
    cursor: str = Field(description="Where this page ended, for whoever comes back later.")


@router.get(
    "/events",
    response_model=EventsOut,
    responses={
        200: {
            "description": "A page; or, asked for with `Accept: text/event-stream`, events as they happen.",
            "content": {MIMETYPE: {"schema": {"type": "string"}}},
        }
    },
)
def list_events(
    request: Request,
    here: Here,
    reader: Reader,
    limit: Annotated[int, Query(ge=1, le=MOST, description="Of a page.")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=timeline.LONGEST, description="`next_cursor` of the page before.")
    ] = None,
    since: Annotated[str | None, Query(max_length=32, description="Only of the last `600`, `10m`.")] = None,
    session: Annotated[str | None, Query(max_length=200, description="Only of this session's id.")] = None,
    name: Annotated[list[EventName] | None, Query(max_length=50, description="Only of these names.")] = None,
    last_event_id: Annotated[
        str | None, Header(max_length=timeline.LONGEST, description="Of a stream that was cut off: where it goes on.")
    ] = None,
) -> Response | EventsOut:
    """What happened, the oldest first, from the oldest that is kept; with `Accept: text/event-stream` what happens from
    now on, or from `cursor` or `since` on."""
    wanted = Wanted(frozenset(name or ()), _known(session))
    streamed = wants_stream(request)
    if streamed:
        begun = place(here, last_event_id or cursor, since)
        return follow(request, wanted, begun, reader)
    begun = place(here, cursor, since)
    names = here.run(naming.names(here.core))
    known = here.run(timeline.streams(here.core, wanted.session_id))
    with here.one_of_few():
        read = timeline.page(here.store, (begun or Cursors({})).over(known), limit, wanted)
    behind = str(read.cursors)
    return EventsOut(
        events=[EventOut(**of_event(event, names)) for event in read.events],
        next_cursor=behind if read.more else None,
        cursor=behind,
    )


def wants_stream(request: Request) -> bool:
    """Whether a client asks for server-sent events."""
    return any(
        one.partition(";")[0].strip().lower() == MIMETYPE
        for line in request.headers.getlist("accept")
        for one in line.split(",")
    )


def follow(
    request: Request,
    wanted: Wanted,
    begun: Cursors | None,
    grant: Grant,
    until: datetime | None = None,
    is_over: Callable[[], bool] | None = None,
) -> Response:
    """The answer to whoever follows by this token, at most `until`.

    Raises:
        UnavailableError: there are too many, or this is a WSGI server, where each would hold a thread of the app's.
    """
    if may_not_stream(request):
        raise UnavailableError("This app is served by WSGI, where an open stream holds a thread: poll the JSON pages.")
    feed: Feed = request.app.state.feed
    return Following(feed.follow(wanted, begun, until or grant.until, is_over, grant.digest))


def may_not_stream(request: Request) -> bool:
    """Whether a request came through a WSGI server (as a2wsgi says in its scope)."""
    return "wsgi_environ" in request.scope


def place(here: Desk, cursor: str | None, since: str | None) -> Cursors | None:
    """Where to begin; None: nobody said.

    Raises:
        BadRequestError: what was said is impossible.
    """
    if cursor is not None and since is not None:
        raise BadRequestError("`cursor` and `since` are both places to begin: leave one out.")
    try:
        if cursor is not None:
            return Cursors.decode(cursor)
    except ValueError:
        raise BadRequestError("`cursor` is none that this listing returned; leave it out to begin anew.") from None
    if since is None:
        return None
    try:
        seconds = parse_duration(since)
    except ValueError as error:
        raise BadRequestError(f"`since`: {error}") from None
    now = here.store.execute(op.Facts()).now
    return Cursors.of(here.run(timeline.streams(here.core)), max(0, now - round(seconds * 1000)))


def _known(session_id: str | None) -> str | None:
    """An id as it may be asked for. Whatever else it is may be a token, so it isn't repeated."""
    if session_id is not None and not is_session_id(session_id):
        hint = " A token is secret: send only the part before the dot." if "." in session_id else ""
        raise BadRequestError(f"`session`: an id has 20 lower-case letters and digits.{hint}")
    return session_id
