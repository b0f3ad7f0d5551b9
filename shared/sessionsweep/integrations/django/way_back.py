"""The way back from here to another engine of Django's, with everybody still logged in."""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.base import SessionBase

from sessionsweep.integrations.django.configured import engine_of
from sessionsweep.integrations.django.store import SessionStore as Ours
from sessionsweep.integrations.migration import is_old


def back_to(engine: str) -> type[SessionBase]:
    """The `SessionStore` of an engine that on a miss copies what ours holds, under a new key of its own.

    Our session is neither renewed nor ended by that: it ends by its own age, and its files with it, so that other
    requests of the same page find it, too.

    Raises:
        ConfigurationError: `engine` names none.
    """

    old = engine_of(engine)

    class SessionStore(old):  # type: ignore[misc, valid-type]
        def load(self) -> dict[str, Any]:
            key = self.session_key
            if key is None or is_old(key):
                return dict(super().load())
            return self._copied(Ours(key).load())

        async def aload(self) -> dict[str, Any]:
            key = self.session_key
            if key is None or is_old(key):
                return dict(await super().aload())
            return self._copied(await Ours(key).aload())

        def _copied(self, data: dict[str, Any]) -> dict[str, Any]:
            self._session_key = None
            self.modified = bool(data)  # the middleware saves it, which makes a key
            return data

    # Django signs the data under a salt made of this name; the engine alone is to read what was saved here.
    SessionStore.__qualname__ = old.__qualname__
    return SessionStore
