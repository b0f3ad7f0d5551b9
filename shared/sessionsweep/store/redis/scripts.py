"""Loads the scripts: a `.lua` file per operation, with the shared parts that its `--@include` lines name."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

_INCLUDE = re.compile(r"^[ \t]*--@include (\w+)[ \t]*$", re.MULTILINE)
_ROOT = files("sessionsweep.store") / "lua"

#: What tests put in the place of lib/clock.lua: the server's time plus an offset, or a frozen time. Production
#: never loads it, so nothing that a client could write moves a production clock.
TEST_CLOCK = """
local frozen, offset = unpack(redis.call('MGET', '{namespace}:test:frozen', '{namespace}:test:offset'))
local t = redis.call('TIME')
local now = tonumber(frozen) or (t[1] * 1000 + math.floor(t[2] / 1000) + (tonumber(offset) or 0))
"""


@dataclass(frozen=True, slots=True)
class Script:
    """One script's full text and the SHA-1 by which EVALSHA calls it."""

    name: str
    text: str
    sha: str


@functools.cache
def _part(name: str) -> str:
    return (_ROOT / "lib" / f"{name}.lua").read_text()


@functools.cache
def load(name: str, test_clock: str | None = None) -> Script:
    """The script `name`; `test_clock` is a namespace whose test keys move its time."""

    def included(match: re.Match[str]) -> str:
        if match[1] == "clock" and test_clock is not None:
            return TEST_CLOCK.replace("{namespace}", test_clock)
        return _part(match[1])

    text = _INCLUDE.sub(included, (_ROOT / f"{name}.lua").read_text())
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@functools.cache
def shas(test_clock: str | None = None) -> dict[str, str]:
    """Every script's SHA-1. All are read at once: an upgrade under a running process must not mix two releases."""
    return {name: load(name, test_clock).sha for name in names()}


def names() -> list[str]:
    """All scripts, by name."""
    return sorted(entry.name.removesuffix(".lua") for entry in _ROOT.iterdir() if entry.name.endswith(".lua"))
