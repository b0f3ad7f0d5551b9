"""From settings to a store: which of the two, and how it is reached."""

from __future__ import annotations

from sessionsweep.settings import Settings
from sessionsweep.store.memory import MemoryStore, shared_memory_store
from sessionsweep.store.protocol import Store
from sessionsweep.store.redis.sync import RedisStore


def make_store(settings: Settings) -> Store:
    """The store that REDIS_URL names. `memory://` is one store per process and namespace."""
    if settings.redis_url.startswith("memory:"):
        return shared_memory_store(settings.namespace)
    return RedisStore(settings.redis_url, settings.namespace, socket_timeout=settings.socket_timeout)


__all__ = ["MemoryStore", "make_store"]
