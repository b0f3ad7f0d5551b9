"""The door of the dashboard: log-in, log-out, who may see or do what, and what goes wrong as a page that says so."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from sessionsweep.admin.access import AccessError, Scope, ScopeError, TooManyWrongTokensError
from sessionsweep.admin.desk import Desk, Here, address_of
from sessionsweep.admin.pages.rendering import HEADERS, UI, base_of, page, static_files
from sessionsweep.admin.pages.visits import Visit, Visits
from sessionsweep.admin.problems import BadRequestError, NotFoundError, UnavailableError, of_error
from sessionsweep.errors import SessionSweepError, StoreError
from sessionsweep.integrations.forwarded import client_scheme

log = logging.getLogger(__name__)
COOKIE = "sessionsweep-admin"
FIELDS = 1200  # of a form: a page has 100 boxes to tick


class NoVisitError(SessionSweepError):
    """Nobody is logged in, or not any more."""


class ForeignFormError(SessionSweepError):
    """The form isn't one of our pages', or its visit is over."""

    def __init__(self) -> None:
        super().__init__("This form doesn't come from a page of this log-in. Open the page again and repeat.")


class PageRoute(APIRoute):
    """A route whose errors are pages too, and which keeps the visit of whoever asks for pages alive."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                response = await handle(request)
            except NoVisitError:
                return _to_log_in(request)
            except SessionSweepError as error:
                return _problem(request, error)
            except RequestValidationError as error:
                told = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
                return _problem(request, BadRequestError(told))
            visit = getattr(request.state, "visit", None)
            if visit is not None and not is_poll(request):
                renewed = request.app.state.visits.renewed(visit)
                if renewed is not None:
                    _set_cookie(request, response, request.app.state.visits.cookie(renewed))
            return response

        return answered


router = APIRouter(route_class=PageRoute)


def is_poll(request: Request) -> bool:
    """Whether a page that lies open asks by itself."""
    return request.headers.get("HX-Request") == "true"


def _visitor(request: Request) -> Visit:
    visits: Visits = request.app.state.visits
    visit = visits.read(request.cookies.get(_cookie_name(request)))
    if visit is None:
        raise NoVisitError
    request.state.visit = visit
    return visit


async def _form(request: Request) -> dict[str, list[str]]:
    """The fields of a form of our own origin. No other site may send one, logged in or not."""
    if not _is_own(request):
        raise ForeignFormError
    body = await request.body()
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except ValueError:  # no UTF-8, or more fields than any page has
        raise BadRequestError("The form can't be read.") from None


Form = Annotated[dict[str, list[str]], Depends(_form)]
Visitor = Annotated[Visit, Depends(_visitor)]


def _actor(request: Request, visit: Visitor, form: Form) -> Visit:
    visits: Visits = request.app.state.visits
    if not visits.is_form_token(visit, one(form, "form_token")):
        raise ForeignFormError
    refuse_readers(visit)
    return visit


Actor = Annotated[Visit, Depends(_actor)]


def refuse_readers(visit: Visit) -> None:
    """Raises ScopeError: this visit may change nothing, so there is nothing to confirm either."""
    if not visit.may_write:
        raise ScopeError


def one(form: dict[str, list[str]], name: str) -> str:
    """A field's value; empty where it is missing."""
    return form.get(name, [""])[0]


def back_to(request: Request, desk: Desk, path: str, **said: object) -> RedirectResponse:
    """After a form: the page to look at next, by GET. `said`: what it tells was done."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in said.items())
    return RedirectResponse(f"{base_of(request, desk)}{path}{'?' if query else ''}{query}", 303)


@router.get(f"{UI}/login")
def log_in_page(request: Request, following: Annotated[str, Query(alias="next")] = "") -> Response:
    """The form that asks for a token."""
    if request.app.state.visits.read(request.cookies.get(_cookie_name(request))) is not None:
        return back_to(request, request.app.state.desk, "/")
    return page(request, "login.html", next=_inside(request, following), wrong="")


@router.post(f"{UI}/login")
def log_in(request: Request, here: Here, form: Form) -> Response:
    """Begins a visit for a right token; as the API, an address may send few wrong ones."""
    following = _inside(request, one(form, "next"))
    try:
        grant = here.doorkeeper.check(one(form, "token").strip() or None, address_of(request, here), Scope.READ)
    except AccessError:
        return page(request, "login.html", 401, next=following, wrong="That is no valid token.")
    except TooManyWrongTokensError as error:
        wrong = f"Too many wrong tokens from this address. Try again in {error.retry_after} s."
        headers = {"Retry-After": str(error.retry_after)}
        return page(request, "login.html", 429, headers=headers, next=following, wrong=wrong)
    visits: Visits = request.app.state.visits
    response = RedirectResponse(following or f"{base_of(request, here)}/", 303)
    _set_cookie(request, response, visits.cookie(visits.begin(grant)))
    return response


@router.post(f"{UI}/logout")
def log_out(request: Request, here: Here, visit: Visitor, form: Form) -> Response:
    """Ends the visit, also for a copy of its cookie."""
    visits: Visits = request.app.state.visits
    if not visits.is_form_token(visit, one(form, "form_token")):
        raise ForeignFormError
    visits.end(visit)
    request.state.visit = None
    response = back_to(request, here, f"{UI}/login")
    response.delete_cookie(_cookie_name(request), path=base_of(request, here))
    response.headers["Clear-Site-Data"] = '"storage"'  # what charts collected
    return response


@router.get("")
def without_slash(request: Request, here: Here) -> Response:
    """The dashboard's address as people type it."""
    return back_to(request, here, "/")


def to_dashboard(request: Request) -> Response:
    """What is above us is nobody's where the admin side is served alone: a browser that asks for it is led here."""
    return back_to(request, request.app.state.desk, "/")


@router.get(f"{UI}/static/{{name}}")
def static(name: str) -> Response:
    """A file that pages load. No secret, so no log-in: the log-in page needs it, too."""
    file = static_files().get(name)
    if file is None:
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Cross-Origin-Resource-Policy": "same-origin"}
    return Response(file.body, media_type=file.media_type, headers=headers)


@router.get(f"{UI}/{{rest:path}}")
def nothing(rest: str, visit: Visitor) -> Response:
    """Any other address."""
    raise NotFoundError("There is no such page.")


def _problem(request: Request, error: SessionSweepError) -> Response:
    """What went wrong as a page, with the status and the words that the API has for it."""
    if isinstance(error, ForeignFormError):
        return page(request, "problem.html", 403, title="Not sent from here", detail=str(error))
    answer = of_error(error)
    if answer.status_code >= 500:
        log.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    title, detail = "Something went wrong", str(error)
    if isinstance(error, StoreError):
        title, detail = "The store doesn't answer", _told(answer.body)
    elif isinstance(error, UnavailableError):
        title = "Not available"
    elif answer.status_code == 404:
        title = "Not found"
    elif answer.status_code == 409:
        title = "Held"
    elif answer.status_code == 403:
        title = "This log-in may only read"
    elif answer.status_code == 500:
        detail = _told(answer.body)
    headers = {"Retry-After": answer.headers["Retry-After"]} if "Retry-After" in answer.headers else {}
    return page(request, "problem.html", answer.status_code, headers=headers, title=title, detail=detail)


def _told(body: bytes | memoryview) -> str:
    return str(json.loads(bytes(body))["detail"])


def _to_log_in(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    target = f"{base_of(request, desk)}{UI}/login"
    if request.method == "GET":
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        target += f"?next={quote(asked, safe='')}"
    if is_poll(request):  # a redirect would be followed, and its page put inside this one
        return Response(status_code=200, headers={**HEADERS, "HX-Redirect": target})
    return RedirectResponse(target, 303)


def _inside(request: Request, target: str) -> str:
    """A target after the log-in, if it is a page of ours; else nothing: no link may lead elsewhere through us."""
    base = base_of(request, request.app.state.desk)
    plain = target.startswith(f"{base}/") and target.isascii() and target.isprintable()
    return target if plain and "\\" not in target and "//" not in target.partition("?")[0] else ""


def _is_own(request: Request) -> bool:
    """Whether a page of this origin sent the request. A browser says so; what says nothing is none, or too old."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")


def _is_https(request: Request) -> bool:
    desk: Desk = request.app.state.desk
    peer = request.client.host if request.client else None
    forwarded_for, forwarded_proto = (
        ", ".join(request.headers.getlist(name)) for name in ("x-forwarded-for", "x-forwarded-proto")
    )
    proxies = desk.settings.trusted_proxies
    return client_scheme(request.url.scheme, peer, forwarded_for, forwarded_proto, proxies) == "https"


def _cookie_name(request: Request) -> str:
    """By https a name that browsers take from https only (ASVS 3.3.1)."""
    return f"__Secure-{COOKIE}" if _is_https(request) else COOKIE


def _set_cookie(request: Request, response: Response, value: str) -> None:
    response.set_cookie(
        _cookie_name(request),
        value,
        path=base_of(request, request.app.state.desk),
        secure=_is_https(request),
        httponly=True,
        samesite="strict",
    )
