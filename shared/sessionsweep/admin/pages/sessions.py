"""Pages of sessions: the table with its search, one or its receipt, and ending one, some, or all of a user's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from sessionsweep.admin.desk import Here
from sessionsweep.admin.pages.entry import Actor, Form, PageRoute, Visitor, back_to, one, refuse_readers
from sessionsweep.admin.pages.rendering import UI, page
from sessionsweep.admin.problems import BadRequestError, NotFoundError
from sessionsweep.errors import RecordUnreadableError
from sessionsweep.model.ids import is_session_id
from sessionsweep.model.session import MAX_USER
from sessionsweep.model.states import EndReason
from sessionsweep.operator import fields, naming
from sessionsweep.operator.queries import Life
from sessionsweep.operator.queries import show as shown
from sessionsweep.operator.search import Wanted, find
from sessionsweep.operator.wording import count
from sessionsweep.sessions import lifecycle
from sessionsweep.units import parse_duration, parse_size

log = logging.getLogger(__name__)

MOST = 50  # sessions a page
SELECTED = 100  # that may be ended at once; ends are atomic each, one by one
LONGEST = 500  # characters of a filter
router = APIRouter(route_class=PageRoute)
Text = Annotated[str, Query(max_length=LONGEST)]


@router.get(f"{UI}/sessions")
def table(
    request: Request,
    here: Here,
    visit: Visitor,
    session: Text = "",
    user: Text = "",
    address: Text = "",
    idle_for: Text = "",
    bytes_over: Text = "",
    state: Text = "",
    cursor: Text = "",
    ended: Annotated[int, Query(ge=0, le=10**9)] = -1,
    unreadable: Annotated[int, Query(ge=0, le=SELECTED)] = 0,
) -> Response:
    """The sessions that fit, those due first on top. Reading renews none of them."""
    wrong, values = "", dict[str, Any]()
    asked = {"user": user, "address": address, "idle_for": idle_for, "bytes_over": bytes_over, "state": state}
    filled = {name: value.strip() for name, value in asked.items() if value.strip()}
    if session.strip():
        if is_session_id(session.strip()):
            return back_to(request, here, f"{UI}/sessions/{session.strip()}")
        wrong = _no_id(session)
    else:
        try:
            page_ = find(here.core, here.store, _wanted(filled), cursor or None, MOST)
            values = {"sessions": [fields.of_case(case, naming.Names({}, {})) for case in page_.cases]}
            values |= {"next_cursor": page_.next_cursor, "looked_at": page_.looked_at}
        except ValueError as error:
            wrong = "This page's place in the list is none any more: begin anew." if cursor else str(error)
    return page(
        request,
        "sessions.html",
        422 if wrong else 200,
        asked=asked,
        session=session,
        wrong=wrong,
        paged=bool(cursor),
        filled=filled,
        query=urlencode(filled),
        states=[Life.LIVE, Life.DUE],
        said=f"{count(ended, 'session')} ended.{_left(unreadable)}" if ended >= 0 else None,
        **({"sessions": [], "next_cursor": None, "looked_at": 0} | values),
    )


@router.get(f"{UI}/sessions/end")
def confirm_selected(
    request: Request, here: Here, visit: Visitor, ids: Annotated[tuple[str, ...], Query(alias="id")] = ()
) -> Response:
    """Asks once more before the selected are ended."""
    refuse_readers(visit)
    chosen = _selected(ids)
    if not chosen:
        return back_to(request, here, f"{UI}/sessions")
    question = f"End {count(len(chosen), 'session')}?"
    return _confirm(request, question, f"{UI}/sessions/end", items=chosen, fields=[("id", value) for value in chosen])


@router.post(f"{UI}/sessions/end")
def end_selected(request: Request, here: Here, visit: Actor, form: Form) -> Response:
    """Ends the selected. One that has ended meanwhile, or can't be read, is left as it is."""
    done = unreadable = 0
    for value in _selected(form.get("id", [])):
        try:
            done += here.run(lifecycle.end(here.core, value, EndReason.ADMIN)).done
        except RecordUnreadableError as error:
            log.warning("session %s can't be ended: %s", value, error)  # the others are
            unreadable += 1
    return back_to(request, here, f"{UI}/sessions", ended=done, **({"unreadable": unreadable} if unreadable else {}))


@router.get(f"{UI}/users/end")
def confirm_user(request: Request, visit: Visitor, user: Text) -> Response:
    """Asks once more before all of a user's are ended."""
    refuse_readers(visit)
    return _confirm(request, f"End all sessions of {user}?", f"{UI}/users/end", fields=[("user", user)])


@router.post(f"{UI}/users/end")
def end_user(request: Request, here: Here, visit: Actor, form: Form) -> Response:
    """Ends all of a user's sessions."""
    user = one(form, "user")
    if not 0 < len(user.encode("utf-8", "replace")) <= MAX_USER:
        raise BadRequestError("There is no user of that name.")
    try:
        done = here.sessions.end_user(user, reason=EndReason.ADMIN)
    except ValueError as error:
        raise BadRequestError(str(error)) from None
    return back_to(request, here, f"{UI}/sessions", ended=done)


@router.get(f"{UI}/sessions/{{session_id}}")
def show(
    request: Request, here: Here, visit: Visitor, session_id: str, ended: Annotated[str, Query(max_length=3)] = ""
) -> Response:
    """One session in whatever state: what it owns, or its receipt. Its data isn't shown."""
    case = here.run(shown(_known(session_id)))
    if case is None:
        raise NotFoundError("There is no such session: it never was, ended owning nothing, or its receipt is over.")
    names = here.run(naming.names(here.core))
    told = fields.of_case(case, names)
    done = "It has been ended; its user's next request is refused. The workers delete what it owned."
    return page(request, "session.html", one=told, case=case, names=names, said=done if ended else None)


@router.get(f"{UI}/sessions/{{session_id}}/end")
def confirm_one(request: Request, here: Here, visit: Visitor, session_id: str) -> Response:
    """Asks once more before it is ended."""
    refuse_readers(visit)
    case = here.run(shown(_known(session_id)))
    if case is None or case.record is None:
        return back_to(request, here, f"{UI}/sessions/{session_id}")
    r = case.record
    whose = f" of {r.user}" if r.user else ""
    items = [f"{session_id}{whose}, which owns {count(r.resource_count, 'resource')}"]
    return _confirm(request, "End this session?", f"{UI}/sessions/{session_id}/end", items=items)


@router.post(f"{UI}/sessions/{{session_id}}/end")
def end(request: Request, here: Here, visit: Actor, session_id: str) -> Response:
    """Ends it. Repeating is harmless."""
    done = here.run(lifecycle.end(here.core, _known(session_id), EndReason.ADMIN))
    if done.done and not done.owed:  # there is no receipt to show
        return back_to(request, here, f"{UI}/sessions", ended=1)
    return back_to(request, here, f"{UI}/sessions/{session_id}", ended="yes")


def _confirm(request: Request, question: str, action: str, **more: Any) -> Response:
    consequence = (
        "Whoever uses it has to begin anew at the next request, on every node. What it owns is deleted. "
        "This can't be taken back."
    )
    return page(
        request,
        "confirm.html",
        **{
            "question": question,
            "action": action,
            "consequence": consequence,
            "label": "End",
            "items": [],
            "fields": [],
        }
        | {"back": f"{UI}/sessions"}
        | more,
    )


def _wanted(asked: dict[str, str]) -> Wanted:
    """What to look for. Raises ValueError: a field says nothing that can be looked for."""
    state = asked.get("state")
    if state not in (None, Life.LIVE, Life.DUE):
        raise ValueError("A state is live or due.")
    return Wanted(
        asked.get("user"),
        asked.get("address"),
        None,
        parse_duration(asked["idle_for"]) if "idle_for" in asked else None,
        parse_size(asked["bytes_over"]) if "bytes_over" in asked else None,
        Life(state) if state else None,
    )


def _selected(ids: Sequence[str]) -> list[str]:
    chosen = list(dict.fromkeys(ids))
    if len(chosen) > SELECTED:
        raise BadRequestError(f"Select at most {SELECTED} sessions.")
    return [_known(value) for value in chosen]


def _known(session_id: str) -> str:
    if not is_session_id(session_id):
        raise NotFoundError(_no_id(session_id))
    return session_id


def _left(unreadable: int) -> str:
    return f" {count(unreadable, 'record')} can't be read and stayed; the log names each." if unreadable else ""


def _no_id(text: str) -> str:
    """Of what is no id. It may be a token, so it isn't repeated."""
    hint = " A token is secret: give only the part before the dot." if "." in text else ""
    return f"An id has 20 lower-case letters and digits.{hint}"
