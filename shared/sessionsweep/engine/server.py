"""Whether the server may drop keys by itself, and the alarm while it does.

A session's record has no TTL, so `volatile-*` drops nothing that matters. Under `allkeys-*` a full server drops
sessions, debts and queues, and what it dropped looks like what never was: no file is then an orphan for having no
owner.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sessionsweep.deployment import Core
from sessionsweep.errors import ConfigurationError
from sessionsweep.model.holds import SERVER, Hold
from sessionsweep.store import operations as op
from sessionsweep.store.protocol import Store

log = logging.getLogger(__name__)

REASON = "memory-policy"
REPEAT = 60.0  # seconds between two lines of the log while it lasts


def eviction_problem(facts: op.ServerFacts) -> str:
    """What is wrong with the server's `maxmemory-policy`, and what mends it; empty: nothing, or it doesn't say."""
    if not facts.policy.startswith("allkeys-"):
        return ""
    return (
        f"the server's maxmemory-policy is {facts.policy}: when its memory is full it drops sessions and the lists of "
        "what must be cleaned, without a word. Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in "
        "its configuration file; on a managed server, in its parameters)"
    )


def refuse_eviction(store: Store) -> None:
    """For whoever starts and can still refuse to.

    Raises:
        ConfigurationError: the server may drop keys by itself. StoreError: it doesn't answer.
    """
    if problem := eviction_problem(store.execute(op.Facts())):
        raise ConfigurationError(f"SESSIONSWEEP_REDIS_URL: {problem}.")


class ServerWatch:
    """One process's view of it. The hold on `server` stands as long as the policy does; the next look lifts it."""

    def __init__(self, core: Core, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._core = core
        self._store = store
        self._monotonic = monotonic
        self._told = float("-inf")
        self._clear = False  # this process has seen to it that no hold stands

    def look(self, facts: op.ServerFacts) -> None:
        """Puts the hold and logs an error each minute; or takes it back."""
        problem = eviction_problem(facts)
        if problem:
            self._clear = False
            text = f"{problem}. Until then no file without an owner is destroyed."
            hold = Hold(SERVER, REASON, text, facts.now, self._core.settings.node)
            self._store.execute(op.TablePut("holds", SERVER, hold.encode(), only_new=True))
            if self._monotonic() - self._told >= REPEAT:
                self._told = self._monotonic()
                log.error("%s", problem)
        elif not self._clear:
            if self._store.execute(op.TableDrop("holds", SERVER)):
                log.warning("the server's maxmemory-policy is %s now: it drops nothing that matters", facts.policy)
            self._clear, self._told = True, float("-inf")
