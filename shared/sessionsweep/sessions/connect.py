"""From the environment to settings, from settings to a store: which of the two, how it is reached and how left."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from sessionsweep.deployment import Core
from sessionsweep.store.protocol import AsyncStore, Store

if TYPE_CHECKING:
    from sessionsweep.settings import Settings
    from sessionsweep.settings_values import VolumeSpec
    from sessionsweep.store.memory import MemoryStore


class _Memory(NamedTuple):
    """A memory store of this process, and whose it is."""

    store: MemoryStore
    users: weakref.WeakSet[Core]


_Key = tuple[str, "tuple[VolumeSpec, ...]"]
_memory: dict[_Key, _Memory] = {}
_lock = threading.Lock()


def environment_settings() -> Settings:
    """The settings of the SESSIONSWEEP_… variables. Raises ConfigurationError."""
    from sessionsweep.settings import Settings  # pydantic takes longer to import than all the rest of the core

    return Settings.from_env()


def make_store(settings: Settings, user: Core | None = None) -> Store:
    """The store that REDIS_URL names; of `memory://` there is one for all `user`s with this namespace and volumes."""
    if settings.in_memory:
        return _memory_store(settings, user)
    from sessionsweep.store.redis.sync import RedisStore

    return RedisStore(settings.redis_url, settings.namespace, socket_timeout=settings.socket_timeout)


def make_async_store(settings: Settings, user: Core | None = None) -> AsyncStore:
    """The same store for asynchronous code."""
    if settings.in_memory:
        from sessionsweep.store.memory import AsyncMemoryStore

        return AsyncMemoryStore(_memory_store(settings, user))
    from sessionsweep.store.redis.aio import AsyncRedisStore

    return AsyncRedisStore(settings.redis_url, settings.namespace, socket_timeout=settings.socket_timeout)


def leave(user: Core) -> bool:
    """Whether the user's store serves nobody else, so that it may be closed; such a memory is forgotten."""
    if not user.settings.in_memory:
        return True
    with _lock:
        memory = _memory.get(_key(user.settings))
        if memory is None:
            return True
        memory.users.discard(user)
        if memory.users:
            return False
        del _memory[_key(user.settings)]
        return True


def _memory_store(settings: Settings, user: Core | None) -> MemoryStore:
    from sessionsweep.store.memory import MemoryStore

    with _lock:
        memory = _memory.get(_key(settings))
        if memory is None:
            store = MemoryStore(namespace=settings.namespace)
            memory = _memory[_key(settings)] = _Memory(store, weakref.WeakSet())
        if user is not None:
            memory.users.add(user)
        return memory.store


def _key(settings: Settings) -> _Key:
    """With other volumes it is another app, such as the one that the next test makes."""
    return settings.namespace, settings.volumes
