"""Delivers what ended sessions owe to the books of users and of all sessions, in other slots."""

from __future__ import annotations

import logging

from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask

log = logging.getLogger(__name__)


def drain(partition: str, limit: int = 100) -> Flow[int]:
    """Delivers releases that ended sessions owe to books in other slots; again is harmless."""
    entries = yield from ask(op.OutboxRead(partition, limit))
    for entry in entries:
        if entry.book not in ("user", "total"):
            log.warning("an entry of the outbox can't be read and is dropped: %r", entry.raw[:200])
            continue
        user = entry.user if entry.book == "user" else None
        yield from ask(op.GiveBack(user, entry.session_id, entry.resource_id, entry.before))
    if entries:
        yield from ask(op.OutboxDone(partition, tuple(entry.raw for entry in entries)))
    return len(entries)
