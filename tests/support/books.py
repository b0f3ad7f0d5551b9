"""Who has a place in a book, as tests ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sessionsweep.store import operations as op


def members(do: Callable[[op.BookPage], Any], user: str | None) -> tuple[str, ...]:
    """The sessions in a user's book (None: that of all), oldest place first; `do`: what sends an operation."""
    return tuple(place.session_id for place in do(op.BookPage(user)))
