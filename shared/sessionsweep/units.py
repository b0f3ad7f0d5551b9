"""Durations, sizes and times: how people write them, as numbers, and back.

Durations are seconds (float). Sizes are bytes (int): kB, MB, GB, TB are powers of 1,000 and KiB, MiB, GiB,
TiB powers of 1,024, as IEC 80000-13 has it. A bare `100M` is refused: programs disagree about what it means.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

_SECONDS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"\d+(?:\.\d+)?"
_PLAIN = re.compile(rf"{_NUMBER}\Z", re.ASCII)
_DURATION = re.compile(
    "".join(rf"(?:(?P<{unit}>{_NUMBER})\s*{unit}(?![a-z])\s*)?" for unit in _SECONDS) + r"\Z", re.ASCII
)
_BYTES = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"(?P<whole>\d+)(?:\.(?P<part>\d+))?\s*(?P<unit>[A-Za-z]*)\Z", re.ASCII)
_SIZE_NAMES = ("B", "kB", "MB", "GB", "TB")

MAX_DURATION = 10 * 365 * 86400.0  # ten years: beyond it a number is a typing error, not a timeout
MAX_SIZE = 2**53 - 1  # the largest whole number that a Lua script on the server counts exactly


def parse_duration(value: object) -> float:
    """Seconds, from a number of seconds, a `timedelta`, or text such as `900`, `15m`, `1h30m`, `500ms`.

    Units are w, d, h, m, s and ms, the largest first, each at most once.

    Raises:
        ValueError: it is none of these, negative, or longer than ten years.
    """
    seconds: float
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        seconds = _duration_text(value)
    else:
        raise ValueError(f"{value!r} is not a duration; write seconds (900) or units (15m, 1h30m, 500ms)")
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_DURATION:
        raise ValueError(f"{value!r} is not between 0 and ten years; write seconds (900) or units (15m, 1h)")
    return seconds


def _duration_text(text: str) -> float:
    stripped = text.strip()
    if _PLAIN.match(stripped):
        return float(stripped)
    match = _DURATION.match(stripped) if stripped else None
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration; write seconds (900) or w, d, h, m, s, ms, largest first (15m, 1h30m, 500ms)"
        )
    return math.fsum(float(number) * _SECONDS[unit] for unit, number in match.groupdict().items() if number)


def parse_size(value: object) -> int:
    """Bytes, from a whole number of bytes or text such as `100MB` (10**6 each) or `1.5GiB` (2**30 each).

    Raises:
        ValueError: it is neither, negative, no whole number of bytes, or above 2**53 - 1.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str):
        size = _size_text(value)
    else:
        raise ValueError(f"{value!r} is not a size; write bytes (1048576) or units (100MB, 1.5GiB)")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"{value!r} is not between 0 and {MAX_SIZE} bytes; write bytes or units (100MB, 1.5GiB)")
    return size


def _size_text(text: str) -> int:
    match = _SIZE.match(text.strip())
    factor = _BYTES.get(match["unit"].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"{text!r} is not a size; write bytes or kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024)"
        )
    part: str = match["part"] or ""
    size: int
    size, rest = divmod(int(match["whole"] + part) * factor, 10 ** len(part))
    if rest:
        raise ValueError(f"{text!r} is not a whole number of bytes; round it")
    return size


def format_duration(seconds: float) -> str:
    """Text that `parse_duration` reads back to the millisecond: `15m`, `1h30m`, `2.5s`, `500ms`.

    Raises:
        ValueError: `seconds` is negative or not finite.
    """
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{seconds!r} is no duration; give seconds of 0 or more")
    milliseconds = round(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, rest = divmod(milliseconds, 1000)
    parts = []
    for unit in ("d", "h", "m"):
        count, whole = divmod(whole, int(_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    if whole or rest or not parts:
        parts.append(f"{whole}.{rest:03}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)


def format_size(size: int) -> str:
    """Text for people, rounded to two decimals: `100 MB`, `1.61 GB`, `512 B` (powers of 1,000).

    Raises:
        ValueError: `size` is negative.
    """
    if size < 0:
        raise ValueError(f"{size!r} is no size; give bytes of 0 or more")
    power = 0
    while power < len(_SIZE_NAMES) - 1 and round(size / 1000**power, 2) >= 1000:
        power += 1
    return f"{size / 1000**power:.2f}".rstrip("0").rstrip(".") + f" {_SIZE_NAMES[power]}"


_LAST = 253_402_300_799_000  # ms: the last second that a datetime can tell


def moment(milliseconds: int) -> datetime:
    """A time of the store as an aware datetime in UTC; one that no datetime can tell, as the nearest that it can."""
    return datetime.fromtimestamp(min(max(milliseconds, 0), _LAST) / 1000, UTC)
