"""A deployment whose time a test moves, in place of the one that Django's settings describe."""

from __future__ import annotations

from typing import Any

from sessionsweep import AsyncSessions, Session, Sessions, Settings
from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.engine.sweep import Sweep
from sessionsweep.integrations.django import SessionStore, configured
from sessionsweep.store.memory import AsyncMemoryStore, MemoryStore
from sessionsweep.store.redis.aio import AsyncRedisStore
from sessionsweep.store.redis.sync import RedisStore
from support.nodes import KEY


class Deployment:
    """Both faces over one store. Without a URL that store is memory."""

    def __init__(self, url: str = "memory://", namespace: str = "ss", **settings: Any) -> None:
        options = {"cleanup_interval": 1, "grace_period": 0, "secret_key": KEY, "node": "a", **settings}
        made = Settings(redis_url=url, namespace=namespace, **options)
        self.settings = made.with_framework_defaults(idle_timeout=1_209_600, max_duration=0, hold=900)
        self.store: Any
        aio: Any
        if url == "memory://":
            self.store = MemoryStore()
            aio = AsyncMemoryStore(self.store)
        else:
            self.store = RedisStore(url, namespace, test_clock=True)
            aio = AsyncRedisStore(url, namespace, test_clock=True)
        self.sessions = Sessions(self.settings, store=self.store)
        self.configured = configured.Configured(self.sessions, AsyncSessions(self.settings, store=aio))

    def advance(self, seconds: float) -> None:
        """Moves the store's time."""
        self.store.advance(round(seconds * 1000))

    def of(self, session: SessionStore | str) -> Session:
        """The same session, read without Django."""
        key = session if isinstance(session, str) else session.session_key
        assert key is not None
        return self.sessions.open(key, touch=False)

    def count(self) -> int:
        """Sessions ever made."""
        return self.sessions.stats().total_sessions_created

    def reclaim(self) -> None:
        """A worker's passes."""
        Sweep(self.sessions.core, self.store).run_once()
        Reclaim(self.sessions.core, self.store).run_once()
