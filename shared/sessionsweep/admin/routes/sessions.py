"""`/admin/sessions` and `/admin/users`: list, show and end."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from sessionsweep.admin.desk import Here, Reader, Writer
from sessionsweep.admin.problems import BadRequestError, NotFoundError
from sessionsweep.admin.routes import receipts
from sessionsweep.admin.schemas import (
    CleanupOut,
    CountOut,
    EndedSessionOut,
    Limits,
    MetricsOut,
    ResourceCounts,
    SessionCounts,
    SessionOut,
    SessionsOut,
    TotalsOut,
    UserIn,
)
from sessionsweep.model.ids import is_session_id
from sessionsweep.model.states import EndReason
from sessionsweep.operator import fields, naming
from sessionsweep.operator.naming import Names
from sessionsweep.operator.queries import Life, SessionCase, show
from sessionsweep.operator.search import Wanted, find
from sessionsweep.sessions import lifecycle
from sessionsweep.sessions.view import Stats
from sessionsweep.units import parse_duration, parse_size

MOST = 1000  # sessions a page
router = APIRouter(tags=["sessions"])
router.include_router(receipts.router)
Id = Annotated[str, Path(description="The session's id: its public part.", max_length=200)]


@router.get("/sessions")
def list_sessions(
    here: Here,
    reader: Reader,
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
    user: Annotated[str | None, Query(max_length=255)] = None,
    address: Annotated[str | None, Query(max_length=64, description="The client's, when it began.")] = None,
    node: Annotated[str | None, Query(max_length=200, description="Where it was created.")] = None,
    idle_for: Annotated[str | None, Query(max_length=32, description="At least so long: `900`, `15m`.")] = None,
    bytes_over: Annotated[str | None, Query(max_length=32, description="Owns more than `1048576`, `1MB`.")] = None,
    state: Annotated[Life | None, Query(description="`live` or `due`.")] = None,
    resources: Annotated[bool, Query(description="List what each owns, too.")] = True,
) -> SessionsOut:
    """Sessions that haven't ended, those due first on top. Reading renews none of them."""
    wanted = Wanted(user, address, node, _duration(idle_for), _size(bytes_over), state)
    try:
        page = find(here.core, here.store, wanted, cursor, limit, resources=resources)
    except ValueError:
        raise BadRequestError("`cursor` is none that this listing returned; leave it out to begin anew.") from None
    names = here.run(naming.names(here.core)) if resources else Names({}, {})
    return SessionsOut(
        sessions=[_session(case, names) for case in page.cases],
        stats=_totals(here.sessions.stats()),
        next_cursor=page.next_cursor,
        looked_at=page.looked_at,
        resources_complete=resources and page.resources_complete,
    )


@router.get("/sessions/metrics")
def metrics(here: Here, reader: Reader) -> MetricsOut:
    """Totals and limits; the cost is the same at any number of sessions."""
    stats, s = here.sessions.stats(), here.settings
    gone = stats.resources
    return MetricsOut(
        sessions=SessionCounts(
            active=stats.active_sessions,
            total_created=stats.total_sessions_created,
            total_cleaned=stats.total_sessions_cleaned,
        ),
        resources=ResourceCounts(
            active=gone["active"],
            total_cleaned=gone["deleted"],
            active_bytes=max(0, stats.active_bytes),
            total_bytes_cleaned=max(0, stats.total_bytes_cleaned),
        ),
        limits=Limits(
            max_session_duration=s.max_duration,
            max_idle_time=s.idle_timeout,
            max_resources_per_session=s.max_resources_per_session,
            max_bytes_per_session=s.max_bytes_per_session,
            max_streams_per_session=s.max_streams_per_session,
            max_sessions=s.max_sessions or None,
            max_sessions_per_user=s.max_sessions_per_user or None,
        ),
    )


@router.get("/sessions/{session_id}")
def show_session(here: Here, reader: Reader, session_id: Id) -> SessionOut | EndedSessionOut:
    """One session in whatever state, with what it owns or owes; an ended one by its receipt. Renews nothing."""
    case = here.run(show(_known(session_id)))
    if case is None:
        raise NotFoundError("There is no such session: it never was, ended owning nothing, or its receipt is over.")
    names = here.run(naming.names(here.core))
    if case.record is not None:
        return _session(case, names)
    return EndedSessionOut(**fields.of_case(case, names))


@router.post("/sessions/{session_id}/cleanup")
def end_session(here: Here, writer: Writer, session_id: Id) -> CleanupOut:
    """Ends a session: unusable on every node from now on; the workers delete what it owned. Repeating is harmless."""
    ended = here.run(lifecycle.end(here.core, _known(session_id), EndReason.ADMIN))
    if not ended.done and ended.reason is None:
        raise NotFoundError("There is no such session: it never was, ended owning nothing, or its receipt is over.")
    reason = EndReason.ADMIN if ended.done else str(ended.reason)
    return CleanupOut(session_id=session_id, ended=ended.done, reason=reason, owed=ended.owed)


@router.post("/users/cleanup")
def end_user(here: Here, writer: Writer, whose: UserIn) -> CountOut:
    """Ends all of a user's sessions, or all but one."""
    except_id = None if whose.except_id is None else _known(whose.except_id)
    try:
        return CountOut(count=here.sessions.end_user(whose.user_id, except_id=except_id, reason=EndReason.ADMIN))
    except ValueError as error:
        raise BadRequestError(f"`user_id`: {error}") from None


def _known(session_id: str) -> str:
    """An id as it may be asked for. Whatever else it is may be a token, so it isn't repeated."""
    if not is_session_id(session_id):
        hint = " A token is secret: send only the part before the dot." if "." in session_id else ""
        raise NotFoundError(f"There is no such session; an id has 20 lower-case letters and digits.{hint}")
    return session_id


def _session(case: SessionCase, names: Names) -> SessionOut:
    assert case.record is not None
    return SessionOut(node=case.record.node, **fields.of_case(case, names))


def _totals(stats: Stats) -> TotalsOut:
    return TotalsOut(**{name: getattr(stats, name) for name in TotalsOut.model_fields})


def _duration(text: str | None) -> float | None:
    return None if text is None else _parsed("idle_for", parse_duration, text)


def _size(text: str | None) -> int | None:
    return None if text is None else _parsed("bytes_over", parse_size, text)


def _parsed(name: str, parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise BadRequestError(f"`{name}`: {error}") from None
