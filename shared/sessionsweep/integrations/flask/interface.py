"""Flask's `SessionInterface` over the store: opens the request's session, saves it, sets its one cookie."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Request, Response, current_app, request
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.local import LocalProxy

from sessionsweep.errors import ConfigurationError, SessionSweepError
from sessionsweep.integrations.flask.request import RequestSession
from sessionsweep.integrations.flask.values import StoredSession, Tags
from sessionsweep.integrations.timeleft import header_value

if TYPE_CHECKING:
    from sessionsweep.integrations.flask.extension import Binding

EXTENSION = "sessionsweep"
#: Where the request's session is kept: `flask.g` is shared by all requests made inside one `app_context()`.
_ENVIRON = "sessionsweep.flask"


class StoreSessionInterface(SessionInterface):
    """Binds `flask.session` and `current_session` to one session of the store. Needs no `app.secret_key`."""

    def __init__(self) -> None:
        #: Flask's own; an app registers tags for its types here.
        self.serializer = TaggedJSONSerializer()

    def open_session(self, app: Flask, request: Request) -> StoredSession:
        """The request's session; asks nobody before it is used."""
        token = request.cookies.get(self.get_cookie_name(app))
        found = RequestSession(binding(app), app, request, token, Tags(self.serializer))
        request.environ[_ENVIRON] = found
        found.values.owner = found
        return found.values

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Saves what changed, and writes the cookie and the headers that belong to it."""
        if not isinstance(session, StoredSession):
            return
        used = cast(RequestSession, session.owner)
        try:
            used.finish()
        except SessionSweepError as error:
            # Flask would make a 500 of what is raised here.
            _become(response, app.make_response(app.handle_user_exception(error)))
        if used.was_read or session.accessed:
            _say_private(response)
        header = binding(app).options.time_left_header
        if header and used.seen is not None:
            response.headers[header] = header_value(used.seen.expires_in)
        options = self._cookie(app)
        if used.token and (used.new_token or used.refresh):
            expires = datetime.now(UTC) + app.permanent_session_lifetime if used.permanent else None
            response.set_cookie(self.get_cookie_name(app), used.token, expires=expires, **options)
        elif used.removed:
            response.delete_cookie(self.get_cookie_name(app), **options)
        else:
            return
        # Over whatever the view said: a cache that kept this would hand one client's token to the next (Flask's
        # CVE-2023-30861). `Vary` is not enough: some caches ignore it, and a first request has no cookie.
        response.vary.add("Cookie")
        response.headers["Cache-Control"] = "private, no-store"

    def _cookie(self, app: Flask) -> dict[str, Any]:
        return {
            "path": self.get_cookie_path(app),
            "domain": self.get_cookie_domain(app),
            "secure": self.get_cookie_secure(app),
            "httponly": True,  # whatever Flask is told: no script has a use for a token (ASVS 3.3.4)
            "samesite": self.get_cookie_samesite(app) or "Lax",
            "partitioned": self.get_cookie_partitioned(app),
        }


def _say_private(response: Response) -> None:
    response.vary.add("Cookie")
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "private"


def _become(response: Response, other: Response) -> None:
    """Makes a response that Flask holds already say what another says."""
    if hasattr(response.response, "close"):
        response.response.close()
    response.status = other.status
    response.direct_passthrough = other.direct_passthrough
    response.response = other.response
    response.headers.clear()
    response.headers.extend(other.headers)


def binding(app: Flask) -> Binding:
    """What the extension holds for an app. Raises ConfigurationError: it was never bound."""
    try:
        return cast("Binding", app.extensions[EXTENSION])
    except KeyError:
        # Not a RuntimeError: a proxy's bool() answers False for that, and the mistake would look like "no session".
        raise ConfigurationError(f"{app.name} has no SessionSweep: call SessionSweep(app) first") from None


def _current() -> RequestSession:
    """The request's session; raises RuntimeError outside a request."""
    found = request.environ.get(_ENVIRON)
    if found is None:
        binding(current_app)
        raise ConfigurationError(
            f"the session_interface of {current_app.name} was replaced after SessionSweep(app); leave it as it is"
        )
    return cast(RequestSession, found)


#: The session of the request at hand, in views and in whatever they call.
current_session: RequestSession = cast(RequestSession, LocalProxy(_current))
