"""The admin side as one ASGI app: its routes, what every answer carries, and how it begins and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from sessionsweep.admin import pages, problems
from sessionsweep.admin.desk import Desk
from sessionsweep.admin.feed import Feed
from sessionsweep.admin.routes import events, metrics, sweeps, trends, upkeep
from sessionsweep.admin.routes import sessions as session_routes
from sessionsweep.admin.schemas import Problem
from sessionsweep.errors import ConfigurationError
from sessionsweep.sessions.connect import environment_settings
from sessionsweep.sessions.sync import Sessions
from sessionsweep.settings import Settings

PREFIX = "/admin"
LARGEST = 65_536  # bytes of a request's body: orders are short
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def create_admin(settings: Settings | None = None, sessions: Sessions | None = None) -> FastAPI:
    """The admin side of one deployment: an ASGI app with everything under `/admin`, to serve alone or to mount.

    Args:
        settings: the deployment's; `Settings.from_env()` where None.
        sessions: the `Sessions` to use instead of new ones, which `memory://` needs; whoever made them closes them.

    Raises:
        ConfigurationError: no admin token is configured, a setting is impossible, or there is nothing to administer
            (`memory://` without `sessions`).
    """
    if settings is not None and sessions is not None:
        raise ConfigurationError("give create_admin settings or sessions, not both")
    here = sessions or Sessions(settings or environment_settings())
    if here.settings.in_memory and sessions is None:
        raise ConfigurationError(
            "SESSIONSWEEP_REDIS_URL=memory:// is each process's own memory: the admin side would see an empty one. "
            "Give a server's URL, or create_admin(sessions=...) the app's own Sessions."
        )
    desk = Desk(here, PREFIX)
    feed = Feed(desk)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        feed.close()
        await run_in_threadpool(desk.close)
        if sessions is None:
            await run_in_threadpool(here.close)

    app = FastAPI(
        title="sessionsweep admin",
        version="1",
        lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses={
            status: {"model": Problem, "content": {problems.MEDIA_TYPE: {}}}
            for status in (400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 503)
        },
    )
    app.state.desk = desk
    app.state.feed = feed
    for part in (session_routes, events, upkeep, sweeps, trends):
        app.include_router(part.router, prefix=PREFIX)
    app.include_router(metrics.router)
    pages.install(app, desk)
    problems.install(app)
    app.add_middleware(Guarded)
    return app


class Guarded:
    """Around the app: refuses large bodies, and adds to each answer what keeps it out of caches and frames."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = 0

        async def bounded() -> Message:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b""))
            if length > LARGEST:
                raise problems.TooLargeError(LARGEST)
            return message

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name.lower() for name, _ in message.get("headers", ())}
                message["headers"] = [*message.get("headers", ()), *((n, v) for n, v in HEADERS if n not in named)]
            await send(message)

        await self.app(scope, bounded, guarded)
