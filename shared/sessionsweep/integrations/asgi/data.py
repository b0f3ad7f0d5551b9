"""`request.session`: a session's data as a dict that knows whether it was looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from sessionsweep.errors import StoreError


class SessionData(dict[str, Any]):
    """A plain dict; what changed in it, nested or not, is found when it is saved.

    `accessed` says whether it was used, and so whether the answer depends on the cookie. Where the store didn't answer
    when the session was to be opened, any use raises that StoreError: a silent store is no empty session.
    """

    def __init__(self, values: dict[str, Any] | None = None, failure: StoreError | None = None) -> None:
        super().__init__(values or {})
        self.accessed = False
        self.failure = failure

    def mark_accessed(self) -> None:
        """Starlette calls this for each use of `request.session`."""
        self.accessed = True
        if self.failure is not None:
            raise self.failure

    def peek(self) -> dict[str, Any]:
        """A copy that doesn't count as a use."""
        return {key: dict.__getitem__(self, key) for key in dict.keys(self)}

    def replace(self, values: dict[str, Any]) -> None:
        """Other content in the same dict, which the app may hold; not a use."""
        dict.clear(self)
        dict.update(self, values)


def _used(name: str) -> Callable[..., Any]:
    plain = getattr(dict, name)

    @wraps(plain)
    def used(self: SessionData, *args: Any, **values: Any) -> Any:
        self.mark_accessed()
        return plain(self, *args, **values)

    return used


# Frameworks that hand out scope["session"] itself call nothing of ours before they use it.
for _name in ("__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__len__", "__eq__", "__ior__",
              "get", "keys", "items", "values", "pop", "popitem", "setdefault", "update", "clear", "copy"):  # fmt: skip
    setattr(SessionData, _name, _used(_name))
