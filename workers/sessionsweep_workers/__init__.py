"""The Celery side of sessionsweep: `celery -A sessionsweep_workers worker|beat`, or `install(app)` into your own app.

Importing this package reads no setting and connects to nothing; `app` is built when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

    from sessionsweep_workers.installation import install as install

    app: Celery

__all__ = ["app", "install"]


def __getattr__(name: str) -> object:
    if name == "install":
        from sessionsweep_workers.installation import install

        return install
    if name == "app":
        from sessionsweep_workers.application import build

        built = build()
        globals()["app"] = built
        return built
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
