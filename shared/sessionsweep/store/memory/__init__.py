"""The in-memory store: the same operations in one process, for development, tests and small apps."""

from __future__ import annotations

from sessionsweep.store.memory.store import AsyncMemoryStore, MemoryStore

__all__ = ["AsyncMemoryStore", "MemoryStore"]
