"""Flask apps of one deployment for tests, on either store, whose time the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from sessionsweep import Sessions
from sessionsweep.integrations.flask import SessionSweep
from sessionsweep.store.memory import MemoryStore
from sessionsweep.store.redis.sync import RedisStore
from support.nodes import KEY

Make = Callable[..., Flask]


class Apps:
    """Makes apps with configuration values; `close` closes what they use."""

    def __init__(self, url: str, namespace: str) -> None:
        self._base = {
            "SESSIONSWEEP_REDIS_URL": url,
            "SESSIONSWEEP_NAMESPACE": namespace,
            "SESSIONSWEEP_SECRET_KEY": KEY,
            "SESSIONSWEEP_NODE": "node-a",
        }
        self._made: list[Sessions] = []

    def __call__(self, sweep: SessionSweep | None = None, **config: Any) -> Flask:
        app = Flask("app")
        app.config.update({**self._base, **config})
        (sweep or SessionSweep()).init_app(app)
        sessions = sessions_of(app)
        settings = sessions.settings
        if not settings.in_memory:
            sessions.store = RedisStore(settings.redis_url, settings.namespace, test_clock=True)
            sessions.streams._store = sessions.store
        self._made.append(sessions)
        return app

    def close(self) -> None:
        for sessions in self._made:
            sessions.close()


def sessions_of(app: Flask) -> Sessions:
    """What the extension holds."""
    found: Sessions = app.extensions["sessionsweep"].sessions
    return found


def advance(app: Flask, seconds: float) -> None:
    """Moves the store's time."""
    store = sessions_of(app).store
    assert isinstance(store, RedisStore | MemoryStore)
    store.advance(round(seconds * 1000))
