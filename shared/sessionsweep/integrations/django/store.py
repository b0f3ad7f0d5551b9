"""Django's session backend: what a request's session does to the store, written once for sync and async."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted

from sessionsweep.deployment import Core
from sessionsweep.engine.sweep import Sweep
from sessionsweep.errors import ClientMismatchError, InvalidTokenError
from sessionsweep.integrations import others
from sessionsweep.integrations.django import data as stored
from sessionsweep.integrations.django import migration
from sessionsweep.integrations.django.ages import LONGEST, UNSENT, Ages, ages
from sessionsweep.integrations.django.configured import current
from sessionsweep.integrations.django.resources import Resources
from sessionsweep.integrations.migration import Old, take_over
from sessionsweep.integrations.others import OtherSession
from sessionsweep.model.session import Client, SessionRecord, check_user
from sessionsweep.model.states import EndReason
from sessionsweep.sessions import lifecycle
from sessionsweep.sessions.aio import AsyncSession
from sessionsweep.sessions.sync import Session
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask, run, run_async

R = TypeVar("R")
log = logging.getLogger(__name__)
_NOBODY = Client()


class SessionStore(SessionBase):  # type: ignore[misc]
    """The session of one request. Its `session_key` is the token that the cookie holds: never log it, log `id`.

    Loading neither makes a session nor renews one, saving renews. A save sends the top-level keys that changed; of two
    requests that change the same key the later wins. What `django.contrib.auth` logs in is our session's user.
    """

    #: Who sends the request. Our middleware sets it; Django's doesn't tell a session.
    client: Client = _NOBODY
    #: This request is no activity, so SESSION_SAVE_EVERY_REQUEST doesn't save it. Our middleware sets this too.
    passive = False
    _session_key: str | None

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._record: SessionRecord | None = None  # as the store has it; None: not looked at, or there is none
        self._now = 0  # ms, the store's time when it said so
        self._heard = 0.0  # this process's time then
        self._sent: Mapping[str, bytes] = {}  # the data as the store has it

    @property
    def id(self) -> str | None:
        """The public id, safe in logs and URLs; None without a session."""
        self._get_session()
        return None if self._record is None else self._record.session_id

    @property
    def resources(self) -> Resources:
        """The files that this session owns."""
        return Resources(self)

    def time_left(self) -> float | None:
        """Seconds until the session is over if nothing saves it; asking doesn't. None: there is no session."""
        session = self.owner()
        return None if session is None else session.expires_in

    def others(self) -> list[OtherSession]:
        """The other live sessions of who is logged in, the last seen first; empty for nobody."""
        return self._run(others.listing(*self._whose(self._get_session())))

    async def aothers(self) -> list[OtherSession]:
        """See others."""
        return await self._arun(others.listing(*self._whose(await self._aget_session())))

    def end_other(self, session_id: str) -> bool:
        """Ends one of them by its public id. False: it is nobody's, or somebody else's, or this one."""
        return self._run(others.end(*self._whose(self._get_session()), session_id))

    async def aend_other(self, session_id: str) -> bool:
        """See end_other."""
        return await self._arun(others.end(*self._whose(await self._aget_session()), session_id))

    def log_out_others(self) -> int:
        """Ends all of them, with their files; how many."""
        return self._run(others.end_all(*self._whose(self._get_session())))

    async def alog_out_others(self) -> int:
        """See log_out_others."""
        return await self._arun(others.end_all(*self._whose(await self._aget_session())))

    # what Django asks of a backend

    def is_empty(self) -> bool:
        """Whether there is nothing to save. Where each request saves, a key that opens nothing is found out here:
        Django's middleware would have an empty session made for it, and for every made-up key."""
        if settings.SESSION_SAVE_EVERY_REQUEST and self.session_key and not hasattr(self, "_session_cache"):
            self._get_session()
        return bool(super().is_empty())

    def load(self) -> dict[str, Any]:
        """Its data; empty, and without its key, where the key opens none."""
        if not migration.is_concerned(self.session_key):
            return self._run(self._loading())
        came = migration.read(str(self.session_key))
        data = self._run(self._taking_over(came))
        came.forget()
        return data

    async def aload(self) -> dict[str, Any]:
        """See load."""
        if not migration.is_concerned(self.session_key):
            return await self._arun(self._loading())
        came = await migration.aread(str(self.session_key))
        data = await self._arun(self._taking_over(came))
        await came.aforget()
        return data

    def save(self, must_create: bool = False) -> None:
        """Sends what changed, and renews.

        Raises:
            UpdateError: the session has ended or has another token by now.
            CreateError: `must_create`, and there is one.
            LimitReachedError: of sessions, in all or of the user who logs in. TypeError, ValueError: the data.
        """
        if not must_create and self._is_old():
            self._seen_before(self.load())
        self._run(self._saving(must_create))

    async def asave(self, must_create: bool = False) -> None:
        """See save."""
        if not must_create and self._is_old():
            self._seen_before(await self.aload())
        await self._arun(self._saving(must_create))

    def create(self) -> None:
        """A new session with the data at hand, under a new key."""
        self._run(self._creating())

    async def acreate(self) -> None:
        """See create."""
        await self._arun(self._creating())

    def exists(self, session_key: str | None) -> bool:
        """Whether this key opens a session; asking renews nothing."""
        return self._run(self._opening(session_key)) is not None

    async def aexists(self, session_key: str | None) -> bool:
        """See exists."""
        return await self._arun(self._opening(session_key)) is not None

    def delete(self, session_key: str | None = None) -> None:
        """Ends this session, or the one that a key opens: its files go at once."""
        if self._is_old(session_key):
            self.load()  # an answer with the new key may be on its way: that session is to end, too
            session_key = None
        self._run(self._deleting(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        """See delete."""
        if self._is_old(session_key):
            await self.aload()
            session_key = None
        await self._arun(self._deleting(session_key))

    def cycle_key(self) -> None:
        """A new key for the same session: data and files stay, the old key is dead at once (ASVS 7.2.4).

        Raises:
            SessionInterrupted: it has ended meanwhile (Django answers 400).
        """
        self._get_session()
        self._run(self._cycling())

    async def acycle_key(self) -> None:
        """See cycle_key."""
        await self._aget_session()
        await self._arun(self._cycling())

    @classmethod
    def clear_expired(cls) -> None:
        """One sweep: ends what is due. Their files are the workers' to delete."""
        here = current().sessions
        sweep = Sweep(here.core, here.store)
        while sweep.run_once().more:
            pass

    @classmethod
    async def aclear_expired(cls) -> None:
        """See clear_expired."""
        await asyncio.to_thread(cls.clear_expired)

    # the library's own session, for `resources`

    def owner(self, *, make: bool = False) -> Session | None:
        """The library's session; None where there is none and none is to be made."""
        self._get_session()
        if make and self._record is None:
            self._run(self._creating(UNSENT))
        return None if self._record is None else Session(current().sessions, self._record, self._now)

    async def aowner(self, *, make: bool = False) -> AsyncSession | None:
        """See owner."""
        await self._aget_session()
        if make and self._record is None:
            await self._arun(self._creating(UNSENT))
        return None if self._record is None else AsyncSession(current().async_sessions, self._record, self._now)

    # flows

    def _opening(self, key: str | None) -> Flow[lifecycle.Found | None]:
        """What a key opens. Never a touch: Django counts a save as activity, not a look."""
        if not key:
            return None
        try:
            return (yield from lifecycle.open_session(_core(), key, self.client, touch=False))
        except InvalidTokenError:
            return None
        except ClientMismatchError as mismatch:
            log.warning("%s", mismatch)
            return None

    def _loading(self) -> Flow[dict[str, Any]]:
        found = yield from self._opening(self.session_key)
        if found is None:
            self._forget()
            return {}
        return self._found(found)

    def _taking_over(self, came: migration.Came) -> Flow[dict[str, Any]]:
        """The session that the old engine's became, under a new key that Django's middleware sends: it is modified."""
        old = None
        if came.data:
            lasts = self._ages(None, came.data)
            values = stored.encoded(self.serializer(), came.data)
            old = Old(values, _user(came.data), lasts.idle, lasts.max)
        try:
            taken = yield from take_over(_core(), came.key, self.client, old)
        except ClientMismatchError as mismatch:
            log.warning("%s", mismatch)
            taken = None
        if taken is None:
            self._forget()
            return {}
        found, self._session_key = taken
        self.modified = True
        return self._found(found)

    def _found(self, found: lifecycle.Found) -> dict[str, Any]:
        self._keep(found)
        self._sent = found[0].data
        try:
            return stored.decoded(self.serializer(), self._sent)
        except Exception:
            # what a serializer raises is its own; Django's backends say and do just this
            logging.getLogger("django.security.SuspiciousSession").warning("Session data corrupted")
            return {}

    def _saving(self, must_create: bool) -> Flow[None]:
        if must_create and (self._record is not None or (yield from self._opening(self.session_key))):
            raise CreateError
        if must_create:
            self._forget()
        elif self._record is None and self.session_key is not None:
            unseen = not hasattr(self, "_session_cache")
            loaded = yield from self._loading()
            if self._record is None and not (unseen and loaded):
                # Written without a look (`clear`), or saved at every request, to a session that isn't there: a made-up
                # key makes none. Django's own backends refuse it, too.
                raise UpdateError
            if unseen:
                self._session_cache = loaded
        if self._record is None:
            yield from self._creating()
            return
        try:
            yield from self._updating(self._record)
        except InvalidTokenError:
            raise UpdateError from None

    def _updating(self, record: SessionRecord) -> Flow[None]:
        data = self._get_session()
        values = stored.encoded(self.serializer(), data)
        changes = stored.changes(self.serializer(), self._sent, values)
        user = _user(data)
        if user is not None and user != record.user:
            # Binding takes a new secret. Django has just given a new key for the log-in; only this one is sent.
            found, token = yield from lifecycle.rotate(_core(), record, user)
            record = self._keep(found)
            self._session_key = token
        lasts = self._ages(record)
        save = op.SaveData(record.session_id, changes, record.mac, True, lasts.idle, lasts.max, _core().width)
        reply = yield from ask(save)
        if reply.record is None:
            # Over; or a request beside this one got a new key, and the cookie that this one would set is dead.
            raise UpdateError
        self._keep((reply.record, reply.now))
        self._sent = values

    def _creating(self, at_most: float = LONGEST) -> Flow[None]:
        """With the data at hand. `at_most` (s) it lasts until it is saved."""
        data = self._get_session(no_load=True)
        values, lasts = stored.encoded(self.serializer(), data), self._ages(None)
        idle = min(lasts.idle, round(at_most * 1000))
        found, token = yield from lifecycle.create(_core(), self.client, _user(data), values, idle, lasts.max)
        self._keep(found)
        self._sent = values
        self._session_key = token
        self.modified = True

    def _cycling(self) -> Flow[None]:
        if self._record is None:
            yield from self._creating()
            return
        try:
            found, token = yield from lifecycle.rotate(_core(), self._record)
        except InvalidTokenError:
            raise SessionInterrupted("The request's session ended before it got a new key.") from None
        self._keep(found)
        self._session_key = token
        self.modified = True

    def _deleting(self, key: str | None) -> Flow[None]:
        own = key is None or key == self.session_key
        record = self._record if own else None
        if record is None:
            found = yield from self._opening(self.session_key if own else key)
            record = None if found is None else found[0]
        if record is not None:
            yield from lifecycle.end(_core(), record.session_id, EndReason.LOGOUT)
        if own:
            self._record, self._sent = None, {}

    # its state

    def _is_old(self, key: str | None = None) -> bool:
        """Whether this session's key is the old engine's, and nothing of it is taken over yet."""
        own = key is None or key == self.session_key
        return own and self._record is None and migration.is_concerned(self.session_key)

    def _seen_before(self, loaded: dict[str, Any]) -> None:
        """What is saved wins over what was taken over just now: it may have been written without a look (`clear`)."""
        if not hasattr(self, "_session_cache"):
            self._session_cache = loaded
        elif self._record is None:
            raise UpdateError  # as where a key of ours opens nothing

    def _ages(self, record: SessionRecord | None, data: Mapping[str, Any] | None = None) -> Ages:
        expiry = (self._get_session(no_load=True) if data is None else data).get("_session_expiry")
        left = self.get_expiry_age(expiry=expiry)
        lived = 0
        if record is not None:
            lived = self._now - record.created + round((time.monotonic() - self._heard) * 1000)
        return ages(expiry, left, lived, _core().max)

    def _whose(self, data: Mapping[str, Any]) -> tuple[Core, str | None, str | None]:
        """Who is logged in, also where that isn't saved yet, and this session's id."""
        return _core(), _user(data), None if self._record is None else self._record.session_id

    def _keep(self, found: lifecycle.Found) -> SessionRecord:
        self._record, self._now = found
        self._heard = time.monotonic()
        return found[0]

    def _forget(self) -> None:
        self._record, self._sent = None, {}
        self._session_key = None

    def _run(self, flow: Flow[R]) -> R:
        return run(flow, current().sessions.store)

    async def _arun(self, flow: Flow[R]) -> R:
        return await run_async(flow, current().async_sessions.store)


def _core() -> Core:
    return current().sessions.core


def _user(data: Mapping[str, Any]) -> str | None:
    """Who is logged in, as `django.contrib.auth` writes it: the primary key as text."""
    user = data.get(SESSION_KEY)
    return None if user is None else check_user(str(user))
