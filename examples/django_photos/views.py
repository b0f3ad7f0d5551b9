"""Views of the photo drop: photos belong to the visit, and go with it."""

from __future__ import annotations

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sessionsweep import LimitReachedError
from sessionsweep.integrations.paths import no_activity

POLICY = "default-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
MAX_PHOTO = 10_000_000  # bytes
NAME = "name:"  # one key of the session for each photo, so that two requests at once keep both names
#: How a picture begins, and what it is. What a browser says of a file is not believed, and SVG may hold scripts.
PICTURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"GIF87a": ".gif", b"GIF89a": ".gif"}
TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".gif": "image/gif"}


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """The page with this visit's photos; looking at it makes no session."""
    return _page(request)


def _page(request: HttpRequest, said: str = "", status: int = 200) -> HttpResponse:
    names = request.session
    photos = [{"id": one.id, "name": names.get(NAME + one.id, "")} for one in request.session.resources.list()]
    answer = render(request, "page.html", {"photos": photos, "said": said}, status=status)
    answer["Content-Security-Policy"] = POLICY
    return answer


@require_http_methods(["GET", "HEAD", "POST"])
def drop(request: HttpRequest) -> HttpResponse:
    """Keeps the photos that were sent; the first makes the session."""
    if request.method != "POST":  # the address of a page that said what was wrong, asked for again
        return redirect(page)
    for sent in request.FILES.getlist("photo"):
        suffix = _suffix(sent.read(16))
        if suffix is None:
            return _page(request, f"{sent.name} is no JPEG, PNG or GIF.", 415)
        if sent.size > MAX_PHOTO:
            return _page(request, f"{sent.name} is larger than {MAX_PHOTO // 1_000_000} MB.", 413)
        try:
            with request.session.resources.new_file("photo", suffix, max_size=sent.size) as f:
                f.copy_from(sent)
        except LimitReachedError:
            return _page(request, "No more photos fit; delete some.", 413)
        request.session[NAME + f.id] = sent.name
    return redirect(page)


@require_safe
def photo(request: HttpRequest, rid: str) -> HttpResponseBase:
    """A photo of this visit; of any other it is a 404."""
    opened = request.session.resources.open_file(rid)
    return FileResponse(opened, content_type=TYPES["." + rid.rpartition(".")[2]])


@require_POST
def delete(request: HttpRequest, rid: str) -> HttpResponse:
    """Gives one up."""
    request.session.resources.delete(rid)
    request.session.pop(NAME + rid, None)
    return redirect(page)


@require_POST
def leave(request: HttpRequest) -> HttpResponse:
    """Ends the visit: all its photos are deleted now."""
    request.session.flush()
    return redirect(page)


@no_activity
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """For a balancer; touches no session."""
    return HttpResponse("ok")


@no_activity
@require_safe
def style(request: HttpRequest) -> HttpResponse:
    """The page's style; a real site has its server send it."""
    return FileResponse((settings.HERE / "static" / "style.css").open("rb"), content_type="text/css; charset=utf-8")


def _suffix(head: bytes) -> str | None:
    return next((suffix for begins, suffix in PICTURES.items() if head.startswith(begins)), None)
