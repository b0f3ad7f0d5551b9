"""Sessions for synchronous code: Flask, Django, Celery jobs, scripts."""

from __future__ import annotations

import builtins
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from sessionsweep.deployment import Core
from sessionsweep.errors import InvalidTokenError, StoreError
from sessionsweep.model.session import Client, SessionRecord
from sessionsweep.model.states import EndReason
from sessionsweep.sessions import books, files, lifecycle, listing
from sessionsweep.sessions.connect import environment_settings, leave, make_store
from sessionsweep.sessions.connections import connections as live_connections
from sessionsweep.sessions.streams import Stream, Streams
from sessionsweep.sessions.view import Connection, Resource, SessionView, Stats
from sessionsweep.store.flow import Flow, run
from sessionsweep.store.protocol import Store
from sessionsweep.units import parse_duration
from sessionsweep.volumes.files import NewFile

if TYPE_CHECKING:
    from sessionsweep.settings import Settings

R = TypeVar("R")
NOBODY = Client()


class Sessions:
    """All sessions of one deployment. Make one per process and share it between threads; nothing connects before use.

    Args:
        settings: the deployment's settings; `Settings.from_env()` where None.
        store: a store to use instead of the one that `redis_url` names (tests).
    """

    def __init__(self, settings: Settings | None = None, *, store: Store | None = None) -> None:
        self.settings = settings or environment_settings()
        self.core = Core(self.settings)
        self.store = store or make_store(self.settings, self.core)
        self.streams = Streams(self.core, self.store)

    @classmethod
    def from_env(cls) -> Sessions:
        """From the SESSIONSWEEP_… variables. Raises ConfigurationError, naming the variable and the fix."""
        return cls(environment_settings())

    def create(
        self, client: Client = NOBODY, user: str | None = None, data: Mapping[str, Any] | None = None
    ) -> tuple[Session, str]:
        """A new session and its token. Raises LimitReachedError, StoreFullError."""
        creating = lifecycle.create(self.core, client, user, lifecycle.encode_data(data or {}))
        (record, now), token = self._run(creating)
        return Session(self, record, now, by_token=True), token

    def open(self, token: str, client: Client = NOBODY, *, touch: bool = True) -> Session:
        """Verifies a token and touches its session, one round trip.

        Raises:
            InvalidTokenError (SessionEndedError where the session was due), ClientMismatchError, StoreError
        """
        return Session(self, *self._run(lifecycle.open_session(self.core, token, client, touch)), by_token=True)

    def attach(self, session_id: str) -> Session:
        """A live session by id, for trusted code such as a background job: no token, no touch."""
        return Session(self, *self._run(lifecycle.attach(self.core, session_id)))

    def get(self, session_id: str) -> Session | None:
        """A live session by id, or None; reading never renews."""
        try:
            return self.attach(session_id)
        except InvalidTokenError:
            return None

    def track(self, key: str, user: str | None = None, data: Mapping[str, Any] | None = None) -> Session:
        """The session behind a key of your own (a JWT's `sid`, a socket's id): got or created, and touched."""
        return Session(self, *self._run(lifecycle.track(self.core, key, user, data or {})))

    def end(self, session_id: str | None = None, *, key: str | None = None, reason: str = EndReason.ADMIN) -> bool:
        """Ends a session by id or by your own key. False: it had ended already, or never was."""
        return self._run(lifecycle.end_named(self.core, session_id, key, reason))

    def end_user(self, user: str, *, except_id: str | None = None, reason: str = EndReason.USER) -> int:
        """Ends every session bound to a user before this call; how many. Calling again is harmless."""
        return self._run(lifecycle.end_user(self.core, user, except_id, reason))

    def list(
        self, user: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[Session], str | None]:
        """A page of live sessions in due order (or a user's), and the next page's cursor (None: the end)."""
        found, following = self._run(listing.live(self.core, user, cursor, limit))
        return [Session(self, record, now) for record, now in found], following

    def connections(self, user: str) -> builtins.list[Connection]:
        """The streams that a user's sessions have open now, on whichever node, oldest first."""
        return self._run(live_connections(self.core, user))

    def stats(self) -> Stats:
        """Totals from the books."""
        return self._run(books.stats(self.core))

    def close(self) -> None:
        """Lets go of volumes and closes connections: calls of a server raise StoreUnavailableError then. Idempotent.

        A `memory://` store ends with the last Sessions that uses it; another may then use its volumes.
        """
        self.core.close()
        if leave(self.core):
            self.store.close()

    def _run(self, flow: Flow[R]) -> R:
        return run(flow, self.store)


class Session(SessionView):
    """One session. `data` is a plain dict; `save` sends what changed in it."""

    def __init__(self, sessions: Sessions, record: SessionRecord, now: int, *, by_token: bool = False) -> None:
        super().__init__(record, now, by_token=by_token)
        self._sessions = sessions

    def log_in(self, user: str) -> str:
        """Binds the session to a user and rotates the secret: the new token; the old one is dead (ASVS 7.2.4).

        What is opened with the old one can save nothing any more; open streams are closed (`released`).

        Raises:
            LimitReachedError: MAX_SESSIONS_PER_USER, where ON_USER_LIMIT is `refuse`.
        """
        return self._rotated(user)

    def rotate(self) -> str:
        """A new token at once; the old one is dead and its streams are closed, the files stay."""
        return self._rotated(None)

    def extend(self, idle: float | None = None, max_duration: float | None = None) -> None:
        """Counts as activity; sets this session's own timeouts where given (seconds). Never adds."""
        self._renewed(*self._run(lifecycle.extend(self._core, self.id, idle, max_duration)))

    def save(self) -> bool:
        """Sends the changed top-level keys of `data`; False: nothing had changed, nothing was sent.

        Raises:
            SessionEndedError: it is over, or another request got it a new token (`log_in`, `rotate`) meanwhile.
        """
        changes = self._changes()
        if changes:
            self._renewed(*self._run(lifecycle.save(self._core, self.id, changes, self._mac)), data=True)
        return bool(changes)

    def end(self, reason: str = EndReason.LOGOUT) -> bool:
        """Ends it: unusable everywhere from now on, its resources reclaimed at once. False: it had ended."""
        return self._run(lifecycle.end(self._core, self.id, reason)).done

    def new_file(
        self, purpose: str = "", suffix: str = "", *, max_size: int | None = None, volume: str | None = None
    ) -> SessionFile:
        """A new file of this session, as a context manager: intent, bytes, commit; an exception discards it.

        `max_size` (bytes) is reserved now; without it the reservation grows as you write.

        Raises:
            SessionEndedError, LimitReachedError, ResourceTooLargeError, VolumeError
        """
        return SessionFile(self, purpose, suffix, max_size, volume)

    def temp_file(self, suffix: str = "", *, max_size: int | None = None) -> SessionFile:
        """A file that is deleted at the end of the block; should the process die, the session's end deletes it."""
        return SessionFile(self, "temp", suffix, max_size, None, temporary=True)

    def adopt_file(
        self, path: str | Path, purpose: str = "", *, suffix: str | None = None, volume: str | None = None
    ) -> str:
        """Takes an existing file into the session (renamed or moved); its resource id."""
        return self._run(files.adopt(self._core, self._record, Path(path), purpose, suffix, volume))

    def resources(self) -> list[Resource]:
        """What it owns now, oldest first."""
        return [Resource.of(record) for record in self._run(files.listed(self.id))]

    def open_file(self, resource_id: str) -> BinaryIO:
        """A file of this session, for reading.

        Raises:
            ResourceNotFoundError, VolumeNotHereError (with the nodes that mount it)
        """
        volume = self._run(files.located(self._core, self.id, resource_id))
        return volume.open_file(self.id, resource_id)

    def delete(self, resource_id: str) -> None:
        """Gives a resource up; its server's worker deletes it. Again is harmless until the worker is done with it.

        Raises:
            ResourceNotFoundError
        """
        self._run(files.delete(self.id, resource_id))

    def promote(self, resource_id: str, to: str | Path | None = None) -> Path:
        """Takes a file out of the session's life: it is the app's, at `to` or in the volume's `kept` folder."""
        return self._run(files.promote(self._core, self.id, resource_id, Path(to) if to is not None else None))

    @contextmanager
    def stream(
        self, purpose: str = "", *, close: Callable[[str], Future[None] | None], linger: float = 0.0
    ) -> Iterator[Stream]:
        """An open connection, registered for as long as the block runs.

        Args:
            close: called once, from another thread, with the reason, when the session ends on any node; it begins to
                close the connection, and may answer a future that is done when it is closed.
            linger: seconds that the place is kept for this session and purpose after the block, for a client that
                comes right back to this process; until then it counts against MAX_STREAMS_PER_SESSION.

        Raises:
            SessionEndedError, LimitReachedError, StoreError
        """
        streams, stream = self._sessions.streams, Stream(self.id, purpose, close)
        streams.begin()
        if not streams.admit(stream, linger):
            try:
                register = files.register(
                    self._core, self._record, stream.id, "stream", stream.location, 0, purpose, live=True
                )
                self._run(register)
            except BaseException:
                streams.drop(stream)
                with suppress(StoreError):  # its answer may be all that was lost
                    self._sessions.store.execute(streams.gone(stream))
                raise
            stream.registered = True
        try:
            yield stream
        finally:
            if streams.leave(stream, linger):
                try:
                    self._sessions.store.execute(streams.gone(stream))
                except StoreError:
                    streams.give_back_later(stream)

    @contextmanager
    def keep_alive(self, max: float | str = "1h") -> Iterator[Session]:
        """Keeps the session alive while the block runs, at most `max` (seconds or `2h`), also if this process dies."""
        token = secrets.token_hex(8)
        self._run(lifecycle.keep_alive(self._core, self.id, token, parse_duration(max)))
        try:
            yield self
        finally:
            self._run(lifecycle.let_go(self._core, self.id, token))

    @contextmanager
    def pin(self, resource_id: str, max: float | str = "1h") -> Iterator[BinaryIO]:
        """Keeps one file from being destroyed while the block reads it, at most `max`."""
        token = secrets.token_hex(8)
        self._run(lifecycle.keep_alive(self._core, self.id, token, parse_duration(max), resource_id))
        try:
            with self.open_file(resource_id) as opened:
                yield opened
        finally:
            self._run(lifecycle.let_go(self._core, self.id, token))

    @property
    def _core(self) -> Core:
        return self._sessions.core

    def _rotated(self, user: str | None) -> str:
        (record, now), token = self._run(lifecycle.rotate(self._core, self._record, user))
        self._renewed(record, now)
        return token

    def _run(self, flow: Flow[R]) -> R:
        return run(flow, self._sessions.store)


class SessionFile:
    """A file being written: enter, write, leave. It lies under its final name and lock from the first byte on."""

    def __init__(
        self,
        session: Session,
        purpose: str,
        suffix: str,
        max_size: int | None,
        volume: str | None,
        temporary: bool = False,
    ) -> None:
        self._session = session
        self._wanted = (purpose, suffix, max_size, volume)
        self._temporary = temporary
        self._file: NewFile | None = None
        self._renewed = 0.0
        self.id = ""

    def __enter__(self) -> SessionFile:
        s = self._session
        self.id, self._volume, limit = s._run(files.begin(s._core, s._record, *self._wanted))
        self._renewed = time.monotonic()
        try:
            self._file = self._volume.create(s.id, self.id, limit=limit, on_grow=self._grow)
        except BaseException:
            s._run(files.abandon(s.id, self.id))
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or self._temporary:
            self._discard()
            return
        s, file = self._session, self.file
        try:
            size = file.finish()
            s._run(files.commit(s._core, s._record, self.id, size))
        except BaseException:
            self._discard()
            raise
        file.close()

    @property
    def file(self) -> NewFile:
        """The open file on its volume."""
        if self._file is None:
            raise ValueError("use it as a context manager: with session.new_file(...) as f")
        return self._file

    @property
    def path(self) -> Path:
        """Where it lies, for programs that write it themselves; what they wrote counts at the end of the block."""
        return self.file.path

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.file.size

    def write(self, data: bytes) -> int:
        """Writes; grows the reservation where needed. Raises ResourceTooLargeError, SessionEndedError."""
        if time.monotonic() - self._renewed > self._session._core.settings.intent_timeout / 3:
            self._grow(self.file.size)
        return self.file.write(data)

    def copy_from(self, source: Any) -> int:
        """Copies a path, a binary file or an upload of a web framework; bytes copied."""
        return self.file.copy_from(source, self.write)

    def read(self, size: int = -1) -> bytes:
        """Reads back from the current position."""
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves the position."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self.file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Cuts it."""
        return self.file.truncate(size)

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        self.file.flush()

    def fileno(self) -> int:
        """The descriptor."""
        return self.file.fileno()

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

    def _grow(self, needed: int) -> int:
        s = self._session
        self._renewed = time.monotonic()
        return s._run(files.grow(s._core, s._record, self.id, self.file.limit or 0, needed))

    def _discard(self) -> None:
        s = self._session
        try:
            removed = self.file.discard()
        except OSError:
            removed = False
        s._run(files.dropped(s._core, s.id, self.id, self._volume.id, removed))
