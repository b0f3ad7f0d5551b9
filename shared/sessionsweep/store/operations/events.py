"""Operations on the streams of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sessionsweep.model.events import NOW, Event, EventName, place_after
from sessionsweep.store.operations.base import Operation

MOST_EVENTS = 500  # in one answer: more would keep the server from its other clients for too long


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order in which they happened. `last`: the cursor to go on from, whether any came or not.

    `lost`: what stood between the cursor and the first of these may have been dropped before it was read, for the
    stream is capped; or the store was emptied, or set back to an older state. It is told once: not again from `last`.
    `more`: there may be more behind it right now; else the stream ended there.
    """

    events: tuple[Event, ...]
    last: str
    lost: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class Events(Operation[EventPage]):
    """At most `count` rows of a partition's events after a cursor (an event's id), the oldest first; rows that nobody
    understands are left out. `after` empty: from the oldest that is kept; `$`: none, but the cursor of what comes next.

    `partition`: `model.events.DEPLOYMENT` for what belongs to the whole deployment.

    Raises:
        ValueError: `after` is no cursor of that partition.
    """

    partition: str
    after: str = ""
    count: int = MOST_EVENTS
    repeatable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        place_after(self.partition, self.after)
        _check(self.count)


@dataclass(frozen=True, slots=True)
class EventsBefore(Operation[EventPage]):
    """At most `count` rows of a partition's events before a place (an event's id), the newest first; rows that nobody
    understands are left out. `before` empty: from the newest. The answer's `last` is where to go back on from.

    Raises:
        ValueError: `before` is no place of that partition's events.
    """

    partition: str
    before: str = ""
    count: int = MOST_EVENTS
    repeatable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.before == NOW:
            raise ValueError(f"{NOW!r} is no place of an event")
        place_after(self.partition, self.before)
        _check(self.count)


def _check(count: int) -> None:
    if not 0 < count <= MOST_EVENTS:
        raise ValueError(f"count {count} must be 1 to {MOST_EVENTS}")


@dataclass(frozen=True, slots=True)
class Emit(Operation[bool]):
    """Tells an event of the whole deployment, which no script of a session's could tell. Answers whether it was told:
    of those with the same `once` in a second only the first is, so that nobody floods the stream."""

    name: EventName
    session_id: str = ""
    fields: Mapping[str, str | int] = field(default_factory=dict)
    once: str = ""
