"""Sessions in Flask: `SessionSweep(app)`, and `current_session` for the request at hand.

The token travels in a cookie. A session is opened, which counts as activity, when a request first uses
`current_session`, and made when something is first to be kept: a file, data, a log-in. Reading never makes
one.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from flask import Flask, Response, current_app, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.local import LocalProxy

from sessionsweep.engine.inprocess import InProcessSweeper
from sessionsweep.errors import (
    ClientMismatchError,
    ConfigurationError,
    InvalidTokenError,
    ResourceNotFoundError,
    SessionSweepError,
)
from sessionsweep.integrations.answers import answer_to
from sessionsweep.integrations.forwarded import client_address
from sessionsweep.model.session import Client
from sessionsweep.sessions.sync import Session, SessionFile, Sessions
from sessionsweep.sessions.view import Resource
from sessionsweep.settings import PREFIX, Settings

log = logging.getLogger(__name__)

EXTENSION = "sessionsweep"
#: Where the request's session is kept: `flask.g` is shared by all requests made inside one `app_context()`.
_ENVIRON = "sessionsweep.flask"
_COOKIE_NAME = "SESSIONSWEEP_COOKIE_NAME"
MAX_USER_AGENT = 300  # characters; it is stored with the session and compared, so it must be bounded


class SessionSweep:
    """The extension: `SessionSweep(app)`, or `SessionSweep()` and later `init_app(app)` for each app.

    Args:
        app: the app to bind.
        settings: the deployment's settings. Where None: the app's `SESSIONSWEEP_…` configuration values, over
            the environment's variables of the same names.
        sessions: the `Sessions` to use instead of new ones, to share them with code outside of requests.

    From the app's configuration it takes `SESSIONSWEEP_COOKIE_NAME` (`sessionsweep`, and
    `__Host-sessionsweep` where a browser accepts that prefix) and Flask's own `SESSION_COOKIE_SECURE`, `_PATH`,
    `_DOMAIN`, `_SAMESITE` (`Lax` where not set) and `_PARTITIONED`. The cookie is always HttpOnly (ASVS 3.3.4)
    and lasts as long as the browser runs: how long the session lasts is the server's to say.

    Raises:
        ConfigurationError: a setting is missing or impossible.
    """

    def __init__(
        self, app: Flask | None = None, settings: Settings | None = None, *, sessions: Sessions | None = None
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Binds an app. Nothing connects here, so a server may fork afterwards."""
        if EXTENSION in app.extensions:
            raise ConfigurationError(f"{app.name} has SessionSweep already; call init_app once for each app")
        sessions = self._sessions or Sessions(self._settings or Settings(**_configured(app)))
        app.extensions[EXTENSION] = Binding(sessions)
        if sessions.settings.sweeper == "in-process":
            # With a request, not here: a server may fork after this, and its children keep no thread.
            sweeper = InProcessSweeper(sessions.core, sessions.store)
            sessions.core.before_close.append(sweeper.stop)
            app.before_request(sweeper.ensure)
        app.after_request(_finish)
        # The app's own handler wins, whichever of the two is registered first.
        app.error_handler_spec[None][None].setdefault(SessionSweepError, _answer)

    @property
    def sessions(self) -> Sessions:
        """The current app's sessions: to list, end or attach to any of them."""
        return _binding().sessions


@dataclass(frozen=True, slots=True)
class Binding:
    """What one app holds: its `Sessions`, made once and shared by all its threads."""

    sessions: Sessions

    def client(self) -> Client:
        """Who sends the request at hand."""
        trusted = self.sessions.settings.trusted_proxies
        agent = request.headers.get("User-Agent", "")[:MAX_USER_AGENT]
        forwarded = request.headers.get("X-Forwarded-For", "")
        return Client(client_address(request.remote_addr, forwarded, trusted), agent or None)


class RequestSession:
    """What `current_session` stands for: the request's session, if it has one. True where it has."""

    def __init__(self, binding: Binding, token: str | None, client: Client) -> None:
        self._sessions = binding.sessions
        self._token = token
        self._client = client
        self._session: Session | None = None
        self._opened = token is None  # nothing to open: the client brought none
        self._pending: dict[str, Any] = {}  # data set while there is no session
        self._data_used = False
        self._sealed = False
        #: For the response: whether the cookie was looked at, a new token for it, whether to remove it.
        self.was_read = False
        self.new_token: str | None = None
        self.removed = False

    # reading

    @property
    def session(self) -> Session | None:
        """The session itself, opened by the first use in a request; None for a client without a live one."""
        self.was_read = True
        if not self._opened:
            self._session = self._open(touch=True)
            self._opened = True
        return self._session

    def peek(self) -> Session | None:
        """The session as it stands, without renewing it."""
        self.was_read = True
        return self._session if self._opened else self._open(touch=False)

    def time_left(self) -> float | None:
        """Seconds until it is over if nothing touches it; asking doesn't. None: there is no session."""
        session = self.peek()
        return None if session is None else session.expires_in

    def __bool__(self) -> bool:
        return self.session is not None

    @property
    def id(self) -> str | None:
        """The public id, safe in logs; None without a session."""
        return None if self.session is None else self.session.id

    @property
    def user(self) -> str | None:
        """Who logged in; None for nobody."""
        return None if self.session is None else self.session.user

    @property
    def expires_in(self) -> float | None:
        """Seconds left after this request; None without a session."""
        return None if self.session is None else self.session.expires_in

    @property
    def resource_count(self) -> int:
        """Files that it owns."""
        return 0 if self.session is None else self.session.resource_count

    @property
    def bytes_used(self) -> int:
        """Bytes of its files."""
        return 0 if self.session is None else self.session.bytes_used

    @property
    def data(self) -> dict[str, Any]:
        """Anything that is JSON. Changes are saved when the view has answered, in a new session if need be."""
        self._data_used = True
        return self._pending if self.session is None else self.session.data

    def resources(self) -> list[Resource]:
        """What it owns, oldest first."""
        return [] if self.session is None else self.session.resources()

    def open_file(self, resource_id: str) -> BinaryIO:
        """A file of this session, for reading.

        Raises:
            ResourceNotFoundError: also where there is no session. VolumeNotHereError: with the nodes to ask.
        """
        return self._owner(resource_id).open_file(resource_id)

    # keeping

    def require(self) -> Session:
        """The session, made now if there is none.

        Raises:
            LimitReachedError, StoreFullError
        """
        session = self.session
        return self._create(None) if session is None else session

    def new_file(
        self, purpose: str = "", suffix: str = "", *, max_size: int | None = None, volume: str | None = None
    ) -> SessionFile:
        """A new file, as a context manager; see `Session.new_file`. If it fails, a session made for it stays, empty."""
        return self.require().new_file(purpose, suffix, max_size=max_size, volume=volume)

    def temp_file(self, suffix: str = "", *, max_size: int | None = None) -> SessionFile:
        """A file that is deleted at the end of the block."""
        return self.require().temp_file(suffix, max_size=max_size)

    def adopt_file(
        self, path: str | Path, purpose: str = "", *, suffix: str | None = None, volume: str | None = None
    ) -> str:
        """Takes an existing file into the session: its resource id."""
        return self.require().adopt_file(path, purpose, suffix=suffix, volume=volume)

    def delete(self, resource_id: str) -> None:
        """Gives a resource up. Raises ResourceNotFoundError."""
        self._owner(resource_id).delete(resource_id)

    def promote(self, resource_id: str, to: str | Path | None = None) -> Path:
        """Makes a file the app's own. Raises ResourceNotFoundError, VolumeNotHereError."""
        return self._owner(resource_id).promote(resource_id, to)

    def pin(self, resource_id: str, max: float | str = "1h") -> AbstractContextManager[BinaryIO]:
        """Keeps a file from being destroyed while the block reads it."""
        return self._owner(resource_id).pin(resource_id, max)

    # who

    def log_in(self, user: str) -> None:
        """Binds the session to a user under a new token; the old one dies, the files stay (ASVS 7.2.4).

        A session of another user is ended first, with all that it owns: one's files must not show up for
        another.

        Raises:
            LimitReachedError: MAX_SESSIONS_PER_USER, where ON_USER_LIMIT is `refuse`.
        """
        self._check_open()
        session = self.session
        if session is not None and session.user not in (None, user):
            self.log_out()
            session = None
        if session is None:
            self._create(user)
        else:
            self.new_token = session.log_in(user)

    def rotate(self) -> None:
        """A new token at once, for a change of rights; without a session nothing happens."""
        self._check_open()
        if self.session is not None:
            self.new_token = self.session.rotate()

    def log_out(self) -> None:
        """Ends the session: what it owned is deleted at once, the cookie removed."""
        self._check_open()
        if self.session is not None:
            self.session.end()
        self._session, self._opened = None, True
        self._pending, self._data_used = {}, False
        self.new_token, self.removed = None, True

    # the request's end

    def finish(self) -> None:
        """Saves changed data; from now on nothing can be sent to the client any more."""
        try:
            if self._data_used and self._session is not None:
                self._session.save()
            elif self._pending:
                self._create(None)
        finally:
            self._sealed = True

    def _open(self, touch: bool) -> Session | None:
        if self._token is None:
            return None
        try:
            return self._sessions.open(self._token, self._client, touch=touch)
        except InvalidTokenError:
            # The cookie stays: a late answer that removed it could remove the new one of a log-in meanwhile.
            return None
        except ClientMismatchError as mismatch:
            log.warning("%s", mismatch)
            return None

    def _create(self, user: str | None) -> Session:
        self._check_open()
        self._session, self.new_token = self._sessions.create(self._client, user, self._pending)
        self._opened, self._pending, self.removed = True, {}, False
        return self._session

    def _owner(self, resource_id: str) -> Session:
        if self.session is None:
            raise ResourceNotFoundError(resource_id)
        return self.session

    def _check_open(self) -> None:
        if self._sealed:
            raise RuntimeError("The response's headers are sent; use current_session before it is streamed.")

    def __repr__(self) -> str:
        return f"<RequestSession {self._session!r}>"  # never opens one: a debugger's look is not activity


def _current() -> RequestSession:
    """The request's session, made on first use; raises RuntimeError outside a request."""
    kept = request.environ.get(_ENVIRON)
    if kept is None:
        binding = _binding()
        token = request.cookies.get(cookie_name(current_app))
        kept = request.environ[_ENVIRON] = RequestSession(binding, token, binding.client())
    return cast(RequestSession, kept)


#: The session of the request at hand, in views and in whatever they call.
current_session: RequestSession = cast(RequestSession, LocalProxy(_current))


def cookie_name(app: Flask) -> str:
    """The cookie's name: as configured, else with `__Host-` where browsers accept it (ASVS 3.3.3)."""
    if name := app.config.get(_COOKIE_NAME):
        return str(name)
    options = _cookie_options(app)
    at_host = options["secure"] and options["path"] == "/" and options["domain"] is None
    return "__Host-sessionsweep" if at_host else "sessionsweep"


def _cookie_options(app: Flask) -> dict[str, Any]:
    own = app.session_interface  # Flask's reading of its own SESSION_COOKIE_… values
    return {
        "path": own.get_cookie_path(app),
        "domain": own.get_cookie_domain(app),
        "secure": own.get_cookie_secure(app),
        "httponly": True,
        "samesite": own.get_cookie_samesite(app) or "Lax",
        "partitioned": own.get_cookie_partitioned(app),
    }


def _configured(app: Flask) -> dict[str, Any]:
    return {
        key.removeprefix(PREFIX).lower(): value
        for key, value in app.config.items()
        if key.startswith(PREFIX) and key != _COOKIE_NAME
    }


def _binding() -> Binding:
    try:
        return cast(Binding, current_app.extensions[EXTENSION])
    except KeyError:
        # Not a RuntimeError: a proxy's bool() answers False for that, and the mistake would look like "no session".
        raise ConfigurationError(f"{current_app.name} has no SessionSweep: call SessionSweep(app) first") from None


def _finish(response: Response) -> Response:
    used = request.environ.get(_ENVIRON)
    if used is None:
        return response
    try:
        used.finish()
    except SessionSweepError as error:
        # Flask would make a 500 of what an after_request function raises.
        response = current_app.make_response(current_app.handle_user_exception(error))
    if used.was_read:
        response.vary.add("Cookie")
    if used.new_token is not None:
        response.set_cookie(cookie_name(current_app), used.new_token, **_cookie_options(current_app))
    elif used.removed:
        response.delete_cookie(cookie_name(current_app), **_cookie_options(current_app))
    if used.new_token is not None or used.removed:
        # Over whatever the view said: a cache that kept this would hand one client's token to the next
        # (Flask's CVE-2023-30861). `Vary` is not enough: some caches ignore it, and a first request has no
        # cookie.
        response.headers["Cache-Control"] = "private, no-store"
    elif used.was_read and "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "private"
    return response


def _answer(error: SessionSweepError) -> ResponseReturnValue:
    found = answer_to(error)
    if found is None:
        raise error
    if found.status >= 500:
        log.error("%s: %s", type(error).__name__, error)
    return jsonify(found.body), found.status, dict(found.headers)


__all__ = ["RequestSession", "SessionSweep", "cookie_name", "current_session"]
