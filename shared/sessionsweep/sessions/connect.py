"""From settings to a store: which of the two, and how it is reached."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sessionsweep.settings import Settings
from sessionsweep.store.protocol import AsyncStore, Store

if TYPE_CHECKING:
    from sessionsweep.store.memory import MemoryStore

_memory: dict[str, MemoryStore] = {}
_lock = threading.Lock()


def make_store(settings: Settings) -> Store:
    """The store that REDIS_URL names. `memory://` is one store per process and namespace."""
    if settings.in_memory:
        return _memory_store(settings.namespace)
    from sessionsweep.store.redis.sync import RedisStore

    return RedisStore(settings.redis_url, settings.namespace, socket_timeout=settings.socket_timeout)


def make_async_store(settings: Settings) -> AsyncStore:
    """The same store for asynchronous code."""
    if settings.in_memory:
        from sessionsweep.store.memory import AsyncMemoryStore

        return AsyncMemoryStore(_memory_store(settings.namespace))
    from sessionsweep.store.redis.aio import AsyncRedisStore

    return AsyncRedisStore(settings.redis_url, settings.namespace, socket_timeout=settings.socket_timeout)


def _memory_store(namespace: str) -> MemoryStore:
    from sessionsweep.store.memory import MemoryStore

    with _lock:
        store = _memory.get(namespace)
        if store is None:
            store = _memory[namespace] = MemoryStore(namespace=namespace)
        return store
