"""Events: what happens to sessions and resources, told in the step that does it. Their names and fields are public API.

Each is a row of a capped stream: one stream to a partition, and one, `g`, for what belongs to the whole deployment. A
stream keeps about its last `CAP` rows, whoever makes them: strangers who create sessions by the thousand push out what
is older, so whoever must know everything reads on all the time. Texts in events come from strangers; they are bounded
here, and must be made harmless where they are shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sessionsweep.model.holds import Hold
from sessionsweep.model.ids import is_resource_id, is_session_id
from sessionsweep.model.resource import KIND_NAMES

CAP = 10_000  # rows that a stream keeps, about: the server drops whole blocks of some hundred
LONGEST = 200  # characters of a field's text
DEPLOYMENT = "g"  # stands in a partition's place: holds, orphans, limits of users and of all sessions
NOW = "$"  # in a cursor's place: only what comes from now on
LOST = ".lost"  # ends the id of an `events_lost`: the place behind which events are missing, and this

_PLACE = re.compile(r"([0-9]{1,15})-([0-9]{1,19})\Z")
_MOST = 2**53


class EventName(StrEnum):
    """What can happen."""

    SESSION_CREATED = "session_created"
    SESSION_ROTATED = "session_rotated"
    SESSION_ADDRESS_CHANGED = "session_address_changed"
    SESSION_ENDED = "session_ended"
    SESSION_RECLAIMED = "session_reclaimed"
    LIMIT_REACHED = "limit_reached"
    RESOURCE_REGISTERED = "resource_registered"
    RESOURCE_COMMITTED = "resource_committed"
    RESOURCE_RELEASED = "resource_released"
    RESOURCE_PROMOTED = "resource_promoted"
    RESOURCE_FORGOTTEN = "resource_forgotten"
    RESOURCES_EVICTED = "resources_evicted"
    RESOURCES_RECLAIMED = "resources_reclaimed"
    RESOURCE_FAILED = "resource_failed"
    RESOURCE_DEAD_LETTERED = "resource_dead_lettered"
    RESOURCE_READOPTED = "resource_readopted"
    INTENT_OVERDUE = "intent_overdue"
    INTENT_ASSUMED_LIVE = "intent_assumed_live"
    ORPHAN_FOUND = "orphan_found"
    HOLD_SET = "hold_set"
    HOLD_LIFTED = "hold_lifted"
    EVENTS_LOST = "events_lost"


@dataclass(frozen=True, slots=True)
class EventField:
    """One field of an event: a text, or a whole number. It is always there: empty, or 0, where nothing was told."""

    name: str
    about: str
    number: bool = False


@dataclass(frozen=True, slots=True)
class EventKind:
    """What one name means. `session`, `resource`: whether it concerns one; then the event names it."""

    about: str
    session: bool = False
    resource: bool = False
    fields: tuple[EventField, ...] = ()


def _text(name: str, about: str) -> EventField:
    return EventField(name, about)


def _number(name: str, about: str) -> EventField:
    return EventField(name, about, number=True)


_LOCATION = _text("location", "where it lies: `v.<volume>`, `p.<process>`, `b.<bucket>`, `x.<reclaimer>`")
_ERROR = _text("error", "what the system answered")

#: Every event there is.
CATALOGUE: Mapping[EventName, EventKind] = {
    EventName.SESSION_CREATED: EventKind("a session began", session=True),
    EventName.SESSION_ROTATED: EventKind(
        "its token changed, as at a log-in; the old one is dead", session=True,
        fields=(_text("user", "whom it was bound to by this; empty: to nobody new"),),
    ),
    EventName.SESSION_ADDRESS_CHANGED: EventKind(
        "opened from another address or user agent than before; told at most once a second for a session", session=True,
        fields=(_number("refused", "1: CLIENT_BINDING turned the request away, 0: it was let in"),),
    ),
    EventName.SESSION_ENDED: EventKind(
        "it is dead to every request from here on", session=True,
        fields=(
            _text("reason", "idle, expired, logout, user, admin, limit or lost"),
            _number("owed", "resources that are to be reclaimed now"),
        ),
    ),
    EventName.SESSION_RECLAIMED: EventKind("an ended session owes nothing more: all is dealt with", session=True),
    EventName.LIMIT_REACHED: EventKind(
        "something was refused; told at most once a second for a limit and a session or user", session=True,
        fields=(
            _text("limit", "the setting: MAX_RESOURCES_PER_SESSION, MAX_SESSIONS_PER_USER …"),
            _number("value", "what it is set to"),
            _text("user", "whose limit it is, for a user's"),
        ),
    ),
    EventName.RESOURCE_REGISTERED: EventKind(
        "a resource is announced, before its first byte", session=True, resource=True,
        fields=(_text("kind", "file, stream, object or other"), _LOCATION),
    ),
    EventName.RESOURCE_COMMITTED: EventKind(
        "its bytes are all there", session=True, resource=True, fields=(_number("size", "bytes"),)
    ),
    EventName.RESOURCE_RELEASED: EventKind("its session gave it up; it is owed", session=True, resource=True),
    EventName.RESOURCE_PROMOTED: EventKind("it left its session and is the app's", session=True, resource=True),
    EventName.RESOURCE_FORGOTTEN: EventKind(
        "an operator let it go: what it named stays where it is, and is nobody's", session=True, resource=True
    ),
    EventName.RESOURCES_EVICTED: EventKind(
        "at a limit, the least recently used made room", session=True, fields=(_number("count", "how many"),)
    ),
    EventName.RESOURCES_RECLAIMED: EventKind(
        "a worker dealt with what a session owed at one place; one event for each batch", session=True,
        fields=(
            _LOCATION,
            _number("deleted", "how many were deleted (streams: closed)"),
            _number("gone", "how many were found gone already"),
            _number("promoted", "how many had become the app's"),
            _number("forgotten", "how many went with their volume"),
            _number("bytes", "bytes that were deleted"),
        ),
    ),
    EventName.RESOURCE_FAILED: EventKind(
        "resources of a session couldn't be deleted and are tried again; one event for each batch", session=True,
        resource=True,
        fields=(
            _LOCATION, _ERROR,
            _number("tries", "how often this one has been tried"),
            _number("count", "how many failed in the batch; the event tells of the first"),
        ),
    ),
    EventName.RESOURCE_DEAD_LETTERED: EventKind(
        "it failed too often: it waits for an operator", session=True, resource=True, fields=(_LOCATION, _ERROR)
    ),
    EventName.RESOURCE_READOPTED: EventKind(
        "a live session's file that lost writes had made it forget is its own again", session=True, resource=True
    ),
    EventName.INTENT_OVERDUE: EventKind("announced, never committed; it is owed", session=True, resource=True),
    EventName.INTENT_ASSUMED_LIVE: EventKind(
        "announced under a run of the server that is over; its commit may be lost, so it stays",
        session=True, resource=True,
    ),
    EventName.ORPHAN_FOUND: EventKind(
        "a pass found bytes that nobody owns; one event for each session's folder", session=True,
        fields=(
            _text("volume", "the volume's id"),
            _number("found", "how many files"),
            _number("destroyed", "how many of them were deleted"),
        ),
    ),
    EventName.HOLD_SET: EventKind(
        "destruction is stopped",
        fields=(
            _text("scope", "all, idle, server, volume:<id>, orphans:<id>, mount:<node>/<name>"),
            _text("code", "why, in a word: rolled-back, marker-missing …"),
            _text("text", "why, and what lifts it"),
        ),
    ),
    EventName.HOLD_LIFTED: EventKind("destruction goes on", fields=(_text("scope", "as it was set"),)),
    EventName.EVENTS_LOST: EventKind(
        "events were dropped before they were read, or the store was set back; nobody knows how many. Told by whoever "
        "reads, never stored; its `id` is that of the event read before, with `.lost` behind it"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `id` (`<partition>:<ms>-<seq>`) is its place, and the cursor for what comes after it;
    only `events_lost` has no place of its own."""

    id: str
    at: int  # ms, the server's clock
    name: EventName
    session_id: str | None = None
    resource_id: str | None = None
    fields: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def partition(self) -> str:
        """The partition whose stream it stands in; `g`: the deployment's."""
        return self.id.partition(":")[0]

    def __str__(self) -> str:
        told = {"session": self.session_id, "resource": self.resource_id, **self.fields}
        return " ".join([self.name, *(f"{key}={value!r}" for key, value in told.items() if value is not None)])


def place_after(partition: str, cursor: str) -> str:
    """A cursor of that partition as its place in the stream: `<ms>-<seq>`; `-`: its beginning; `$`: its end.

    Raises:
        ValueError: it is no cursor of that partition's events.
    """
    if cursor in ("", NOW):
        return cursor or "-"
    where, colon, place = cursor.partition(":")
    match = _PLACE.match(place)
    if not colon or where != partition or match is None or int(match[2]) >= 2**63:
        raise ValueError(f"{cursor[:60]!r} is no cursor of the events of partition {partition!r}")
    return f"{int(match[1])}-{int(match[2])}"


def read_event(partition: str, place: str, row: Mapping[str, str]) -> Event | None:
    """A row of a stream: `e` its name, `s` the session, `x` the resource, then its fields by their names.

    None: no event that this release knows; another release wrote it, or somebody else.
    """
    match = _PLACE.match(place)
    try:
        name = EventName(row.get("e", ""))
    except ValueError:
        return None
    if match is None:
        return None
    kind = CATALOGUE[name]
    session_id, resource_id = row.get("s"), row.get("x")
    told: dict[str, str | int] = {}
    for one in kind.fields:
        value = row.get(one.name, "")
        told[one.name] = _whole(value) if one.number else value[:LONGEST]
    if name is EventName.RESOURCE_REGISTERED:
        told["kind"] = KIND_NAMES.get(str(told["kind"]), told["kind"])
    return Event(
        f"{partition}:{place}",
        int(match[1]),
        name,
        session_id if session_id and is_session_id(session_id) else None,
        resource_id if resource_id and is_resource_id(resource_id) else None,
        told,
    )


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 17 and int(text) < _MOST else 0


def hold_set(scope: str, row: str) -> dict[str, str]:
    """The row that tells of a hold, as it stands in the table of holds."""
    hold = Hold.read(scope, row)
    return {"e": EventName.HOLD_SET, "scope": scope[:LONGEST], "code": hold.reason[:60], "text": hold.text[:LONGEST]}


def hold_lifted(scope: str) -> dict[str, str]:
    """The row that tells that it is lifted."""
    return {"e": EventName.HOLD_LIFTED, "scope": scope[:LONGEST]}
