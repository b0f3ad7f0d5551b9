"""The one table of how each operation travels: operation → script or command, its keys, its arguments, its reply.

The synchronous and the asynchronous store both send from here; neither knows an operation by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sessionsweep.model.ids import is_session_id
from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.session import SessionRecord, Tombstone
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.keys import Keys
from sessionsweep.store.redis.codec import decode_resource, decode_session, encode_changes, encode_tail, is_sound
from sessionsweep.store.redis.resp import Arg, pack

SESSION_ID_LENGTH = 20
FAR = 10**15  # the time of a queue entry that never comes due by itself: a live session's streams


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


_STATUS = {
    0: op.OpenStatus.INVALID,
    1: op.OpenStatus.OK,
    2: op.OpenStatus.MISMATCH,
    3: op.OpenStatus.REFUSED,
    4: op.OpenStatus.ENDED,
}
_LETTER = {
    Outcome.DELETED: b"d",
    Outcome.GONE: b"g",
    Outcome.PROMOTED: b"p",
    Outcome.FORGOTTEN: b"f",
    Outcome.BUSY: b"b",
    Outcome.FAILED: b"x",
}
_META_NUMBERS = {"partitions": 256} | dict.fromkeys(("high_water", "last_sweep", "beat_seen", "run_since"), 10**15)
_NO_FINGERPRINT = b"\0\0\0"


def _text(raw: bytes | None) -> str:
    # whoever may write to the server may put any bytes there: they must not end a pass
    return str(raw, "utf-8", "replace") if raw else ""


class _OpenedDraft:
    """An `Opened` while it is being filled; see codec's draft of a record."""

    __slots__ = op.Opened.__slots__

    def __init__(self, status: op.OpenStatus, now: int, record: SessionRecord) -> None:
        self.status = status
        self.now = now
        self.record = record
        self.reason: str | None = None


def _opened(o: Any, reply: list[Any]) -> op.Opened:
    status = reply[0]
    if status == 1 or status == 2:
        draft = _OpenedDraft(_STATUS[status], reply[1], decode_session(o.session_id, reply[2]))
        draft.__class__ = op.Opened  # type: ignore[assignment]
        return draft  # type: ignore[return-value]
    if status == 4:
        return op.Opened(op.OpenStatus.ENDED, reply[1], None, _text(reply[2]))
    if status == 5:
        return op.Opened(op.OpenStatus.ENDED, reply[1], None, "limit")
    return op.Opened(_STATUS[status], reply[1] if len(reply) > 1 else 0)


def _created(o: op.CreateSession, reply: list[Any]) -> op.Opened:
    if reply[0] == 1:
        return op.Opened(op.OpenStatus.OK, reply[1], decode_session(_text(reply[3]), reply[2]))
    return _opened(o, reply)


def _create_args(o: op.CreateSession) -> list[Arg]:
    fps = (o.fingerprint if o.family == 4 else _NO_FINGERPRINT) + (o.fingerprint if o.family == 6 else _NO_FINGERPRINT)
    flags = o.flags | (16 if o.alias else 0)
    tail = encode_tail(o.user, o.alias, o.ip, o.user_agent, o.node, o.data)
    return [o.mac, o.idle, o.max, o.width, flags, fps, tail, o.alias, o.not_after, o.grace]


def _peeked(o: op.PeekSession, reply: list[Any]) -> op.Peeked:
    now, raw, fields, left = reply
    record = decode_session(o.session_id, raw) if raw else None
    f = _pairs(fields)
    tombstone = None
    if f:
        tombstone = Tombstone(
            o.session_id,
            f["reason"],
            int(f["ended"]),
            int(f["created"]),
            f.get("user") or None,
            owed=left,
            deleted=int(f.get("deleted", 0)),
            bytes_deleted=int(f.get("bytes", 0)),
        )
    return op.Peeked(now, record, tombstone)


def _pairs(flat: list[bytes] | Mapping[bytes, bytes]) -> dict[str, str]:
    if isinstance(flat, Mapping):
        return {_text(key): _text(value) for key, value in flat.items()}
    return {_text(flat[i]): _text(flat[i + 1]) for i in range(0, len(flat), 2)}


def _lines(raw: bytes | None) -> list[str]:
    return _text(raw).split("\n") if raw else []


def _registered(_: Any, reply: list[Any]) -> op.Registered:
    return op.Registered(_text(reply[0]), tuple(_text(rid) for rid in reply[1]), reply[2])


def _resources(_: Any, flat: list[bytes]) -> tuple[ResourceRecord, ...]:
    places: list[str] = []
    fields: list[tuple[bytes, bytes]] = []
    for i in range(0, len(flat), 2):
        if flat[i] == b"@":
            places = _lines(flat[i + 1])
        elif not flat[i].startswith(b"@"):
            fields.append((flat[i], flat[i + 1]))
    return tuple(decode_resource(_text(rid), raw, places) for rid, raw in fields if is_sound(raw))


def _leased(_: op.Lease, reply: list[Any]) -> op.Leased:
    entries = []
    for sid, at, *flat in reply[0]:
        places = _lines(at)
        found = [decode_resource(_text(flat[i]), flat[i + 1], places) for i in range(0, len(flat), 2)]
        entries.append(
            (
                sid.decode(),
                tuple(op.LeasedResource(r.resource_id, r.kind, r.size, r.tries, r.purpose) for r in found),
            )
        )
    return op.Leased(tuple(entries), int(reply[1]), reply[2])


def _settle_args(o: op.Settle) -> list[Arg]:
    packed = b"".join(
        len(a.resource_id).to_bytes(1, "big")
        + a.resource_id.encode()
        + _LETTER[a.outcome]
        + a.delay.to_bytes(6, "big")
        + len(error := a.error.encode()[:200]).to_bytes(1, "big")
        + error
        for a in o.attempts
    )
    return [o.location, o.tries, o.retention, int(o.own), packed]


def _queue_page_args(o: op.QueuePage) -> list[Arg]:
    span = [f"({FAR}", o.since, "BYSCORE", "REV"] if o.latest else [o.since, f"({FAR}", "BYSCORE"]
    return [*span, "LIMIT", o.skip, o.limit, "WITHSCORES"]


def _swept(_: Any, reply: list[Any]) -> op.Swept:
    idle, expired, refiled, stale, more, now, owed, held, would, newer = reply
    told = tuple(_text(one) for one in would)
    return op.Swept(idle, expired, refiled, stale, bool(more), now, owed, int(held), told, bool(newer))


def _outbox(_: Any, reply: list[bytes]) -> tuple[op.OutboxEntry, ...]:
    entries = []
    for raw in reply:
        # one that can't be read gives back nothing, and must not keep the others waiting behind it for ever
        book, _, rest = raw.decode("utf-8", "replace").partition("\0")
        sid, _, rest = rest.partition("\0")
        user, _, rid = rest.rpartition("\0")
        entries.append(op.OutboxEntry(raw, book, sid, user, rid))
    return tuple(entries)


def _dead_letters(_: Any, reply: list[Any]) -> tuple[op.DeadLetter, ...]:
    return tuple(op.DeadLetter(_text(sid), decode_resource(_text(rid), raw, _lines(at))) for sid, rid, raw, at in reply)


def _scanned(o: op.ScanSessions, reply: list[Any]) -> tuple[int, tuple[str, ...]]:
    found = dict.fromkeys(_text(key).rsplit(":", 1)[-1] for key in reply[1])
    return int(reply[0]), tuple(sid for sid in found if is_session_id(sid))


def _facts(_: Any, reply: list[Any]) -> op.ServerFacts:
    run_id, now, version, policy, used, limit, _ = reply
    return op.ServerFacts(_text(run_id), now, _text(version), _text(policy), int(used), int(limit))


def _meta(_: Any, flat: list[bytes] | Mapping[bytes, bytes]) -> dict[str, str]:
    """What is no number, or no possible one, counts as absent: then a hold stops destruction, and passes go on."""
    return {
        name: value
        for name, value in _pairs(flat).items()
        if name not in _META_NUMBERS or (value.isdecimal() and len(value) < 16 and int(value) <= _META_NUMBERS[name])
    }


def _book(user: str | None, k: Keys) -> str:
    return k.total_book() if user is None else k.user_book(user)


def _flag(_: Any, reply: Any) -> bool:
    return bool(reply)


def _same(_: Any, reply: Any) -> Any:
    return reply


def _set_meta_args(o: op.SetMeta) -> list[Arg]:
    mode = "new" if o.only_new else "raise" if o.raise_only else "set"
    return [mode, "".join(f"{name}\n{value}\n" for name, value in o.fields.items())]


WIRE: dict[type[op.Operation[Any]], Wire] = {
    op.CreateSession: Wire(_created, lambda o, k: [k.session(o.session_id)], _create_args, "create"),
    op.OpenSession: OpenWire(
        _opened,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [int(o.touch), o.family, o.fingerprint, int(o.enforce), o.grace, o.hold, b"".join(o.macs)],
        "open",
    ),
    op.PeekSession: Wire(
        _peeked,
        lambda o, k: [k.session(o.session_id), k.tombstone(o.session_id), k.resources(o.session_id)],
        script="peek",
    ),
    op.FindAlias: Wire(lambda _, r: _text(r) or None, lambda o, k: [k.alias(o.partition, o.alias)], command=("GET",)),
    op.RotateSession: Wire(
        _opened,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [
            o.new_mac,
            int(o.user is not None),
            o.user or "",
            o.flags,
            o.not_after,
            b"".join(o.old_macs),
        ],
        "rotate",
    ),
    op.ExtendSession: Wire(
        _opened,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [-1 if o.idle is None else o.idle, -1 if o.max is None else o.max, o.width],
        "extend",
    ),
    op.SaveData: Wire(_opened, lambda o, k: [k.session(o.session_id)], lambda o: [encode_changes(o.changes)], "save"),
    op.EndSession: Wire(
        lambda _, r: op.Ended(bool(r[0]), _text(r[1]) or None, r[2], tuple(_text(p) for p in r[3]), r[4], bool(r[5])),
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.reason, int(o.only_due), o.grace, o.hold, o.idle_for],
        "end",
    ),
    op.Defer: Wire(
        _same,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.token, o.duration, o.resource_id, o.width],
        "defer",
    ),
    op.Undefer: Wire(
        lambda _, r: r is not None,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.token, 0, "", o.width],
        "defer",
    ),
    op.Register: Wire(
        _registered,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [
            o.resource_id,
            o.kind,
            o.location,
            o.size,
            o.purpose,
            int(o.live),
            o.intent_timeout,
            o.max_resources,
            o.max_bytes,
            o.max_streams,
            int(o.quota),
        ],
        "register",
    ),
    op.Grow: Wire(
        _registered,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.resource_id, o.size, o.intent_timeout, o.max_bytes],
        "grow",
    ),
    op.Commit: Wire(_registered, lambda o, k: [k.session(o.session_id)], lambda o: [o.resource_id, o.size], "commit"),
    op.Release: Wire(_flag, lambda o, k: [k.session(o.session_id)], lambda o: [o.resource_id], "release"),
    op.UseResource: Wire(
        lambda o, r: decode_resource(o.resource_id, r[0], _lines(r[1])) if r else None,
        lambda o, k: [k.session(o.session_id), k.resources(o.session_id)],
        lambda o: [o.resource_id],
        "use",
    ),
    op.ListResources: Wire(_resources, lambda o, k: [k.resources(o.session_id)], command=("HGETALL",)),
    op.Lease: Wire(
        _leased,
        lambda o, k: [k.queue(o.partition, o.location), k.batch(o.partition, o.location, o.lease_id)],
        lambda o: [o.duration, o.limit, o.bound, int(o.dead)],
        "lease",
    ),
    op.LeaseHeld: Wire(_flag, lambda o, k: [k.batch(o.partition, o.location, o.lease_id)], command=("EXISTS",)),
    op.Settle: Wire(
        lambda _, r: op.Settled(r[0], tuple(_text(rid) for rid in r[1]), r[2], r[3]),
        lambda o, k: [k.resources(o.session_id)],
        _settle_args,
        "settle",
    ),
    op.Queues: Wire(
        lambda _, r: tuple(op.QueueDepth(_text(name), n, due) for name, n, due in r),
        lambda o, k: [k.locations(o.partition)],
        script="queues",
    ),
    op.QueuePage: Wire(
        lambda _, r: tuple(op.QueueEntry(_text(r[i]), int(r[i + 1])) for i in range(0, len(r), 2)),
        lambda o, k: [k.queue(o.partition, o.location)],
        _queue_page_args,
        command=("ZRANGE",),
    ),
    op.SweepStep: Wire(
        _swept,
        lambda o, k: [k.wheel(o.partition)],
        lambda o: [o.width, o.grace, o.hold, o.limit, o.bound, int(o.observe)],
        "sweep",
    ),
    op.OverdueIntents: Wire(
        _same, lambda o, k: [k.intents(o.partition)], lambda o: [o.limit, o.bound, o.hold], "overdue"
    ),
    op.OutboxRead: Wire(_outbox, lambda o, k: [k.outbox(o.partition)], lambda o: [0, o.limit - 1], command=("LRANGE",)),
    op.OutboxDone: Wire(
        _same,
        lambda o, k: [k.outbox(o.partition)],
        lambda o: [b"".join(len(e).to_bytes(4, "big") + e for e in o.entries)],
        "outbox_done",
    ),
    op.HoldIdle: Wire(_same, lambda o, k: [k.held(o.partition)], lambda o: [o.duration], "hold_idle"),
    op.ListWheel: Wire(
        lambda _, r: (tuple(_text(sid) for sid in r[0]), int(r[1]), r[2]),
        lambda o, k: [k.wheel(o.partition)],
        lambda o: [o.slot, o.offset, o.limit],
        "list_wheel",
    ),
    op.Mend: Wire(
        lambda _, r: op.Mended(_text(r)),
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.width, o.grace, o.retention],
        "mend",
    ),
    op.DeadLetters: Wire(
        _dead_letters, lambda o, k: [k.dead_letters(o.partition)], lambda o: [o.offset, o.limit], "dead_letters"
    ),
    op.RetryDead: Wire(_flag, lambda o, k: [k.resources(o.session_id)], lambda o: [o.resource_id], "retry_dead"),
    op.DropDead: Wire(
        _flag,
        lambda o, k: [k.resources(o.session_id)],
        lambda o: [o.resource_id, o.retention],
        "drop_dead",
    ),
    op.Owned: Wire(
        lambda _, r: op.Ownership(("unknown", "ended", "live")[r[0]], tuple(bool(p) for p in r[1])),
        lambda o, k: [k.session(o.session_id), k.resources(o.session_id), k.tombstone(o.session_id)],
        lambda o: [" ".join(o.resource_ids)],
        "owned",
    ),
    op.Readopt: Wire(
        _flag,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.resource_id, o.location, o.size],
        "readopt",
    ),
    op.Sight: Wire(
        lambda _, r: tuple(bool(seen) for seen in r),
        lambda o, k: [k.sightings(o.partition, o.volume, o.run_id)],
        lambda o: [o.age, o.cap, o.ttl, "\n".join(o.names), "\n".join(o.forget)],
        "sight",
    ),
    op.Reserve: Wire(
        lambda _, r: op.Reserved(bool(r[0]), r[1], r[2], tuple(_text(m) for m in r[3])),
        lambda o, k: [_book(o.user, k)],
        lambda o: [o.session_id, o.limit, o.duration, o.suspects],
        "reserve",
    ),
    op.Confirm: Wire(_flag, lambda o, k: [_book(o.user, k)], lambda o: [o.session_id], "confirm"),
    op.IsLapsed: Wire(_flag, lambda o, k: [_book(o.user, k)], lambda o: [o.session_id], "is_lapsed"),
    op.GiveBack: Wire(
        _flag,
        lambda o, k: [_book(o.user, k), k.user_quota(o.user) if o.user else _book(o.user, k)],
        lambda o: [o.session_id, o.resource_id],
        "give_back",
    ),
    op.Members: Wire(
        lambda _, r: tuple(_text(m) for m in r),
        lambda o, k: [_book(o.user, k)],
        lambda o: [o.offset, o.offset + o.limit - 1],
        command=("ZRANGE",),
    ),
    op.ReserveQuota: Wire(
        lambda _, r: _text(r),
        lambda o, k: [k.user_quota(o.user)],
        lambda o: [f"{o.session_id} {o.resource_id}", o.size, o.max_resources, o.max_bytes],
        "quota",
    ),
    op.Facts: Wire(_facts, lambda _, k: [k.globals("meta")], script="facts"),
    op.Meta: Wire(_meta, lambda _, k: [k.globals("meta")], command=("HGETALL",)),
    op.SetMeta: Wire(_flag, lambda _, k: [k.globals("meta")], _set_meta_args, "set_meta"),
    op.Table: Wire(lambda _, r: _pairs(r), lambda o, k: [k.globals(o.name)], command=("HGETALL",)),
    op.TablePut: Wire(
        _flag,
        lambda o, k: [k.globals(o.name)],
        lambda o: [o.row, o.value, int(o.only_new)],
        "table_put",
    ),
    op.TableDrop: Wire(_flag, lambda o, k: [k.globals(o.name)], lambda o: [o.row], command=("HDEL",)),
    op.TakeLease: Wire(_flag, lambda o, k: [k.globals(f"l:{o.name}")], lambda o: [o.token, o.duration], "take_lease"),
    op.DropLease: Wire(_flag, lambda o, k: [k.globals(f"l:{o.name}")], lambda o: [o.token], "drop_lease"),
    op.Counters: Wire(
        lambda _, r: {name: int(n) for name, n in _pairs(r).items() if n.lstrip("-").isdecimal()},
        lambda o, k: [k.counters(o.partition)],
        command=("HGETALL",),
    ),
    op.Count: Wire(
        lambda _, r: r,
        lambda o, k: [k.counters(o.partition)],
        lambda o: [x for name, n in o.amounts.items() for x in (name, n)],
        "count",
    ),
    op.ScanSessions: Wire(_scanned, lambda o, k: [k.prefix(o.partition)], lambda o: [o.cursor, o.count], "scan"),
}
