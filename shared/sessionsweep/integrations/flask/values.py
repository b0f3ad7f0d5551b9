"""`flask.session`: a dict that is read from the store when it is first used, in Flask's own tagged JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionMixin
from werkzeug.datastructures import CallbackDict

PERMANENT = "_permanent"  # Flask's own key for `session.permanent`
_PLAIN = frozenset({str, int, float, bool, type(None)})  # exactly these: Markup is a str, too
_USES = (
    *("__contains__", "__delitem__", "__eq__", "__getitem__", "__ior__", "__iter__", "__len__", "__ne__", "__or__"),
    *("__reversed__", "__ror__", "__setitem__", "clear", "copy", "get", "items", "keys", "pop", "popitem"),
    *("setdefault", "update", "values"),
)


class StoredSession(CallbackDict[str, Any], SessionMixin):
    """What `flask.session` stands for. As in Flask, a change inside a value shows only with `modified = True`."""

    modified = False
    accessed = False
    owner: Any = None  # the RequestSession that it belongs to

    def __init__(self, read: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(None, _mark)
        self._read: Callable[[], Mapping[str, Any]] | None = read
        self._as_read: frozenset[str] = frozenset()

    @property
    def is_read(self) -> bool:
        """Whether anybody has looked at it."""
        return self._read is None

    def load(self) -> None:
        """Reads it, if that hasn't happened."""
        if self._read is not None:
            found = self._read()
            self._read, self._as_read = None, frozenset(found)
            dict.update(self, found)

    def forget(self) -> None:
        """Empty, and nothing to save: its session is over."""
        dict.clear(self)
        self._read, self._as_read, self.modified = None, frozenset(), False

    def mark_kept(self) -> None:
        """What it holds now is in the store."""
        self._as_read = frozenset(self)

    @property
    def keeps_something(self) -> bool:
        """Whether it is worth a session: an app that makes every visitor's session permanent keeps nothing yet."""
        return any(key != PERMANENT for key in self)

    @property
    def dropped(self) -> frozenset[str]:
        """Keys that the store has and it no longer has."""
        return self._as_read - set(self)

    def __repr__(self) -> str:
        # A debugger's look is not activity.
        return f"<{type(self).__name__} {dict.__repr__(self) if self.is_read else 'not read'}>"


def _mark(session: Any) -> None:
    session.modified = True


def _reading(name: str) -> Callable[..., Any]:
    inherited = getattr(CallbackDict, name)

    @wraps(inherited)
    def use(self: StoredSession, *args: Any, **values: Any) -> Any:
        self.load()
        return inherited(self, *args, **values)

    return use


for _name in _USES:
    setattr(StoredSession, _name, _reading(_name))


class Tags:
    """Values as the JSON that the store keeps, and back: each top-level key by itself."""

    def __init__(self, serializer: TaggedJSONSerializer) -> None:
        self._serializer = serializer

    def read(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A session's data as the app had set it."""
        return {key: self._untagged(value) for key, value in data.items()}

    def write(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """What to store.

        Raises:
            TypeError: a value that Flask's serializer doesn't know; names the key.
        """
        stored = {}
        for key, value in values.items():
            name = key if isinstance(key, str) else json.dumps(key)  # as a key of JSON: 1 is "1"
            stored[name] = value if type(value) in _PLAIN else self._tagged(name, value)
        return stored

    def _tagged(self, name: str, value: Any) -> Any:
        try:
            return json.loads(self._serializer.dumps(value))
        except (TypeError, ValueError) as error:
            raise TypeError(f"session data {name!r} must be JSON, or a type that Flask tags: {error}") from error

    def _untagged(self, value: Any) -> Any:
        if type(value) is dict:
            return self._serializer.untag({key: self._untagged(inner) for key, inner in value.items()})
        if type(value) is list:
            return [self._untagged(inner) for inner in value]
        return value


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are one JSON. (`==` takes True for 1; other writers order keys otherwise.)"""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
