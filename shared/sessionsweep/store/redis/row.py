"""One row of the wire table: how an operation becomes the words that travel, and a reply its typed result."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sessionsweep.errors import RecordUnreadableError, StoreError
from sessionsweep.store import operations as op
from sessionsweep.store.keys import Keys
from sessionsweep.store.redis.resp import Arg, pack

SESSION_ID_LENGTH = 20


@dataclass(frozen=True, slots=True)
class Wire:
    """`script` and its keys and arguments, or a plain `command` (its first words); `decode(operation, reply)`."""

    decode: Callable[[Any, Any], Any]
    keys: Callable[[Any, Keys], list[str]]
    args: Callable[[Any], list[Arg]] = lambda _: []
    script: str = ""
    command: tuple[str, ...] = ()

    def words(self, operation: Any, keys: Keys, sha_of: Callable[[str], str]) -> list[Arg]:
        """The words to send for an operation."""
        names = self.keys(operation, keys)
        if self.script:
            return ["EVALSHA", sha_of(self.script), len(names), *names, *self.args(operation)]
        return [*self.command, *names, *self.args(operation)]

    def pack(self, operation: Any, keys: Keys, sha_of: Callable[[str], str]) -> bytes:
        """The same as they travel (RESP)."""
        return pack(self.words(operation, keys, sha_of))

    def read(self, operation: Any, reply: Any) -> Any:
        """The operation's typed result.

        Raises:
            RecordUnreadableError: what the store holds is none of ours. It concerns this operation alone.
        """
        try:
            return self.decode(operation, reply)
        except (ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
            raise RecordUnreadableError(f"{type(operation).__name__} met what can't be read: {error!r}") from error

    def outcome(self, operation: Any, answer: Any) -> Any:
        """One of many answers: the result, or the error that stands in its place."""
        if isinstance(answer, StoreError):
            return answer
        try:
            return self.read(operation, answer)
        except RecordUnreadableError as error:
            return error


class OpenWire(Wire):
    """Every request opens a session: its command is put together from parts that were packed before (1 us, not 5)."""

    __slots__ = ()

    def pack(self, operation: op.OpenSession, keys: Keys, sha_of: Callable[[str], str]) -> bytes:
        """See Wire.pack; byte for byte the same."""
        o, sid = operation, operation.session_id.encode()
        if len(sid) != SESSION_ID_LENGTH:
            return Wire.pack(self, operation, keys, sha_of)  # lengths below are fixed
        macs = o.macs[0] if len(o.macs) == 1 else b"".join(o.macs)
        return b"".join(
            (
                _open_head(sha_of("open"), keys.namespace),
                sid[:2],
                b"}:s:",
                sid,
                _open_middle(o.touch, o.family, o.fingerprint, o.enforce, o.grace, o.hold, len(macs)),
                macs,
                b"\r\n",
            )
        )


@functools.lru_cache(maxsize=64)
def _open_head(sha: str, namespace: str) -> bytes:
    """Up to the partition in the session's key."""
    start = f"{namespace}:{{"
    length = len(start.encode()) + len("00}:s:") + SESSION_ID_LENGTH
    return f"*11\r\n$7\r\nEVALSHA\r\n${len(sha)}\r\n{sha}\r\n$1\r\n1\r\n${length}\r\n{start}".encode()


@functools.lru_cache(maxsize=4096)
def _open_middle(
    touch: bool, family: int, fingerprint: bytes, enforce: bool, grace: int, hold: int, macs: int
) -> bytes:
    """From the key's end to the macs: what clients behind one address have in common."""
    arguments = (b"%d" % touch, b"%d" % family, fingerprint, b"%d" % enforce, b"%d" % grace, b"%d" % hold)
    return b"\r\n%b$%d\r\n" % (b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in arguments), macs)
