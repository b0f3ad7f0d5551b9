"""Server-sent events in Django: registered while they last, closed when their session ends anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Generator, Iterable
from functools import wraps
from inspect import isasyncgenfunction
from typing import Any
from weakref import finalize

from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from sessionsweep.errors import InvalidTokenError
from sessionsweep.integrations.aio_event_streams import AsyncEventStream
from sessionsweep.integrations.event_streams import EventStream
from sessionsweep.integrations.events import HEADERS, MIMETYPE, SILENCE

View = Callable[..., Any]
_KIND = {"content_type": MIMETYPE, "headers": HEADERS}


def events(
    request: HttpRequest,
    source: Iterable[Any],
    purpose: str = "events",
    *,
    keep_alive: float = SILENCE,
    linger: float = 0.0,
) -> HttpResponseBase:
    """A response of server-sent events under WSGI: what `source` yields, for as long as the request's session lives.

    Text is an event's data, a mapping its fields (`event`, `id`, `retry`, `data`), bytes go out as they are, None is
    skipped. The source runs in a thread of its own. While it is silent, a comment every `keep_alive` seconds finds out
    who has left; it is no activity. When the session ends on any node, the last event is `session-ended` with the
    reason. `linger`: see `Session.stream`.

    Raises:
        InvalidTokenError: there is no session. LimitReachedError: MAX_STREAMS_PER_SESSION. StoreError
    """
    if _by_asgi(request):
        raise RuntimeError("under ASGI Django would collect all events first: await aevents with an async generator")
    session = request.session.owner()
    if session is None:
        raise InvalidTokenError
    if request.method == "HEAD":  # no server would ever read such a stream, or close it
        return HttpResponse(**_KIND)
    body = EventStream(session, _with_own_connections(source), purpose, keep_alive, linger)
    return StreamingHttpResponse(body, **_KIND)


async def aevents(
    request: HttpRequest,
    source: AsyncIterable[Any],
    purpose: str = "events",
    *,
    keep_alive: float = SILENCE,
    linger: float = 0.0,
) -> HttpResponseBase:
    """The same under ASGI, of an asynchronous source; see events."""
    if not _by_asgi(request):
        raise RuntimeError("under WSGI Django would collect all events first: call events with a generator")
    session = await request.session.aowner()
    if session is None:
        raise InvalidTokenError
    if request.method == "HEAD":
        return HttpResponse(**_KIND)
    stream = AsyncEventStream(source, session.stream(purpose, linger=linger), keep_alive)
    try:
        await stream.begin()
    except BaseException:
        stream.close()  # its client left meanwhile
        raise
    response = StreamingHttpResponse(stream, **_KIND)
    # Django closes a response that it sends. One that a view made and dropped, or a middleware replaced, nobody does.
    finalize(response, stream.close).atexit = False
    return response


def session_events(
    purpose: str = "events", *, keep_alive: float = SILENCE, linger: float = 0.0
) -> Callable[[View], View]:
    """Decorates a view that is a generator, or under ASGI an asynchronous one: what it yields are its events."""
    options = {"keep_alive": keep_alive, "linger": linger}

    def decorate(view: View) -> View:
        @wraps(view)
        def respond(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return events(request, view(request, *args, **kwargs), purpose, **options)

        @wraps(view)
        async def arespond(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return await aevents(request, view(request, *args, **kwargs), purpose, **options)

        return arespond if isasyncgenfunction(view) else respond

    return decorate


def _by_asgi(request: HttpRequest) -> bool:
    return hasattr(request, "scope")


def _with_own_connections(source: Iterable[Any]) -> Generator[Any, None, None]:
    """Django closes the database connections of the request's thread; the source's thread has others."""
    try:
        yield from source
    finally:
        connections.close_all()
