"""Which requests don't count as activity: by a pattern of their path, or by a mark on what answers them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import Any, TypeVar

from sessionsweep.errors import ConfigurationError

#: Copied by `functools.wraps`, so that a mark survives decorators that stand above it.
_MARK = "_sessionsweep_no_activity"
V = TypeVar("V")


def no_activity(view: V) -> V:
    """Marks a view (a function, a coroutine function, a class): requests to it see the session and don't renew it."""
    setattr(view, _MARK, True)
    return view


def is_marked(view: Any) -> bool:
    """Whether `no_activity` stands on a view, or on the class behind it (`as_view` of Flask and Django)."""
    return bool(getattr(view, _MARK, False) or getattr(getattr(view, "view_class", None), _MARK, False))


def path_matcher(patterns: str | Iterable[str], variable: str) -> Callable[[str], bool]:
    """Whether a path matches one of some shell patterns: `/healthz`, `/poll/*` (`*` is any text, slashes too).

    Raises:
        ConfigurationError: a pattern could match no path; names `variable`.
    """
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in listed:
        if not isinstance(pattern, str) or not pattern.startswith(("/", "*")):
            raise ConfigurationError(f"{variable}: {pattern!r} matches no path; begin it with / (like '/poll/*')")
    if not listed:
        return lambda path: False
    found = re.compile("|".join(map(translate, listed)))
    return lambda path: found.match(path) is not None
