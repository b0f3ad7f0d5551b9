"""How a command travels: its words in the server's protocol (RESP), packed by hiredis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis

Arg = str | bytes | int


def pack(words: Sequence[Arg]) -> bytes:
    """The words of one command as bytes to send."""
    typed: Any = tuple(words)  # hiredis declares an invariant tuple type that no caller could build
    packed: bytes = hiredis.pack_command(typed)
    return packed
