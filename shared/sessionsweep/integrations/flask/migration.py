"""Coming to Flask's sessions here from another `SessionInterface`: what it still holds is taken over, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, Request
from flask.sessions import SessionInterface, SessionMixin
from itsdangerous import BadData
from itsdangerous.encoding import base64_decode, base64_encode

from sessionsweep.deployment import ms
from sessionsweep.errors import ConfigurationError
from sessionsweep.integrations.flask.configured import Lifetimes
from sessionsweep.integrations.flask.values import PERMANENT, Tags
from sessionsweep.integrations.migration import Old, take_over
from sessionsweep.model.session import Client
from sessionsweep.sessions.lifecycle import encode_data
from sessionsweep.sessions.sync import Session, Sessions
from sessionsweep.store.flow import run

log = logging.getLogger(__name__)
UserOf = Callable[[Mapping[str, Any]], str | None]
MIN_SIGNATURE = 16  # bytes; what is shorter behind a dot may be something else


@dataclass(frozen=True, slots=True)
class OldInterface:
    """What the app used before: any `SessionInterface`, and how its data says who is logged in."""

    interface: SessionInterface
    user_of: UserOf | None = None

    def take_over(
        self,
        sessions: Sessions,
        app: Flask,
        request: Request,
        client: Client,
        cookie: str,
        tags: Tags,
        lasts: Lifetimes,
    ) -> tuple[Session, str] | None:
        """The session that the request's old cookie became, made now if need be, and its token; None: there is none.

        Raises:
            ConfigurationError: the old interface has no key to read its cookies with.
            TypeError: data that neither JSON nor Flask's tags can hold, or a user that isn't text.
            LimitReachedError, ClientMismatchError
        """
        # Before a look into our store: two requests at a time import once, and the record that the first one deletes
        # is in our store by then.
        held = self.interface.open_session(app, request)
        if held is None:
            raise ConfigurationError(
                f"migrate_from: {type(self.interface).__name__} can't read its cookies; set the app's SECRET_KEY again"
            )
        values = dict(held)
        something = any(key != PERMANENT for key in values)
        old = None
        if something:
            idle, longest = lasts.of(bool(values.get(PERMANENT)), 0)
            old = Old(encode_data(tags.write(values)), self._user(values), ms(idle), ms(longest))
        taken = run(take_over(sessions.core, canonical(cookie), client, old), sessions.store)
        if something:
            self._delete(app, held)
        if taken is None:
            return None
        (record, now), token = taken
        return Session(sessions, record, now), token

    def _user(self, values: Mapping[str, Any]) -> str | None:
        user = None if self.user_of is None else self.user_of(values)
        if user is not None and not isinstance(user, str):
            # A primary key is often a number. Kept as one it would be found by no `end_user("5")`.
            raise TypeError(f"migrate_user answered {user!r}; give text (`str(…)`), as you give log_in, or None")
        return user or None  # some apps blank the name at log-out

    def _delete(self, app: Flask, held: SessionMixin) -> None:
        """By what any interface understands: saving an emptied session. A signed cookie has no record to delete."""
        held.clear()
        try:
            self.interface.save_session(app, held, app.response_class())
        except Exception:
            # whatever its driver raises; the session is ours by now, and the record ends by its own age
            log.warning("a session that was taken over stays in the old backend until it expires", exc_info=True)


def canonical(cookie: str) -> str:
    """The one spelling of all that itsdangerous takes for the same signed value, so that they become one session.

    It ignores characters that base 64 doesn't have, padding and spare bits in a signature. What is signed, a timestamp
    too, is verified as it stands. The signature stays part of it: who knows only the rest must not find the session.
    """
    signed, dot, signature = cookie.rpartition(".")
    try:
        decoded = base64_decode(signature)
    except (BadData, UnicodeError):
        return cookie
    return f"{signed}.{base64_encode(decoded).decode()}" if dot and len(decoded) >= MIN_SIGNATURE else cookie
