"""The packed records: how a session and a resource lie in Redis, byte by byte (lua/lib/layout.lua is the other side).

Session header, 72 bytes, big-endian: version 1, flags 1, mac 16, created 6, idle 5, max 5, filed 6, keep-alive 6,
resources 2, streams 2, bytes 6, last activity 6, requests 4, fingerprints 3 + 3. What a touch changes lies together,
so that a touch is one SETRANGE. Then, unless all are empty: user, alias, ip, agent, node, and data as key-value
pairs, each length-prefixed. The version byte says how to read the rest; an unknown one is refused, never guessed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from sessionsweep.errors import RecordUnreadableError
from sessionsweep.model.resource import KINDS, ResourceRecord
from sessionsweep.model.session import SessionRecord
from sessionsweep.model.states import ResourceState

VERSION = 1
HEADER = struct.Struct(">BB16sHIBIBIHIHIHHHIHII3s3s")
RESOURCE = struct.Struct(">ccHIHIHIHIBB")
_KINDS = frozenset(letter.encode() for letter in KINDS.values())
_STATES = frozenset(state.value.encode() for state in ResourceState)
PUBLIC_FLAGS = 7  # books and quota; the others are the scripts' own


class UnknownFormatError(RecordUnreadableError):
    """A record was written by a newer release; upgrade this one before it touches that session."""


class _Draft:
    """A `SessionRecord` while it is being filled: a frozen dataclass sets each field through `object.__setattr__`,
    which costs more than all the rest of reading it; a plain class with the same slots may become the record.
    """

    __slots__ = SessionRecord.__slots__

    def __init__(self, session_id: str, raw: bytes) -> None:
        self.session_id = session_id
        if len(raw) < HEADER.size:
            raise RecordUnreadableError(
                f"the record of session {session_id} is damaged: {len(raw)} bytes of {HEADER.size}"
            )
        (
            version, flags, self.mac, c1, c0, i1, i0, m1, m0, f1, f0, k1, k0, self.resource_count, self.stream_count,
            b1, b0, l1, l0, self.request_count, self.fingerprint4, self.fingerprint6,
        ) = HEADER.unpack_from(raw)  # fmt: skip
        if version != VERSION:
            raise UnknownFormatError(
                f"session {session_id} is written in format {version}; this release reads format {VERSION}: upgrade it"
            )
        self.flags = flags & PUBLIC_FLAGS
        self.created = c1 << 32 | c0
        self.last_activity = l1 << 32 | l0
        self.idle = i1 << 32 | i0
        self.max = m1 << 32 | m0
        self.filed = f1 << 32 | f0
        self.keep_alive = k1 << 32 | k0
        self.bytes_used = b1 << 32 | b0
        self.alias = self.node = ""
        self.user: str | None = None
        self.ip: str | None = None
        self.user_agent: str | None = None
        self.data: Mapping[str, bytes] = {}
        if len(raw) > 72:
            self._read_tail(raw)

    def _read_tail(self, raw: bytes) -> None:
        # written out, not a loop over calls: each request reads one
        end = 74 + (raw[72] << 8 | raw[73])
        if end > 74:
            self.user = str(raw[74:end], "utf-8", "replace")
        at, end = end + 1, end + 1 + raw[end]
        if end > at:
            self.alias = str(raw[at:end], "utf-8", "replace")
        at, end = end + 1, end + 1 + raw[end]
        if end > at:
            self.ip = str(raw[at:end], "utf-8", "replace")
        at, end = end + 2, end + 2 + (raw[end] << 8 | raw[end + 1])
        if end > at:
            self.user_agent = str(raw[at:end], "utf-8", "replace")
        at, end = end + 1, end + 1 + raw[end]
        if end > at:
            self.node = str(raw[at:end], "utf-8", "replace")
        if end < len(raw):
            self.data = dict(_pairs(raw, end))


def decode_session(session_id: str, raw: bytes) -> SessionRecord:
    """The record in `raw`.

    Raises:
        UnknownFormatError: its version is newer than this release.
    """
    draft = _Draft(session_id, raw)
    draft.__class__ = SessionRecord  # type: ignore[assignment]
    return draft  # type: ignore[return-value]


def encode_tail(
    user: str | None, alias: str, ip: str | None, agent: str | None, node: str, data: Mapping[str, bytes]
) -> bytes:
    """What follows the header; empty when there is nothing to say."""
    if not (user or alias or ip or agent or node or data):
        return b""
    parts = [
        _counted(user or "", 2), _counted(alias, 1), _counted(ip or "", 1), _counted((agent or "")[:512], 2),
        _counted(node, 1),
    ]  # fmt: skip
    for key, value in data.items():
        parts += [_counted(key, 2), len(value).to_bytes(4, "big"), value]
    return b"".join(parts)


def encode_changes(changes: Mapping[str, bytes | None]) -> bytes:
    """Changed data keys for the save script: (key, set or remove, value)*."""
    parts: list[bytes] = []
    for key, value in changes.items():
        parts += [_counted(key, 2), b"\0" if value is None else b"\1"]
        parts += [len(value or b"").to_bytes(4, "big"), value or b""]
    return b"".join(parts)


def decode_resource(resource_id: str, raw: bytes, locations: list[str]) -> ResourceRecord:
    """One record of a session's resource hash; `locations` are the lines of its `@` field."""
    state, kind, s1, s0, c1, c0, u1, u0, t1, t0, tries, number = RESOURCE.unpack_from(raw)
    purpose, at = _text(raw, RESOURCE.size, 1)
    error, _ = _text(raw, at, 1)
    location = locations[number - 1] if 0 < number <= len(locations) else ""
    return ResourceRecord(
        resource_id, ResourceState(state.decode()), kind.decode(), location, s1 << 32 | s0, c1 << 32 | c0,
        u1 << 32 | u0, t1 << 32 | t0, tries, purpose, error,
    )  # fmt: skip


def is_sound(raw: bytes) -> bool:
    """Whether it is a resource's record: of a known state, kind, and the length that it says. Others are left alone."""
    purpose = raw[28] if len(raw) > 29 else 255
    return (
        raw[:1] in _STATES
        and raw[1:2] in _KINDS
        and len(raw) > 29 + purpose
        and len(raw) == 30 + purpose + raw[29 + purpose]
    )


def _text(raw: bytes, at: int, width: int) -> tuple[str, int]:
    end = at + width + int.from_bytes(raw[at : at + width], "big")
    return raw[at + width : end].decode("utf-8", "replace"), end


def _counted(text: str, width: int) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) >= 1 << (8 * width):
        raise ValueError(f"{text[:40]!r}… is {len(raw)} bytes long; at most {(1 << (8 * width)) - 1} fit")
    return len(raw).to_bytes(width, "big") + raw


def _pairs(raw: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    while at < len(raw):
        key, at = _text(raw, at, 2)
        end = at + 4 + int.from_bytes(raw[at : at + 4], "big")
        yield key, raw[at + 4 : end]
        at = end
