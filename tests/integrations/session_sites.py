"""One small site in Flask, in ASGI and in Django, with the same addresses: what a session promises is asked of each."""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Any, ClassVar

import flask
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sessionsweep import AsyncSessions, Sessions, Settings
from sessionsweep.integrations.asgi import SessionSweepMiddleware
from sessionsweep.integrations.asgi import current_session as asgi_session
from sessionsweep.integrations.flask import SessionSweep, current_session
from support import django_site

django_site.ready()

from django.contrib.auth import login, logout  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.urls import path  # noqa: E402

from sessionsweep.integrations import django as ours_in_django  # noqa: E402
from sessionsweep.integrations.django import configured  # noqa: E402

PEER = "203.0.113.5"
FAULT = "the words of a bug"
_numbers = itertools.count()


class Site(ABC):
    """A site of a deployment; `operator` is another node of it.

    GET `/untouched`, `/read`, `/others`, `/file/<id>`, `/in-and-away/<user>`, `/fail`; POST `/set`, `/login/<user>`,
    `/elevate`, `/logout`, `/others/<id>/end`, `/others/end`, `/file`.
    """

    cookie: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.operator = Sessions(settings)
        self._open = ExitStack()
        self._open.callback(self.operator.close)

    def browser(self, peer: str = PEER, *, token: str | None = None, **headers: str) -> httpx.Client:
        """A client over https, which may bring a token that it has from elsewhere."""
        options: dict[str, Any] = {"base_url": "https://shop.example", "headers": headers}
        made = self._open.enter_context(httpx.Client(transport=self._transport(peer), **options))
        if token is not None:
            made.headers["Cookie"] = f"{self.cookie}={token}"
        return made

    def token(self, browser: httpx.Client) -> str:
        """The token that a browser holds."""
        return browser.cookies[self.cookie]

    def user(self, name: str) -> str:
        """What `/login/…` and the operator call somebody."""
        return name

    def close(self) -> None:
        """Closes clients and connections."""
        self._open.close()

    @abstractmethod
    def _transport(self, peer: str) -> httpx.BaseTransport: ...


class FlaskSite(Site):
    """Flask's own cookie, named and marked as docs/security.md advises."""

    cookie = "__Host-session"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._app = app = flask.Flask("shop")
        app.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_NAME=self.cookie)
        sessions = Sessions(settings)
        self._open.callback(sessions.close)
        SessionSweep(app, sessions=sessions)

        @app.get("/untouched")
        def untouched() -> Any:
            return {}

        @app.get("/read")
        def read() -> Any:
            return {"data": dict(flask.session), "user": current_session.user, "id": current_session.id}

        @app.post("/set")
        def set_() -> Any:
            flask.session.update(flask.request.get_json())
            return {}

        @app.post("/login/<user>")
        def log_in(user: str) -> Any:
            current_session.log_in(user)
            return {}

        @app.get("/in-and-away/<user>")
        def in_and_away(user: str) -> Any:
            current_session.log_in(user)
            return flask.redirect("/read")

        @app.post("/elevate")
        def elevate() -> Any:
            current_session.rotate()
            return {}

        @app.post("/logout")
        def log_out() -> Any:
            current_session.log_out()
            return {}

        @app.get("/others")
        def others() -> Any:
            return [{"id": one.id, "address": one.address} for one in current_session.others()]

        @app.post("/others/<session_id>/end")
        def end(session_id: str) -> Any:
            return {"ended": current_session.end_other(session_id)}

        @app.post("/others/end")
        def end_others() -> Any:
            return {"ended": current_session.log_out_others()}

        @app.post("/file")
        def file() -> Any:
            with current_session.new_file("upload") as f:
                f.write(flask.request.get_data())
            return {"id": f.id}

        @app.get("/file/<rid>")
        def content(rid: str) -> Any:
            with current_session.open_file(rid) as opened:
                return opened.read()

        @app.get("/fail")
        def fail() -> Any:
            raise ZeroDivisionError(FAULT)

    def _transport(self, peer: str) -> httpx.BaseTransport:
        return httpx.WSGITransport(self._app, raise_app_exceptions=False, remote_addr=peer)


class AsgiSite(Site):
    """Starlette, over https."""

    cookie = "__Host-sessionsweep"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        sessions = AsyncSessions(settings)
        self._loop = self._open.enter_context(asyncio.Runner())
        self._open.callback(lambda: self._loop.run(sessions.close()))

        async def untouched(request: Request) -> Response:
            return JSONResponse({})

        async def read(request: Request) -> Response:
            session = asgi_session(request)
            return JSONResponse({"data": dict(request.session), "user": session.user, "id": session.id})

        async def set_(request: Request) -> Response:
            request.session.update(await request.json())
            return JSONResponse({})

        async def log_in(request: Request) -> Response:
            await asgi_session(request).log_in(request.path_params["user"])
            return JSONResponse({})

        async def in_and_away(request: Request) -> Response:
            await asgi_session(request).log_in(request.path_params["user"])
            return RedirectResponse("/read", 302)

        async def elevate(request: Request) -> Response:
            await asgi_session(request).rotate()
            return JSONResponse({})

        async def log_out(request: Request) -> Response:
            await asgi_session(request).log_out()
            return JSONResponse({})

        async def others(request: Request) -> Response:
            found = await asgi_session(request).others()
            return JSONResponse([{"id": one.id, "address": one.address} for one in found])

        async def end(request: Request) -> Response:
            return JSONResponse({"ended": await asgi_session(request).end_other(request.path_params["session_id"])})

        async def end_others(request: Request) -> Response:
            return JSONResponse({"ended": await asgi_session(request).log_out_others()})

        async def file(request: Request) -> Response:
            async with asgi_session(request).new_file("upload") as f:
                await f.write(await request.body())
            return JSONResponse({"id": f.id})

        async def content(request: Request) -> Response:
            with await asgi_session(request).open_file(request.path_params["rid"]) as opened:
                return Response(opened.read())

        async def fail(request: Request) -> Response:
            raise ZeroDivisionError(FAULT)

        def post(address: str, view: Any) -> Route:
            return Route(address, view, methods=["POST"])

        routes = [
            Route("/untouched", untouched), Route("/read", read), Route("/others", others), Route("/fail", fail),
            Route("/in-and-away/{user}", in_and_away), Route("/file/{rid}", content), post("/file", file),
            post("/set", set_), post("/login/{user}", log_in), post("/elevate", elevate), post("/logout", log_out),
            post("/others/end", end_others), post("/others/{session_id}/end", end),
        ]  # fmt: skip
        self._app = Starlette(routes=routes)
        self._app.add_middleware(SessionSweepMiddleware, sessions=sessions)

    def _transport(self, peer: str) -> httpx.BaseTransport:
        return _OnLoop(self._loop, httpx.ASGITransport(self._app, raise_app_exceptions=False, client=(peer, 4711)))


class _OnLoop(httpx.BaseTransport):
    """All requests of a site on one event loop, from blocking tests."""

    def __init__(self, loop: asyncio.Runner, inner: httpx.ASGITransport) -> None:
        self._loop = loop
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def send() -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return self._loop.run(send())


class DjangoSite(Site):
    """Our engine and our middleware, with the settings that docs/security.md advises."""

    cookie = "__Host-sessionid"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        urls = type("urls", (), {"urlpatterns": _urls()})
        auth = "django.contrib.auth.middleware.AuthenticationMiddleware"
        here = {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_NAME": self.cookie, "ROOT_URLCONF": urls}
        self._open.enter_context(override_settings(MIDDLEWARE=[django_site.MIDDLEWARE, auth], **here))
        sessions, aio = Sessions(settings), AsyncSessions(settings)
        self._open.callback(sessions.close)
        before = configured._current
        self._open.callback(lambda: setattr(configured, "_current", before))
        configured._current = configured.Configured(sessions, aio)
        self._app = WSGIHandler()
        self._users: dict[str, User] = {}

    def user(self, name: str) -> str:
        if name not in self._users:
            made = self._users[name] = User.objects.create_user(f"{name}{next(_numbers)}")
            self._open.callback(made.delete)
        return str(self._users[name].pk)

    def _transport(self, peer: str) -> httpx.BaseTransport:
        return httpx.WSGITransport(self._app, raise_app_exceptions=False, remote_addr=peer)


def _urls() -> list[Any]:
    def untouched(request: HttpRequest) -> HttpResponse:
        return JsonResponse({})

    def read(request: HttpRequest) -> HttpResponse:
        # what Django's log-in keeps there begins with an underscore
        data = {key: value for key, value in request.session.items() if not key.startswith("_")}
        return JsonResponse({"data": data, "user": _pk(request), "id": request.session.id})

    def set_(request: HttpRequest) -> HttpResponse:
        import json

        request.session.update(json.loads(request.body))
        return JsonResponse({})

    def log_in(request: HttpRequest, user: str) -> HttpResponse:
        login(request, User.objects.get(pk=user), backend="django.contrib.auth.backends.ModelBackend")
        return JsonResponse({})

    def in_and_away(request: HttpRequest, user: str) -> HttpResponse:
        log_in(request, user)
        return HttpResponseRedirect("/read")

    def elevate(request: HttpRequest) -> HttpResponse:
        request.session.cycle_key()
        return JsonResponse({})

    def log_out(request: HttpRequest) -> HttpResponse:
        logout(request)
        return JsonResponse({})

    def mine(request: HttpRequest) -> list[Any]:
        user = _pk(request)
        listed = ours_in_django.sessions().list(user=user)[0] if user else []
        return [one for one in listed if one.id != request.session.id]

    def others(request: HttpRequest) -> HttpResponse:
        return JsonResponse([{"id": one.id, "address": one.ip} for one in mine(request)], safe=False)

    def end(request: HttpRequest, session_id: str) -> HttpResponse:
        return JsonResponse({"ended": any(one.end("user") for one in mine(request) if one.id == session_id)})

    def end_others(request: HttpRequest) -> HttpResponse:
        user = _pk(request)
        ended = ours_in_django.sessions().end_user(user, except_id=request.session.id) if user else 0
        return JsonResponse({"ended": ended})

    def file(request: HttpRequest) -> HttpResponse:
        with request.session.resources.new_file("upload") as f:
            f.write(request.body)
        return JsonResponse({"id": f.id})

    def content(request: HttpRequest, rid: str) -> HttpResponse:
        with request.session.resources.open_file(rid) as opened:
            return HttpResponse(opened.read())

    def fail(request: HttpRequest) -> HttpResponse:
        raise ZeroDivisionError(FAULT)

    return [
        path("untouched", untouched), path("read", read), path("set", set_), path("login/<user>", log_in),
        path("in-and-away/<user>", in_and_away), path("elevate", elevate), path("logout", log_out),
        path("others", others), path("others/end", end_others), path("others/<session_id>/end", end),
        path("file", file), path("file/<rid>", content), path("fail", fail),
    ]  # fmt: skip


def _pk(request: HttpRequest) -> str | None:
    return str(request.user.pk) if request.user.is_authenticated else None


SITES: dict[str, type[Site]] = {"flask": FlaskSite, "asgi": AsgiSite, "django": DjangoSite}
