"""The store under test: every test of this folder that takes `store` runs on each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from driving import AsyncMemorySubject, AsyncRedisSubject, MemorySubject, RedisSubject, Subject


@pytest.fixture(params=["memory", "memory-async", "redis", "redis-async"])
def store(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """An empty store whose time stands still at `T0`."""
    subject: Subject
    match request.param:
        case "memory":
            subject = MemorySubject()
        case "memory-async":
            subject = AsyncMemorySubject()
        case kind:
            url: str = request.getfixturevalue("redis_url")
            namespace: str = request.getfixturevalue("namespace")
            subject = (RedisSubject if kind == "redis" else AsyncRedisSubject)(url, namespace)
    yield subject
    subject.close()
