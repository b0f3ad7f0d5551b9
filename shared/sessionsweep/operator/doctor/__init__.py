"""Everything that may be wrong with a deployment, looked at once: each finding with what mends it."""

from __future__ import annotations

from collections.abc import Iterator

from sessionsweep.deployment import Core
from sessionsweep.errors import StoreError
from sessionsweep.operator.doctor import deployment, server
from sessionsweep.operator.findings import Code, Finding, Level, failure
from sessionsweep.store.protocol import Store

__all__ = ["Code", "Finding", "Level", "examine"]


def examine(core: Core, store: Store) -> Iterator[Finding]:
    """The store's server, the broker's, the deployment (as `verdict` judges it), and this node's volumes. Changes
    nothing."""
    s = core.settings
    if not s.in_memory:
        yield from server.examine("store", s.redis_url, s.socket_timeout, s.idle_timeout)
        if s.broker_url is not None and s.broker_url != s.redis_url and s.sweeper == "workers":
            yield from server.examine("broker", s.broker_url, s.socket_timeout, s.idle_timeout)
    try:
        yield from deployment.examine(core, store)
        if s.sweeper == "workers" and s.broker_url is not None and s.broker_url.startswith(("redis", "unix")):
            yield from deployment.queues(core, store, s.broker_url, s.socket_timeout)
    except StoreError as error:
        yield failure(Code.ANSWERS, "store", f"it doesn't answer: {error}", "see the first lines")
