"""Rows of the deployment's tables, as JSON objects: whoever reads one survives whatever else stands there."""

from __future__ import annotations

import json
from typing import Any

MOST = 2**53  # a number beyond it is none of ours: no time in ms, no count, no size


def json_object(text: str) -> dict[str, Any]:
    """A row's JSON object; empty where it is none: one damaged row must not stop what is done for all others."""
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def whole(value: object) -> int:
    """A count, or a time in ms, of a row; -1 where it is none."""
    return value if type(value) is int and 0 <= value < MOST else -1


def decimal(text: str | None) -> int:
    """The same of a number that stands as text: one of `meta`'s marks."""
    return int(text) if text and len(text) < 16 and text.isascii() and text.isdecimal() else -1
