"""From settings to a store: which of the two, and how it is reached."""

from __future__ import annotations

from sessionsweep.settings import Settings
from sessionsweep.store.protocol import AsyncStore, Store


def make_store(settings: Settings) -> Store:
    """The store that REDIS_URL names. `memory://` is one store per process and namespace."""
    if settings.redis_url.startswith("memory:"):
        from sessionsweep.store.memory import shared_memory_store

        return shared_memory_store(settings.namespace)
    from sessionsweep.store.redis.sync import RedisStore

    return RedisStore(settings.redis_url, settings.namespace, socket_timeout=settings.socket_timeout)


def make_async_store(settings: Settings) -> AsyncStore:
    """The same store for asynchronous code."""
    if settings.redis_url.startswith("memory:"):
        from sessionsweep.store.memory import AsyncMemoryStore, shared_memory_store

        return AsyncMemoryStore(shared_memory_store(settings.namespace))
    from sessionsweep.store.redis.aio import AsyncRedisStore

    return AsyncRedisStore(settings.redis_url, settings.namespace, socket_timeout=settings.socket_timeout)
