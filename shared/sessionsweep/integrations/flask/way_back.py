"""The way back from here to another `SessionInterface`, with everybody still logged in."""

from __future__ import annotations

from flask import Flask, Request, Response
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin

from sessionsweep.errors import ClientMismatchError, InvalidTokenError
from sessionsweep.integrations.flask.request import client_of
from sessionsweep.integrations.flask.values import Tags
from sessionsweep.sessions.sync import Sessions


class BackTo(SessionInterface):
    """`app.session_interface = BackTo(interface, sessions)`: `interface`, which on a miss copies what ours holds.

    It answers with its own cookie. Our session is neither renewed nor ended by that: it ends by its own age, and its
    files with it, so that other requests of the same page find it, too.
    """

    def __init__(self, interface: SessionInterface, sessions: Sessions) -> None:
        self.interface = interface
        self.sessions = sessions
        self.serializer = TaggedJSONSerializer()  #: an app registers tags for its types here

    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
        """The interface's own session, filled from ours where the cookie is one of ours."""
        session = self.interface.open_session(app, request)
        cookie = request.cookies.get(self.get_cookie_name(app))
        if session is None or not cookie:
            return session
        client = client_of(request, self.sessions.settings)
        try:
            # A cookie without the form of our tokens is refused here without a look into the store.
            ours = self.sessions.open(cookie, client, touch=False)
        except (InvalidTokenError, ClientMismatchError):
            return session
        session.update(Tags(self.serializer).read(ours.data))
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """As the interface does."""
        self.interface.save_session(app, session, response)

    def is_null_session(self, obj: object) -> bool:
        """As the interface does."""
        return self.interface.is_null_session(obj)
