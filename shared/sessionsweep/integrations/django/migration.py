"""Coming to Django's sessions here from another engine: what a key of it still opens there is taken over, once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.contrib.sessions.backends.base import SessionBase

from sessionsweep.integrations.django.configured import old_engine
from sessionsweep.integrations.migration import is_old

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Came:
    """What a key of the old engine opens there; without data nothing."""

    key: str
    store: SessionBase
    data: dict[str, Any]

    def forget(self) -> None:
        """Deletes the old record: the session is ours by now."""
        if self.data:
            try:
                self.store.delete(self.key)
            except Exception:
                _stays()

    async def aforget(self) -> None:
        """See forget."""
        if self.data:
            try:
                await self.store.adelete(self.key)
            except Exception:
                _stays()


def is_concerned(key: str | None) -> bool:
    """Whether a key may be the old engine's: one is named, and the key hasn't our tokens' form."""
    return is_old(key) and old_engine() is not None


def read(key: str) -> Came:
    """What the old engine has under a key. It makes nothing there."""
    store = _store(key)
    return Came(key, store, dict(store.load()))


async def aread(key: str) -> Came:
    """See read."""
    store = _store(key)
    return Came(key, store, dict(await store.aload()))


def _store(key: str) -> SessionBase:
    engine = old_engine()
    assert engine is not None  # see is_concerned
    return engine(key)


def _stays() -> None:
    # whatever its driver raises
    log.warning("a session that was taken over stays in the old engine until it expires", exc_info=True)
