"""How pages are made: templates that escape everything, words for numbers, and the headers and files of every page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from sessionsweep.admin.desk import Desk
from sessionsweep.admin.pages.visits import Visit, Visits
from sessionsweep.operator import causes
from sessionsweep.operator.wording import brief, count, owing, printable
from sessionsweep.units import format_size

UI = "/ui"  # below the admin side's prefix: every page but the first
POLL = 5  # seconds between two looks of a page that lies open
#: Same-origin, or a browser would send `Origin: null` with our own forms.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages load. `version` stands in its URL: a browser keeps it until it changes."""

    body: bytes
    media_type: str
    version: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Every file below static/, by name."""
    found = {}
    for file in files(__package__).joinpath("static").iterdir():
        media_type = _TYPES.get(file.name.rpartition(".")[2])
        if media_type:
            body = file.read_bytes()
            found[file.name] = StaticFile(body, media_type, hashlib.sha256(body).hexdigest()[:12])
    return found


def base_of(request: Request, desk: Desk) -> str:
    """Where the admin side lies as the browser sees it: below whatever it is mounted on."""
    return f"{request.scope.get('root_path', '')}{desk.prefix}"


def page(
    request: Request, template: str, status: int = 200, *, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """A page. `visit` and what each needs of it are taken from the request."""
    desk: Desk = request.app.state.desk
    visits: Visits = request.app.state.visits
    visit: Visit | None = getattr(request.state, "visit", None)
    base = base_of(request, desk)
    known = {
        "base": base,
        "ui": f"{base}{UI}",
        "here": request.url.path,
        "again": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "visit": visit,
        "form_token": visits.form_token(visit) if visit else "",
        "namespace": desk.settings.namespace,
        "observes": desk.settings.mode == "observe",
        "poll": POLL,
        "now": datetime.now(UTC),
        "said": None,
    }
    text = _environment().get_template(template).render({**known, **values})
    return HTMLResponse(text, status, {**HEADERS, **(headers or {})})


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        text=printable, n=_number, size=_size, brief=brief, moment=_moment, count=_count, explained=causes.explained,
        owing=owing,
    )  # fmt: skip
    made.globals["static"] = lambda base, name: f"{base}{UI}/static/{name}?v={static_files()[name].version}"
    return made


def _number(value: float) -> str:
    return f"{value:,}"


def _size(size: int) -> str:
    return format_size(max(0, size))


def _count(number: int, noun: str) -> str:
    return count(number, noun)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
