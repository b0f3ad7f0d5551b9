"""Dead letters for operators: what could not be reclaimed, tried again or forgotten."""

from __future__ import annotations

from sessionsweep.deployment import Core, partitions
from sessionsweep.errors import ResourceNotFoundError
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask

PAGE = 200


class NoDeadLetterError(ResourceNotFoundError):
    """No dead letter has this id (any more)."""

    def __str__(self) -> str:
        return f"There is no dead letter {self.resource_id!r}; see: sessionsweep dead-letters list"


def listed(core: Core, limit: int | None = None) -> Flow[list[op.DeadLetter]]:
    """The dead letters of every partition, each partition's oldest first; at most `limit` of them."""
    found: list[op.DeadLetter] = []
    for partition in (yield from partitions(core)):
        offset = 0
        while limit is None or len(found) < limit:
            page = yield from ask(op.DeadLetters(partition, offset, PAGE))
            found.extend(page)
            if not page:
                break
            offset += PAGE
    return found if limit is None else found[:limit]


def find(core: Core, resource_id: str) -> Flow[op.DeadLetter]:
    """The dead letter of that resource.

    Raises:
        NoDeadLetterError: no dead letter has this id.
    """
    for letter in (yield from listed(core)):
        if letter.record.resource_id == resource_id:
            return letter
    raise NoDeadLetterError(resource_id)


def retry(letter: op.DeadLetter) -> Flow[bool]:
    """Owed again, due now, its tries counted anew. False: it was no dead letter any more."""
    return (yield from ask(op.RetryDead(letter.session_id, letter.record.resource_id)))


def drop(core: Core, letter: op.DeadLetter) -> Flow[bool]:
    """Forgotten: its bytes stay where they are, and are nobody's. False: it was no dead letter any more."""
    return (yield from ask(op.DropDead(letter.session_id, letter.record.resource_id, core.retention)))
