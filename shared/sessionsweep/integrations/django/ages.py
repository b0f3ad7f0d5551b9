"""Django's ages in the store's terms: how long a session lasts from this save, and how long in all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

LONGEST = 2**40 - 1  # ms, 34 years: a record's field holds no more

#: How long a session lasts whose cookie was not sent yet (s). One made for a file by a view that then fails is never
#: saved, so nobody can reach it; its files need not wait for SESSION_COOKIE_AGE.
UNSENT = 3600.0


@dataclass(frozen=True, slots=True)
class Ages:
    """Both in milliseconds: `idle` counts from the save, `max` from the session's beginning (0: none)."""

    idle: int
    max: int


def ages(expiry: object, left: float, lived: int, cap: int) -> Ages:
    """What the store is told at a save.

    Args:
        expiry: what `set_expiry` left in the session: None, seconds, or a date.
        left: seconds that Django gives the session from now on (`get_expiry_age`); a date in the past is below 0.
        lived: ms since the session began.
        cap: MAX_DURATION in ms where somebody set it, 0: none. Django has no such thing, so it only shortens.

    A number of seconds counts from the last save. A date is a fixed end, which nothing defers, a job's keep-alive
    neither: that is our maximal duration.
    """
    idle = min(max(0, round(left * 1000)), LONGEST)
    if not isinstance(expiry, str | datetime):
        return Ages(idle, cap)
    end = min(max(1, lived + idle), LONGEST)
    return Ages(idle, min(end, cap) if cap else end)
