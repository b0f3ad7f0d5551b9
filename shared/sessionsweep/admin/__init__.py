"""The admin side over HTTP, for whoever is on call: an API under `/admin`. Needs `pip install 'sessionsweep[admin]'`.

`sessionsweep admin` serves it alone; `create_admin()` is an ASGI app to mount into another one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sessionsweep.admin.app import create_admin

__all__ = ["create_admin"]


def __getattr__(name: str) -> Any:
    if name == "create_admin":  # on first use: who only checks a token (`sessionsweep up`) waits for no FastAPI
        value = globals()[name] = import_module("sessionsweep.admin.app").create_admin
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
