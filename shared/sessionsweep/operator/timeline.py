"""Reading events: pages over all partitions in the order of time, tails that follow, and one session's timeline."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sessionsweep.deployment import Core, partitions
from sessionsweep.engine.forward import events_lost
from sessionsweep.errors import StoreError
from sessionsweep.model.events import CAP, DEPLOYMENT, LOST, NOW, Event, EventName, place_after
from sessionsweep.operator.queries import SessionCase, show
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, run
from sessionsweep.store.operations.events import MOST_EVENTS
from sessionsweep.store.protocol import Store

LOOKED_AT = 5000  # events of a partition that one page looks at for those that fit
LOOKED_BACK = 5 * LOOKED_AT  # events that are looked at from the newest back
PAGES = 3 * CAP // LOOKED_AT * 2  # of one session's timeline: two streams, each somewhat longer than its cap
_FEWEST = 20  # events that are read of one stream at once, however many there are
_MOST_PLACES = 300  # of a cursor: one for each partition, and the deployment's
LONGEST = _MOST_PLACES * len(f",00:{10**14}-{2**63}")  # characters of a cursor; usual ones have half as many at most
_PARTITION = re.compile(r"[0-9a-f]{2}\Z")
_MADE = f"-{2**63 - 1}"  # ends a place that was made of a time: no event has it
_TIME = "~"  # stands for it in a cursor's text, of which addresses and headers take only so much


@dataclass(frozen=True, slots=True)
class Cursors:
    """Where a reader stands in each partition's stream. As text: their places, joined by commas; `00:<ms>~` is none of
    an event's, but of a time."""

    places: Mapping[str, str]

    @classmethod
    def of(cls, partitions_: Iterable[str], since: int | None = None, *, now: bool = False) -> Cursors:
        """At the oldest that is kept; or behind what happened before `since` (ms); or, `now`, behind everything."""
        at = None if since is None else max(0, since - 1)
        return cls({p: NOW if now else "" if at is None else f"{p}:{at}{_MADE}" for p in partitions_})

    @classmethod
    def decode(cls, text: str) -> Cursors:
        """From its text.

        Raises:
            ValueError: that is no cursor.
        """
        places = {}
        for one in text.split(",", _MOST_PLACES):
            partition, _, place = one.partition(":")
            if partition in places or not _is_partition(partition) or not place:
                raise ValueError("that is no cursor of events")
            places[partition] = f"{one[:-1]}{_MADE}" if one.endswith(_TIME) else one
            place_after(partition, places[partition])
        return cls(places)

    def __str__(self) -> str:
        places = (place or f"{partition}:0-0" for partition, place in sorted(self.places.items()))
        return ",".join(f"{place.removesuffix(_MADE)}{_TIME}" if place.endswith(_MADE) else place for place in places)

    def is_before(self, event: Event) -> bool:
        """Whether they stand before an event: it is yet to be read from here. A stream without a place is."""
        place = self.places.get(event.partition, "")
        return not place or _order(event.id) > _order(place)

    def at_most(self, other: Cursors) -> Cursors:
        """In each stream the earlier of both places."""
        return Cursors({p: min(place, other.places.get(p, place), key=_order) for p, place in self.places.items()})

    def reach(self, other: Cursors) -> bool:
        """Whether these stand where the others do, or behind it, in every stream."""
        return all(_order(self.places.get(p, "")) >= _order(place) for p, place in other.places.items())

    def over(self, partitions_: Iterable[str]) -> Cursors:
        """Over all of these: what it has no place for is read from the oldest that is kept."""
        return Cursors({partition: self.places.get(partition, "") for partition in partitions_})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: of these names (none: any), of one session."""

    names: frozenset[EventName] = frozenset()
    session_id: str | None = None

    def fits(self, event: Event) -> bool:
        """Whether it is one of them. That events were lost, everybody wants to know."""
        if event.name is EventName.EVENTS_LOST:
            return True
        return (not self.names or event.name in self.names) and self.session_id in (None, event.session_id)


EVERYTHING = Wanted()


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order of their times, and the cursors behind them. `more`: there may be more right now."""

    events: tuple[Event, ...]
    cursors: Cursors
    more: bool


def streams(core: Core, session_id: str | None = None) -> Flow[list[str]]:
    """The streams there are: one to a partition, and the deployment's; for one session those that may tell of it."""
    if session_id is not None:
        return [session_id[:2], DEPLOYMENT]
    return [*(yield from partitions(core)), DEPLOYMENT]


def page(store: Store, cursors: Cursors, limit: int, wanted: Wanted = EVERYTHING) -> Page:
    """At most `limit` events behind the cursors that are wanted, in the order of their times. It looks at `LOOKED_AT`
    events, about: a short page, even an empty one, is the last only if `more` is false.

    Where events were dropped before they were read, one `events_lost` stands in their place.

    Raises:
        StoreError: it doesn't answer. ValueError: a cursor is none.
    """
    places, behind = dict(cursors.places), set(cursors.places)
    found: list[tuple[str, Event]] = []
    looked = 0
    while behind and looked < LOOKED_AT and len(found) <= limit:
        names = sorted(behind)
        size = max(_FEWEST, min(MOST_EVENTS, (limit + 1 if wanted == EVERYTHING else LOOKED_AT) // len(names)))
        looked += size * len(names)
        answers = store.execute_many([op.Events(name, places[name], size) for name in names])
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, StoreError):
                raise answer
            told: tuple[Event, ...] = answer.events
            if answer.lost and not places[name].endswith(_MADE):
                told = (events_lost(places[name], answer), *told)
            found += [(name, event) for event in told if wanted.fits(event)]
            if not answer.more:
                behind.discard(name)
            places[name] = answer.last
    # what a stream holds that wasn't read to its end may be older than what others hold behind this time
    horizon = min((_ms(places[name]) for name in behind), default=None)
    return _cut(found, limit, horizon, cursors, places, bool(behind))


def _cut(
    found: list[tuple[str, Event]], limit: int, horizon: int | None, begun: Cursors, places: dict[str, str], more: bool
) -> Page:
    """The first of what was found. Each stream is gone on with behind the last of its events that is on the page, or,
    where none was left over, behind all that was looked at."""
    ordered = sorted(enumerate(found), key=lambda one: (one[1][1].at, one[0]))
    taken = [one for one in ordered if horizon is None or one[1][1].at <= horizon][:limit]
    left = ordered[len(taken) :]
    for name in {name for _, (name, _) in left}:
        mine = [event for _, (of, event) in taken if of == name]
        if mine and mine[-1].name is EventName.EVENTS_LOST:  # it has no place of its own to go on from
            following = next(one for one in left if one[1][0] == name)
            taken.append(following)
            left.remove(following)
            mine.append(following[1][1])
        if any(of == name for _, (of, _) in left):
            places[name] = mine[-1].id if mine else begun.places[name]
    return Page(tuple(event for _, (_, event) in taken), Cursors(places), more or bool(left))


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest events, oldest first, and the cursors behind all there are. None is missing since `since` (ms)."""

    events: tuple[Event, ...]
    cursors: Cursors
    since: int


def latest(core: Core, store: Store, limit: int, wanted: Wanted = EVERYTHING, since: int = 0) -> Latest:
    """At most `limit` of the events since a time (ms) that are wanted: the newest. It reads each stream from its end
    back, and looks at `LOOKED_BACK` events, about.

    Raises:
        StoreError: it doesn't answer.
    """
    everywhere, mine = run(streams(core), store), run(streams(core, wanted.session_id), store)
    others = Cursors.of((name for name in everywhere if name not in mine), now=True)
    ends = dict(page(store, others, 1).cursors.places)
    reached, rows, back = dict.fromkeys(mine, ""), dict.fromkeys(mine, 0), set(mine)
    found: list[Event] = []
    while back and sum(rows.values()) < LOOKED_BACK:
        names = sorted(back)
        most = limit if wanted == EVERYTHING else MOST_EVENTS
        size = max(_FEWEST, min(most, MOST_EVENTS, LOOKED_AT // len(names)))
        answers = store.execute_many([op.EventsBefore(name, reached[name], size) for name in names])
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, StoreError):
                raise answer
            if not reached[name]:
                ends[name] = answer.events[0].id if answer.events else answer.last
            found += [event for event in answer.events if event.at >= since and wanted.fits(event)]
            reached[name] = answer.last
            rows[name] += size if answer.more else len(answer.events)
            if not answer.more or _ms(answer.last) < since:
                back.discard(name)
        found = sorted(found, key=lambda event: _order(event.id))[-limit:]
        if len(found) == limit:  # what is older than all of these nobody asks for
            back = {name for name in back if _ms(reached[name]) >= found[0].at}
    # what wasn't read to its beginning holds more; what is full has dropped what it held before
    open_ended = [_ms(reached[name]) for name in mine if name in back or rows[name] >= CAP]
    complete = max([since, *open_ended, *([found[0].at] if len(found) == limit else [])])
    return Latest(tuple(found), Cursors(ends), complete)


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is kept of one session's life, oldest first, and how it stands now (None: nothing else is known of it).
    `complete`: from its beginning."""

    session_id: str
    events: tuple[Event, ...]
    case: SessionCase | None
    complete: bool


def replay(core: Core, store: Store, session_id: str) -> Timeline:
    """One session's timeline. It reads its partition's whole stream, which is capped.

    Raises:
        StoreError: it doesn't answer.
    """
    wanted = Wanted(session_id=session_id)
    events, cursors = list[Event](), Cursors.of(run(streams(core, session_id), store))
    for _ in range(PAGES):
        read = page(store, cursors, LOOKED_AT, wanted)
        events += read.events
        cursors = read.cursors
        if not read.more:
            break
    case = run(show(session_id), store)
    complete = bool(events) and events[0].name is EventName.SESSION_CREATED
    return Timeline(session_id, tuple(events), case, complete)


def _order(place: str) -> tuple[int, int]:
    """Of an event's id or a cursor's place."""
    ms, _, sequence = place.removesuffix(LOST).partition(":")[2].partition("-")
    return int(ms or 0), int(sequence or 0)


def _ms(cursor: str) -> int:
    return _order(cursor)[0]


def _is_partition(text: str) -> bool:
    return text == DEPLOYMENT or _PARTITION.match(text) is not None
