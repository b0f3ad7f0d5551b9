"""A Django session's data as the store keeps it: each top-level key's value by itself, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from django.core.signing import JSONSerializer

from sessionsweep.sessions.lifecycle import MAX_DATA


class Serializer(Protocol):
    """What SESSION_SERIALIZER names."""

    def dumps(self, obj: Any) -> bytes:
        """As bytes."""
        ...

    def loads(self, data: bytes) -> Any:
        """And back."""
        ...


def encoded(serializer: Serializer, data: Mapping[Any, Any]) -> dict[str, bytes]:
    """Every value as JSON. Keys become text as JSON makes them: 1 → "1", None → "null".

    Raises:
        TypeError: a value isn't JSON, or the serializer writes something else.
        ValueError: together they are over MAX_DATA bytes.
    """
    out = {_text(key): _value(serializer, key, value) for key, value in data.items()}
    if sum(map(len, out.values())) > MAX_DATA:
        raise ValueError(f"session data is over {MAX_DATA} bytes; keep large things in request.session.resources")
    return out


def decoded(serializer: Serializer, stored: Mapping[str, bytes]) -> dict[str, Any]:
    """What `encoded` made. Raises whatever the serializer does about something else."""
    return {key: serializer.loads(value) for key, value in stored.items()}


def changes(serializer: Serializer, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """The top-level keys to send: new values, None for what went."""
    found: dict[str, bytes | None] = {
        key: value
        for key, value in after.items()
        if before.get(key) != value and not (key in before and _same(serializer, before[key], value))
    }
    found.update({key: None for key in before if key not in after})
    return found


def _same(serializer: Serializer, before: bytes, after: bytes) -> bool:
    # Another program may write the same JSON in other bytes. Sending it as a change would undo what a request that runs
    # beside this one does to that key.
    return serializer.dumps(serializer.loads(before)) == after


def _value(serializer: Serializer, key: object, value: Any) -> bytes:
    try:
        made = serializer.dumps(value)
        if type(serializer) is not JSONSerializer:
            json.loads(made)
    except (TypeError, ValueError) as error:
        raise TypeError(f"session data {key!r} must be JSON (text, numbers, lists, dicts): {error}") from error
    return made


def _text(key: object) -> str:
    return key if isinstance(key, str) else str(next(iter(json.loads(json.dumps({key: None})))))
