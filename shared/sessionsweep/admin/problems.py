"""What a client of the admin side is told of each error: RFC 9457's `application/problem+json`, never a trace."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from sessionsweep.admin.access import AccessError, ScopeError, TooManyWrongTokensError
from sessionsweep.errors import (
    HeldError,
    InvalidTokenError,
    OutcomeUnknownError,
    RecordUnreadableError,
    ResourceNotFoundError,
    SessionSweepError,
    StoreError,
    VolumeError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5  # seconds; a server that restarts is back by then
_HTTP = {
    400: "The body can't be read; send JSON in UTF-8.",
    404: "There is nothing here; /admin/openapi.json describes what there is.",
    405: "Not by this method: reading is GET, every change is POST. /admin/openapi.json describes what there is.",
}


class NotFoundError(SessionSweepError):
    """Nothing has that name."""


class BadRequestError(SessionSweepError):
    """A value is impossible; the message names it and the fix."""


class TooLargeError(HTTPException):
    """A request's body is over `most` bytes; raised while it is read."""

    def __init__(self, most: int) -> None:
        super().__init__(413, f"Send at most {most} bytes.")


class UnavailableError(SessionSweepError):
    """Something that this needs isn't there now: the broker, the workers."""


class NoWorkersError(UnavailableError):
    """This deployment has no workers that take orders, and won't have by itself."""


def problem(
    status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """An answer of RFC 9457: `status`, `title`, `detail`, and what else helps."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)


def of_error(error: SessionSweepError) -> JSONResponse:
    """Our own errors. A driver's words name hosts, so of a store that is away only that is told."""
    if isinstance(error, TooManyWrongTokensError):
        return problem(429, "Too many requests", str(error), {"Retry-After": str(error.retry_after)})
    if isinstance(error, AccessError):
        return problem(401, "Unauthorized", str(error), {"WWW-Authenticate": 'Bearer realm="sessionsweep"'})
    if isinstance(error, ScopeError):
        return problem(403, "Forbidden", str(error))
    if isinstance(error, BadRequestError):
        return problem(422, "Unprocessable content", str(error))
    if isinstance(error, NotFoundError | ResourceNotFoundError | InvalidTokenError):
        return problem(404, "Not found", str(error))
    if isinstance(error, HeldError | NoWorkersError):
        return problem(409, "Conflict", str(error))
    if isinstance(error, RecordUnreadableError):
        return problem(500, "Unreadable record", "A record in the store is damaged, or of a newer release.")
    if isinstance(error, OutcomeUnknownError):
        return _later("The connection to the store was cut: it may or may not have happened. Look, then repeat.")
    if isinstance(error, StoreError):
        return _later("The store doesn't answer; try again in a moment.")
    if isinstance(error, UnavailableError | VolumeError):
        return _later(str(error))
    return problem(500, "Internal error", "See the log of the admin side.")


def install(app: FastAPI) -> None:
    """Every error of the app answers so."""

    @app.exception_handler(SessionSweepError)
    async def ours(request: Request, error: SessionSweepError) -> JSONResponse:
        answer = of_error(error)
        if answer.status_code >= 500:
            log.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [{"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors()]
        said = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
        return problem(422, "Unprocessable content", said, errors=faults)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        title = HTTPStatus(error.status_code).phrase
        detail = _HTTP.get(error.status_code) or str(error.detail)
        headers = _allowed(request) if error.status_code == 405 else error.headers
        return problem(error.status_code, title, detail, headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        return problem(500, "Internal error", "See the log of the admin side.")


def _allowed(request: Request) -> dict[str, str]:
    """What may be done at this address; Starlette names only the methods of the first route that has it."""
    here = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {"Allow": ", ".join(sorted({method for route in here for method in getattr(route, "methods", None) or ()}))}


def _later(detail: str) -> JSONResponse:
    return problem(503, "Unavailable", detail, {"Retry-After": str(RETRY_AFTER)})
