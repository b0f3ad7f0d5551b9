"""Pages of events: what happens, as it happens; and one session's timeline."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute

from sessionsweep.admin.access import AccessError
from sessionsweep.admin.desk import Here
from sessionsweep.admin.pages.entry import NoVisitError, PageRoute, Visitor
from sessionsweep.admin.pages.rendering import UI, page
from sessionsweep.admin.pages.visits import IDLE, LONGEST, Visit, Visits
from sessionsweep.admin.problems import NotFoundError, of_error
from sessionsweep.admin.routes.events import follow as following
from sessionsweep.admin.routes.events import may_not_stream, place
from sessionsweep.model.events import Event, EventName
from sessionsweep.model.ids import is_session_id
from sessionsweep.operator import naming, timeline
from sessionsweep.operator.events import of_event
from sessionsweep.operator.timeline import Wanted
from sessionsweep.store import operations as op
from sessionsweep.units import moment

RECENT = 15 * 60_000  # ms that the page looks back when it is opened
SHOWN = 100  # events on it then; its script keeps as many again
TIMELINE = 500  # events of a session's timeline: its first and its last
#: What somebody should look at.
GRAVE = (
    EventName.RESOURCE_FAILED,
    EventName.RESOURCE_DEAD_LETTERED,
    EventName.HOLD_SET,
    EventName.LIMIT_REACHED,
    EventName.EVENTS_LOST,
)
router = APIRouter(route_class=PageRoute)
Text = Annotated[str, Query(max_length=200)]


@router.get(f"{UI}/events")
def show(request: Request, here: Here, visit: Visitor, name: Text = "", session: Text = "") -> Response:
    """What happened lately, the newest on top; the page's script goes on with what happens."""
    wrong, wanted = "", Wanted()
    try:
        wanted = _wanted(name, session)
    except ValueError as error:
        wrong = str(error)
    since = max(0, here.store.execute(op.Facts()).now - RECENT)
    with here.one_of_few():
        latest = timeline.latest(here.core, here.store, SHOWN, wanted, since)
    names = here.run(naming.names(here.core))
    return page(
        request,
        "events.html",
        422 if wrong else 200,
        events=[of_event(event, names) for event in reversed(latest.events)],
        cursor=str(latest.cursors),
        since=moment(latest.since) if latest.since > since else None,
        asked={"name": name, "session": "" if wrong else session.strip()},
        filled=bool(name or session),
        wrong=wrong,
        names=list(EventName),
        grave=GRAVE,
        shown=SHOWN,
        is_live=not may_not_stream(request),
    )


@router.get(f"{UI}/sessions/{{session_id}}/timeline")
def replay(request: Request, here: Here, visit: Visitor, session_id: str) -> Response:
    """What is kept of one session's life. Reading renews nothing."""
    if not is_session_id(session_id):
        raise NotFoundError("There is no such session.")
    with here.one_of_few():
        line = timeline.replay(here.core, here.store, session_id)
    if not line.events and line.case is None:
        raise NotFoundError("Nothing is known of that session: it never was, or all of it is over.")
    names = here.run(naming.names(here.core))
    half = TIMELINE // 2
    left_out = max(0, len(line.events) - TIMELINE)
    told = (*line.events[:half], *line.events[-half:]) if left_out else line.events
    return page(
        request,
        "timeline.html",
        line=line,
        events=[{**of_event(event, names), "after": _after(event, line.events[0])} for event in told],
        left_out=left_out,
        half=half,
        grave=GRAVE,
    )


def _after(event: Event, first: Event) -> str:
    seconds = (event.at - first.at) / 1000
    if seconds < 60:
        return f"+{seconds:.3f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"+{minutes // 60}h{minutes % 60:02d}m{rest:02d}s" if minutes >= 60 else f"+{minutes}m{rest:02d}s"


def _wanted(name: str, session: str) -> Wanted:
    """Raises ValueError: one of them is none."""
    if name and name not in set(EventName):
        raise ValueError("There is no event of that name.")
    if session.strip() and not is_session_id(session.strip()):
        hint = " A token is secret: give only the part before the dot." if "." in session else ""
        raise ValueError(f"An id has 20 lower-case letters and digits.{hint}")
    return Wanted(frozenset({EventName(name)} if name else ()), session.strip() or None)


class FollowRoute(APIRoute):
    """A script asks, not a person: no visit lasts longer for it, and without one it is told so in a status."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except NoVisitError:
                return of_error(AccessError())

        return answered


follow_router = APIRouter(route_class=FollowRoute)


@follow_router.get(f"{UI}/events/stream")
def follow(
    request: Request,
    here: Here,
    visit: Visitor,
    name: Text = "",
    session: Text = "",
    cursor: Annotated[str, Query(max_length=timeline.LONGEST)] = "",
    last_event_id: Annotated[str, Header(max_length=timeline.LONGEST)] = "",
) -> Response:
    """The page's feed, by the visit's cookie; it ends with the visit, by its time or by a log-out."""
    try:
        wanted = _wanted(name, session)
    except ValueError as error:
        raise NotFoundError(str(error)) from None
    begun = place(here, last_event_id or cursor or None, None)
    visits: Visits = request.app.state.visits
    return following(request, wanted, begun, visit.grant, _end_of(visit), lambda: visits.is_ended(visit))


def _end_of(visit: Visit) -> datetime:
    end = datetime.fromtimestamp(min(visit.seen + IDLE, visit.began + LONGEST), UTC)
    return end if visit.grant.until is None else min(end, visit.grant.until)
