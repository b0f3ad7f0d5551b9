"""Printing the output of several processes into one stream, each line with the name of who said it."""

from __future__ import annotations

import re
from typing import TextIO

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # ANSI foregrounds that can be read on black and on white
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST = 16 * 1024  # characters kept of a line that doesn't end


class LineSplitter:
    """Cuts a stream of bytes into lines; keeps the unfinished rest."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes. A line that gets too long is cut."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace").rstrip("\r") for line in lines]

    def flush(self) -> list[str]:
        """The unfinished line, when the stream has ended."""
        rest, self._rest = self._rest, b""
        return [rest.decode(errors="replace")] if rest else []


class LogPrinter:
    """Writes `name | line`, names padded to one width, coloured on a terminal.

    Control characters are shown as `\\x1b`: what a stranger got into a log must not steer the terminal.
    """

    def __init__(self, out: TextIO, names: list[str]) -> None:
        self._out = out
        self._width = max(map(len, names), default=0)
        self._colour = out.isatty()
        self._codes = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}

    def line(self, name: str, text: str) -> None:
        """Print one line of a process.

        Raises:
            OSError: nobody reads our output any more.
        """
        text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
        prefix = f"{name:<{self._width}} |"
        if self._colour:
            prefix = f"\x1b[{self._codes.get(name, 0)}m{prefix}\x1b[0m"
        self._out.write(f"{prefix} {text}\n")
        self._out.flush()
