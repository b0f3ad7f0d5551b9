"""The ASGI middleware: opens each request's session in one round trip, saves it before the response starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sessionsweep.errors import (
    ClientMismatchError,
    ConfigurationError,
    InvalidTokenError,
    SessionSweepError,
    StoreError,
)
from sessionsweep.integrations import timeleft
from sessionsweep.integrations.asgi.exchange import Exchange, Handshake, answer, respond
from sessionsweep.integrations.asgi.headers import HOST_NAME, NAME, Cookie, joined
from sessionsweep.integrations.asgi.lifespan import Lifespan
from sessionsweep.integrations.asgi.request import SCOPE_KEY, TWO_MIDDLEWARES, RequestSession
from sessionsweep.integrations.asgi.routes import MarkedRoutes
from sessionsweep.integrations.asgi.types import App, Receive, Scope, Send
from sessionsweep.integrations.client import request_client
from sessionsweep.integrations.forwarded import client_scheme
from sessionsweep.integrations.origins import REFUSAL, Origins, Sender
from sessionsweep.integrations.paths import PathPatterns, any_marked
from sessionsweep.sessions.aio import AsyncSession, AsyncSessions
from sessionsweep.sessions.connect import environment_settings

if TYPE_CHECKING:
    from sessionsweep.settings import Settings

log = logging.getLogger(__name__)

OWN_METHODS = {
    timeleft.TIME_LEFT_PATH: ("GET", "HEAD"),
    timeleft.EXTEND_PATH: ("POST",),
    timeleft.SCRIPT_PATH: ("GET", "HEAD"),
}


class SessionSweepMiddleware:
    """`app.add_middleware(SessionSweepMiddleware)`, or around any ASGI app.

    Args:
        app: the app.
        settings: the deployment's settings; `Settings.from_env()` where None.
        sessions: the `AsyncSessions` to use instead of new ones, to share them with code outside of requests; whoever
            made them closes them.
        cookie_name: instead of `sessionsweep` (`__Host-sessionsweep` over https).
        no_activity: patterns of paths whose requests don't renew the session (polling, health).
        without_session: patterns of paths that have no session at all, and cost nothing (static files).
        time_left_header: whether each answer to a client with a session says how long it lasts (`Session-Time-Left`).
        own_routes: whether to answer GET `/sessionsweep/time-left` with `{"seconds": 812.4}`, which never renews, POST
            `/sessionsweep/extend` with the same, which does, and GET `/sessionsweep/warning.js`.
        allowed_origins: pages of these origins (`https://app.example`) may use the session in WebSockets and at
            `/sessionsweep/extend`, besides those of the request's own host; `*`: all may. A WebSocket
            of any other has no session, whatever cookie it brings; `extend` is refused with 403.

    Raises:
        ConfigurationError: a setting is missing or impossible.
    """

    def __init__(
        self,
        app: App,
        settings: Settings | None = None,
        sessions: AsyncSessions | None = None,
        *,
        cookie_name: str | None = None,
        no_activity: Iterable[str] = (),
        without_session: Iterable[str] = (),
        time_left_header: bool = False,
        own_routes: bool = True,
        allowed_origins: Iterable[str] = (),
    ) -> None:
        if settings is not None and sessions is not None:
            raise ConfigurationError("give SessionSweepMiddleware settings or sessions, not both")
        self.app = app
        self.sessions = sessions or AsyncSessions(settings or environment_settings())
        self._lifespan = Lifespan(self.sessions, owned=sessions is None)
        self._cookie_name = cookie_name
        self._no_activity = PathPatterns(no_activity)
        self._without_session = PathPatterns(without_session)
        self._time_left_header = time_left_header
        self._own_routes = own_routes
        self._origins = Origins(allowed_origins)
        self._marked: MarkedRoutes | None = None
        self._told_insecure = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._lifespan.watching(send))
            return
        path = _path(scope)
        if scope["type"] not in ("http", "websocket") or SCOPE_KEY in scope or path in self._without_session:
            await self.app(scope, receive, send)
            return
        if "session" in scope:
            raise ConfigurationError(TWO_MIDDLEWARES)
        self._lifespan.ensure()  # a server may run the app without a lifespan
        cookie = self._cookie(scope)
        if self._own_routes and scope["type"] == "http" and path in OWN_METHODS:
            await self._answer_own(scope, send, path, cookie)
            return
        token = cookie.token(scope)
        if token is not None and scope["type"] == "websocket" and self._is_foreign(scope, cookie, path):
            token = None  # as if the browser had kept it: sockets that need no session stay open to all
        session = await self._open(scope, token, touch=not self._is_quiet(scope, path))
        scope[SCOPE_KEY], scope["session"] = session, session.raw_data
        exchange: Exchange | Handshake
        if scope["type"] == "http":
            exchange = Exchange(scope, send, session, cookie, time_left=self._time_left_header)
        else:
            exchange = Handshake(scope, send)
        try:
            await self.app(scope, receive, exchange.send)
        except SessionSweepError as error:
            if not await exchange.answer(error):
                raise
        except Exception:
            await exchange.failed()
            raise
        finally:
            await session.close()

    async def _answer_own(self, scope: Scope, send: Send, path: str, cookie: Cookie) -> None:
        methods = OWN_METHODS[path]
        if scope["method"] not in methods:
            # no change of state by GET: a prefetch or an image must not keep a session alive
            await answer(send, 405, {"error": "Method not allowed."}, {"Allow": ", ".join(methods)})
            return
        if path == timeleft.SCRIPT_PATH:
            script = await asyncio.to_thread(timeleft.script)
            await respond(send, 200, script, {"Content-Type": timeleft.SCRIPT_TYPE, "Cache-Control": "max-age=3600"})
            return
        extends, token = path == timeleft.EXTEND_PATH, cookie.token(scope)
        if extends and token is not None and self._is_foreign(scope, cookie, path):
            await answer(send, 403, REFUSAL, {"Cache-Control": "no-store"})
            return
        session = await self._open(scope, token, touch=extends)
        scope["session"] = session.raw_data
        exchange = Exchange(scope, send, session, cookie, time_left=False)
        try:
            body = timeleft.body(session.time_left())
            await answer(exchange.send, 200, body, {"Cache-Control": "private, no-store"})
        except SessionSweepError as error:
            await exchange.answer(error)

    def _is_foreign(self, scope: Scope, cookie: Cookie, path: str) -> bool:
        """Whether a page of another origin makes the browser send the cookie."""
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        sender = Sender(origins, joined(scope, b"sec-fetch-site"), joined(scope, b"host"), cookie.secure)
        return self._origins.refuse(sender, path)

    async def _open(self, scope: Scope, token: str | None, *, touch: bool) -> RequestSession:
        peer = (scope.get("client") or (None,))[0]
        client = request_client(
            peer,
            joined(scope, b"x-forwarded-for"),
            joined(scope, b"user-agent", " "),
            self.sessions.settings.trusted_proxies,
        )
        found: AsyncSession | None = None
        failure: StoreError | None = None
        if token is not None:
            try:
                found = await self.sessions.open(token, client, touch=touch)
            except InvalidTokenError:
                # The cookie stays: a late answer that removed it could remove the new one of a log-in meanwhile.
                pass
            except ClientMismatchError as mismatch:
                log.warning("%s", mismatch)
            except StoreError as error:
                failure = error  # told when the session is used: a page that needs none is served
        return RequestSession(self.sessions, client, found, failure)

    def _cookie(self, scope: Scope) -> Cookie:
        wanted = self.sessions.settings.cookie_secure
        secure = wanted == "always" or (wanted == "auto" and self._is_https(scope))
        return Cookie(self._cookie_name or (HOST_NAME if secure else NAME), secure)

    def _is_https(self, scope: Scope) -> bool:
        peer = (scope.get("client") or (None,))[0]
        forwarded = joined(scope, b"x-forwarded-for"), joined(scope, b"x-forwarded-proto")
        scheme = client_scheme(scope.get("scheme", "http"), peer, *forwarded, self.sessions.settings.trusted_proxies)
        if scheme not in ("https", "wss") and not self._told_insecure:
            self._told_insecure = True
            log.warning(
                "requests come over http, so session cookies are sent without Secure; behind a proxy that speaks https "
                "set SESSIONSWEEP_TRUSTED_PROXIES, or SESSIONSWEEP_COOKIE_SECURE=always"
            )
        return scheme in ("https", "wss")

    def _is_quiet(self, scope: Scope, path: str) -> bool:
        if path in self._no_activity:
            return True
        if not any_marked():
            return False
        if self._marked is None:
            self._marked = MarkedRoutes(scope.get("app"))
        return self._marked.has_marked(scope, path)


def _path(scope: Scope) -> str:
    """The path below the app's root, as its own routes name it."""
    path: str = scope.get("path", "")
    root: Any = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path
