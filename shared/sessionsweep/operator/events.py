"""One event as operators are shown it: in plain words, and as fields of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sessionsweep.model.events import Event, EventName
from sessionsweep.operator import causes
from sessionsweep.operator.naming import Names
from sessionsweep.operator.wording import count
from sessionsweep.units import format_size, moment

NO_NAMES = Names({}, {})
_REASONS = {
    "idle": "idle for too long",
    "expired": "too old",
    "logout": "logged out",
    "user": "ended by its user",
    "admin": "ended by an operator",
    "limit": "ended for another session of its user",
    "lost": "its record was lost",
}


def of_event(event: Event, names: Names = NO_NAMES) -> dict[str, Any]:
    """As JSON; `told` is the event in words."""
    return {
        "id": event.id,
        "at": moment(event.at),
        "name": str(event.name),
        "session_id": event.session_id,
        "resource_id": event.resource_id,
        "fields": dict(event.fields),
        "told": told(event, names),
    }


def told(event: Event, names: Names = NO_NAMES) -> str:
    """What happened, in words. It holds texts of strangers: make it harmless where it is shown."""
    say = _WORDS.get(event.name)
    return str(event) if say is None else say(_Said(event), names)


class _Said:
    """An event's fields, each as what it should be: another release may have written it."""

    def __init__(self, event: Event) -> None:
        self.resource = event.resource_id or "a resource"
        self._fields = event.fields

    def text(self, name: str) -> str:
        return str(self._fields.get(name, ""))

    def number(self, name: str) -> int:
        value = self._fields.get(name, 0)
        return value if isinstance(value, int) else 0


def _place(said: _Said, names: Names) -> str:
    location = said.text("location")
    return names.label(location) if location else "an unknown place"


def _rotated(said: _Said, _: Names) -> str:
    user = said.text("user")
    return f"got a new token: {user} logged in" if user else "got a new token"


def _address(said: _Said, _: Names) -> str:
    refused = said.number("refused")
    return f"asked for from another address or browser{': refused' if refused else ''}"


def _ended(said: _Said, _: Names) -> str:
    reason, owed = said.text("reason"), said.number("owed")
    return f"ended: {_REASONS.get(reason, reason)}; " + (f"owes {count(owed, 'resource')}" if owed else "owes nothing")


def _limit(said: _Said, _: Names) -> str:
    user = said.text("user")
    return f"refused: {said.text('limit')}={said.number('value')} is reached{f' by {user}' if user else ''}"


def _registered(said: _Said, names: Names) -> str:
    return f"announced {said.text('kind')} {said.resource} on {_place(said, names)}"


def _reclaimed(said: _Said, names: Names) -> str:
    parts = [
        f"{verb} {count(number, 'resource')}"
        for verb, number in (
            ("deleted", said.number("deleted")),
            ("found gone", said.number("gone")),
            ("promoted", said.number("promoted")),
            ("forgot", said.number("forgotten")),
        )
        if number
    ]
    size = said.number("bytes")
    done = ", ".join(parts) or "dealt with nothing"
    return f"{done}{f' ({format_size(size)})' if size else ''} on {_place(said, names)}"


def _failed(said: _Said, names: Names) -> str:
    number = max(1, said.number("count"))
    what = said.resource if number == 1 else f"{count(number, 'resource')}, first {said.resource},"
    return (
        f"couldn't delete {what} on {_place(said, names)} (try {said.number('tries')}): "
        f"{causes.explained(said.text('error'))}"
    )


def _dead(said: _Said, names: Names) -> str:
    why = causes.explained(said.text("error"))
    return f"gave up on {said.resource} on {_place(said, names)}, a dead letter now: {why}"


def _orphan(said: _Said, names: Names) -> str:
    destroyed = said.number("destroyed")
    volume = names.label(f"v.{said.text('volume')}")
    return f"found {count(said.number('found'), 'file')} of nobody's on {volume}" + (
        f", deleted {destroyed:,}" if destroyed else ""
    )


def _resource(words: str) -> Callable[[_Said, Names], str]:
    return lambda said, _: words.format(said.resource)


_WORDS: Mapping[EventName, Callable[[_Said, Names], str]] = {
    EventName.SESSION_CREATED: lambda said, _: "began",
    EventName.SESSION_ROTATED: _rotated,
    EventName.SESSION_ADDRESS_CHANGED: _address,
    EventName.SESSION_ENDED: _ended,
    EventName.SESSION_RECLAIMED: lambda said, _: "owes nothing more",
    EventName.LIMIT_REACHED: _limit,
    EventName.RESOURCE_REGISTERED: _registered,
    EventName.RESOURCE_COMMITTED: lambda said, _: f"wrote {said.resource}, {format_size(said.number('size'))}",
    EventName.RESOURCE_RELEASED: _resource("gave up {}"),
    EventName.RESOURCE_PROMOTED: _resource("{} is the app's now"),
    EventName.RESOURCE_FORGOTTEN: _resource("an operator let {} go: it stays where it is"),
    EventName.RESOURCES_EVICTED: lambda said, _: f"gave up {count(said.number('count'), 'resource')} to make room",
    EventName.RESOURCES_RECLAIMED: _reclaimed,
    EventName.RESOURCE_FAILED: _failed,
    EventName.RESOURCE_DEAD_LETTERED: _dead,
    EventName.RESOURCE_READOPTED: _resource("{} is its own again, after a lost write"),
    EventName.INTENT_OVERDUE: _resource("{} was announced and never finished"),
    EventName.INTENT_ASSUMED_LIVE: _resource("{} stays: the server may have lost that it was finished"),
    EventName.ORPHAN_FOUND: _orphan,
    EventName.HOLD_SET: lambda said, _: (
        f"destruction stopped ({said.text('scope')}, {said.text('code')}): {said.text('text')}"
    ),
    EventName.HOLD_LIFTED: lambda said, _: f"destruction goes on ({said.text('scope')})",
    EventName.EVENTS_LOST: lambda said, _: "events that stood here are no longer kept",
}
