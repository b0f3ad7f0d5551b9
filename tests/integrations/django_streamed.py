"""A Django site of event streams as servers import it: `wsgi` for gunicorn, `asgi` for uvicorn."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.conf import settings

ENGINE = "sessionsweep.integrations.django"
SITE: dict[str, Any] = {
    "ROOT_URLCONF": __name__,
    "MIDDLEWARE": [f"{ENGINE}.middleware.SessionMiddleware"],
    "SESSION_ENGINE": ENGINE,
}
if not settings.configured:  # a server's; tests configure Django themselves
    settings.configure(SECRET_KEY="s" * 50, ALLOWED_HOSTS=["*"], INSTALLED_APPS=[ENGINE], **SITE)

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponseBase, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from sessionsweep.integrations.asgi import SessionSweepMiddleware, current_session  # noqa: E402
from sessionsweep.integrations.django import async_sessions  # noqa: E402
from sessionsweep.integrations.django.streams import aevents, events, session_events  # noqa: E402

news: queue.SimpleQueue[Any] = queue.SimpleQueue()


def begin(request: HttpRequest) -> JsonResponse:
    """A session, and its id."""
    request.session["here"] = True
    request.session.save()
    return JsonResponse({"id": request.session.id})


def _news() -> Iterator[Any]:
    try:
        yield "hello"
        while True:
            try:
                item = news.get(timeout=0.05)
            except queue.Empty:
                item = None  # so that it hears of a client that left
            if item is StopIteration:
                break
            yield item
    finally:
        print("source closed", flush=True)


async def _anews() -> AsyncIterator[Any]:
    try:
        yield "hello"
        await asyncio.Event().wait()
    finally:
        print("source closed", flush=True)


def _options(request: HttpRequest) -> dict[str, float]:
    return {name: float(value) for name, value in request.GET.items()}


def stream(request: HttpRequest) -> HttpResponseBase:
    """One event, then what comes by `news`."""
    return events(request, _news(), "news", **_options(request))


async def astream(request: HttpRequest) -> HttpResponseBase:
    """One event, then silence."""
    return await aevents(request, _anews(), "news", **_options(request))


def broken(request: HttpRequest) -> HttpResponseBase:
    """Makes a stream that nobody gets."""
    events(request, _news())
    raise ZeroDivisionError


async def abroken(request: HttpRequest) -> HttpResponseBase:
    """The same."""
    await aevents(request, _anews())
    raise ZeroDivisionError


@session_events("counting")
def counting(request: HttpRequest, last: int) -> Iterator[int]:
    """A generator view."""
    yield from range(last)


@session_events("counting")
async def acounting(request: HttpRequest, last: int) -> AsyncIterator[int | None]:
    """An asynchronous one."""
    for number in range(last):
        yield None
        yield number


urlpatterns = [
    path("begin", begin),
    path("stream", stream),
    path("astream", astream),
    path("broken", broken),
    path("abroken", abroken),
    path("counting/<int:last>", counting),
    path("acounting/<int:last>", acounting),
]


async def chat(scope: Any, receive: Any, send: Any) -> None:
    """A WebSocket that belongs to the session of Django's cookie."""
    async with current_session(scope).stream("chat"):
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


wsgi, pages = get_wsgi_application(), get_asgi_application()
websockets = SessionSweepMiddleware(
    chat, sessions=async_sessions(), cookie_name=settings.SESSION_COOKIE_NAME, no_activity=["*"]
)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """What a project's asgi.py holds."""
    await (websockets if scope["type"] == "websocket" else pages)(scope, receive, send)
