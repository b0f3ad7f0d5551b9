"""Requests that don't count as activity (polling, health): named by patterns of paths, or by a mark on the view."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Any, TypeVar

from sessionsweep.errors import ConfigurationError

V = TypeVar("V")
_MARK = "__sessionsweep_no_activity__"
_marked = False


class PathPatterns:
    """Paths as in a shell: `*` stands for any text, slashes too, `?` for one character; `/poll/*` isn't `/poll`.

    Raises:
        ConfigurationError: one that could match no path; `setting` says where it stands.
    """

    def __init__(self, patterns: Iterable[str] = (), setting: str = "a pattern of paths") -> None:
        if isinstance(patterns, str):
            raise TypeError(f"give a list of patterns, such as [{patterns!r}]")
        self._patterns = tuple(patterns)
        for pattern in self._patterns:
            if not isinstance(pattern, str) or not pattern.startswith(("/", "*")):
                raise ConfigurationError(f"{setting}: {pattern!r} matches no path; begin it with /")
        self._match = re.compile("|".join(map(translate, self._patterns)) if self._patterns else r"\b\B").match

    def __contains__(self, path: str) -> bool:
        return self._match(path) is not None

    def __repr__(self) -> str:
        return f"PathPatterns({list(self._patterns)!r})"


def no_activity(view: V) -> V:
    """Decorates a view whose requests don't renew the session; it stands below the framework's own `@route`."""
    global _marked
    setattr(view, _MARK, True)
    _marked = True
    return view


def is_no_activity(view: Any) -> bool:
    """Whether a view, or what it wraps, was decorated so."""
    while view is not None:
        if getattr(view, _MARK, False):
            return True
        view = getattr(view, "__wrapped__", None) or getattr(view, "func", None)
    return False


def any_marked() -> bool:
    """Whether any view of this process was decorated: where none is, nobody needs to look for them."""
    return _marked
