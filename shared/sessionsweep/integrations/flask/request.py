"""The session of one request: opened when it is first used, made when something is first to be kept.

Opening counts as activity, once a request. Reading never makes a session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from flask import Flask, Request, Response

from sessionsweep.errors import ClientMismatchError, InvalidTokenError
from sessionsweep.integrations import events, others
from sessionsweep.integrations.client import request_client
from sessionsweep.integrations.event_streams import EventStream
from sessionsweep.integrations.flask.configured import Lifetimes
from sessionsweep.integrations.flask.values import PERMANENT, StoredSession, Tags, is_same
from sessionsweep.integrations.migration import is_old
from sessionsweep.integrations.others import OtherSession
from sessionsweep.integrations.paths import is_no_activity
from sessionsweep.integrations.request import RequestView
from sessionsweep.model.session import Client, check_user
from sessionsweep.sessions.streams import Stream
from sessionsweep.sessions.sync import Session, SessionFile, Sessions
from sessionsweep.sessions.view import Resource
from sessionsweep.store.flow import Flow, run

if TYPE_CHECKING:
    from sessionsweep.integrations.flask.extension import Binding
    from sessionsweep.integrations.flask.migration import OldInterface
    from sessionsweep.settings import Settings

R = TypeVar("R")
log = logging.getLogger(__name__)


class RequestSession(RequestView[Session]):
    """What `current_session` stands for: the request's session, if it has one. True where it has."""

    def __init__(self, binding: Binding, app: Flask, request: Request, token: str | None, tags: Tags) -> None:
        self._binding = binding
        self._app = app
        self._request = request
        self._tags = tags
        self._session: Session | None = None
        self._opened = not token  # nothing to open: the client brought none
        self._data_used = False
        self._sealed = False
        self._was_permanent = False
        #: What `flask.session` stands for.
        self.values = StoredSession(self._read_values)
        #: For the response: whether the cookie was looked at, the token it should hold, whether it is another one
        #: or its lifetime has changed, whether to remove it.
        self.was_read = False
        self.token = token
        self.new_token = False
        self.permanent = False
        self.refresh = False
        self.removed = False

    # reading

    @property
    def session(self) -> Session | None:
        """The session itself, opened by the first use in a request; None for a client without a live one."""
        self.was_read = True
        if not self._opened:
            self._session = self._open(touch=self._counts())
            self._opened = True
            self._was_permanent = self._is_permanent()
        return self._session

    def peek(self) -> Session | None:
        """The session as it stands, without renewing it."""
        self.was_read = True
        return self._session if self._opened else self._open(touch=False)

    def time_left(self) -> float | None:
        """Seconds until it is over if nothing touches it; asking doesn't. None: there is no session."""
        session = self.peek()
        return None if session is None else session.expires_in

    @property
    def data(self) -> StoredSession:
        """The same dict as `flask.session`; here a change inside a value is noticed, too.

        Changes are saved when the view has answered, in a new session if need be.
        """
        self._data_used = True
        self.values.load()
        return self.values

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

    def extend(self, idle: float | None = None, max_duration: float | None = None) -> None:
        """Counts as activity; sets this session's own timeouts where given (seconds). Raises InvalidTokenError."""
        self.existing().extend(idle, max_duration)

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

    # streams

    def stream(
        self, purpose: str = "", *, close: Callable[[str], Future[None] | None], linger: float = 0.0
    ) -> AbstractContextManager[Stream]:
        """A long poll, or any connection: see `Session.stream`. Raises InvalidTokenError without a session."""
        return self.existing().stream(purpose, close=close, linger=linger)

    def events(
        self, source: Iterable[Any], purpose: str = "events", *, keep_alive: float = events.SILENCE, linger: float = 0.0
    ) -> Response:
        """A response of server-sent events: what `source` yields, for as long as the session lives.

        Text is an event's data, a mapping its fields (`event`, `id`, `retry`, `data`), bytes go out as they are,
        None is skipped. The source runs in a thread of its own, in this request's context. While it is silent, a
        comment every `keep_alive` seconds finds out who has left; it is no activity. When the session ends on any
        node, the last event is `session-ended` with the reason. `linger`: see `Session.stream`.

        Raises:
            InvalidTokenError: there is no session. LimitReachedError: MAX_STREAMS_PER_SESSION. StoreError
        """
        session = self.existing()
        body: Iterable[bytes] = ()
        if self._request.method != "HEAD":  # no server would ever read such a stream, or close it
            body = EventStream(session, source, purpose, keep_alive, linger)
        return self._app.response_class(body, mimetype=events.MIMETYPE, headers=events.HEADERS)

    # who

    def log_in(self, user: str) -> None:
        """Binds the session to a user under a new token; the old one dies, the files stay (ASVS 7.2.4).

        A session of another user is ended first, with all that it owns: one's files must not show up for
        another.

        Raises:
            LimitReachedError: MAX_SESSIONS_PER_USER, where ON_USER_LIMIT is `refuse`.
            TypeError, ValueError: no name of a user; nothing was done.
        """
        check_user(user)
        self._check_open()
        session = self.session
        if session is not None and session.user not in (None, user):
            self.log_out()
            session = None
        if session is None:
            self._create(user)
        else:
            self._replace_token(session.log_in(user))

    def rotate(self) -> None:
        """A new token at once, for a change of rights; without a session nothing happens."""
        self._check_open()
        if self.session is not None:
            self._replace_token(self.session.rotate())

    def log_out(self) -> None:
        """Ends the session: what it owned is deleted at once, the cookie removed."""
        self._check_open()
        if self.session is not None:
            self.session.end()
        self._session, self._opened = None, True
        self._data_used = self._was_permanent = False
        self.values.forget()
        self.token, self.new_token, self.removed = None, False, True

    def others(self) -> list[OtherSession]:
        """The same user's other live sessions, the last seen first; empty for nobody."""
        return self._run(others.listing(self._sessions.core, self.user, self.id))

    def end_other(self, session_id: str) -> bool:
        """Ends one of the user's sessions by its public id. False: it is nobody's, or somebody else's, or this one."""
        return self._run(others.end(self._sessions.core, self.user, self.id, session_id))

    def log_out_others(self) -> int:
        """Ends all of the user's sessions but this one; how many."""
        return self._run(others.end_all(self._sessions.core, self.user, self.id))

    # the request's end

    def finish(self) -> None:
        """Saves changed data and lifetimes; from now on nothing can be sent to the client any more."""
        if self._sealed:
            return
        try:
            changed = self._save()
            session = self._session
            if session is None:
                return
            self.permanent = self._is_permanent()
            sliding = self._lifetimes.sliding
            if self.permanent != self._was_permanent or (self.permanent and changed and not sliding):
                self._set_lifetimes(session)
                self.refresh = True
            elif self.permanent:
                self.refresh = sliding and self._counts()
        finally:
            self._sealed = True

    @property
    def seen(self) -> Session | None:
        """The session as far as this request has opened it, for the response's header; asks nobody."""
        return self._session

    def _save(self) -> bool:
        values = self.values
        if not (values.is_read and (values.modified or self._data_used)):
            return False
        session = self._session
        if session is None:
            if values.keeps_something:
                self._create(None)
            return values.keeps_something
        stored = self._tags.write(values)
        for key in values.dropped:
            session.data.pop(key, None)
        for key, value in stored.items():
            if key not in session.data or not is_same(session.data[key], value):
                session.data[key] = value
        # One that ended while it was used was not saved, and says so: SessionEndedError, a 401.
        return session.save() or values.modified

    def _set_lifetimes(self, session: Session) -> None:
        age = (session.read_at - session.created_at).total_seconds()
        wanted, usual = self._lifetimes.of(self.permanent, age), self._lifetimes.of(False, age)
        if wanted != usual or self._was_permanent:
            session.extend(*wanted)

    @property
    def _lifetimes(self) -> Lifetimes:
        config = self._app.config
        refresh = bool(config["SESSION_REFRESH_EACH_REQUEST"])
        return Lifetimes(self._sessions.settings, self._app.permanent_session_lifetime, refresh)

    @property
    def _sessions(self) -> Sessions:
        return self._binding.sessions

    def _run(self, flow: Flow[R]) -> R:
        return run(flow, self._sessions.store)

    @property
    def _client(self) -> Client:
        return client_of(self._request, self._sessions.settings)

    def _counts(self) -> bool:
        """Whether this request is activity."""
        request = self._request
        if request.path in self._binding.options.no_activity:
            return False
        view = self._app.view_functions.get(request.endpoint) if request.endpoint else None
        return not (is_no_activity(view) or is_no_activity(getattr(view, "view_class", None)))

    def _is_permanent(self) -> bool:
        return self._session is not None and bool(self._session.data.get(PERMANENT))

    def _read_values(self) -> dict[str, Any]:
        return {} if self.session is None else self._tags.read(self.session.data)

    def _open(self, touch: bool) -> Session | None:
        if not self.token:
            return None
        try:
            if self._binding.old is not None and is_old(self.token):
                return self._take_over(self._binding.old, self.token)
            return self._sessions.open(self.token, self._client, touch=touch)
        except InvalidTokenError:
            # The cookie stays: a late answer that removed it could remove the new one of a log-in meanwhile.
            return None
        except ClientMismatchError as mismatch:
            log.warning("%s", mismatch)
            return None

    def _take_over(self, old: OldInterface, cookie: str) -> Session | None:
        if self._sealed:
            return None  # its token could no longer be sent; a later request takes it over
        taken = old.take_over(
            self._sessions, self._app, self._request, self._client, cookie, self._tags, self._lifetimes
        )
        if taken is None:
            return None
        session, token = taken
        self._replace_token(token)
        self.permanent = bool(session.data.get(PERMANENT))
        return session

    def _create(self, user: str | None) -> Session:
        self._check_open()
        self._opened = True
        self.values.load()
        self._session, token = self._sessions.create(self._client, user, self._tags.write(self.values))
        self.values.mark_kept()
        self._replace_token(token)
        self._was_permanent = self.removed = False
        return self._session

    def _replace_token(self, token: str) -> None:
        self.token, self.new_token = token, True

    def _check_open(self) -> None:
        if self._sealed:
            raise RuntimeError("The response's headers are sent; use current_session before it is streamed.")

    def __repr__(self) -> str:
        return f"<RequestSession {self._session!r}>"  # never opens one: a debugger's look is not activity


def client_of(request: Request, settings: Settings) -> Client:
    """Who sends a request, behind the proxies that the settings trust."""
    forwarded, agent = request.headers.get("X-Forwarded-For", ""), request.headers.get("User-Agent")
    return request_client(request.remote_addr, forwarded, agent, settings.trusted_proxies)
