"""The one table of how each operation travels: operation → script or command, its keys, its arguments, its reply.

The synchronous and the asynchronous store both send from here; neither knows an operation by name.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from sessionsweep.model.events import DEPLOYMENT, hold_lifted, hold_set, place_after
from sessionsweep.model.holds import TABLE as HOLDS
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.keys import Keys
from sessionsweep.store.redis import reading
from sessionsweep.store.redis.codec import decode_resource, encode_changes, encode_tail
from sessionsweep.store.redis.resp import Arg
from sessionsweep.store.redis.row import OpenWire, Wire

FAR = 10**15  # the time of a queue entry that never comes due by itself: a live session's streams


_LETTER = {
    Outcome.DELETED: b"d",
    Outcome.GONE: b"g",
    Outcome.PROMOTED: b"p",
    Outcome.FORGOTTEN: b"f",
    Outcome.BUSY: b"b",
    Outcome.FAILED: b"x",
}
_NO_FINGERPRINT = b"\0\0\0"


def _create_args(o: op.CreateSession) -> list[Arg]:
    fps = (o.fingerprint if o.family == 4 else _NO_FINGERPRINT) + (o.fingerprint if o.family == 6 else _NO_FINGERPRINT)
    flags = o.flags | (16 if o.alias else 0)
    tail = encode_tail(o.user, o.alias, o.ip, o.user_agent, o.node, o.data)
    return [o.mac, o.idle, o.max, o.width, flags, fps, tail, o.alias, o.not_after, o.grace, o.hold]


def _timeouts(o: op.ExtendSession | op.SaveData) -> list[Arg]:
    return [-1 if o.idle is None else o.idle, -1 if o.max is None else o.max, o.width]


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


def _emit_args(o: op.Emit) -> list[Arg]:
    told: dict[str, Any] = {"e": o.name} | ({"s": o.session_id} if o.session_id else {}) | {**o.fields}
    return [o.once, pack_row(told)]


def pack_row(row: Mapping[str, Any]) -> bytes:
    """An event's row as scripts unpack it."""
    words = (str(word).encode("utf-8", "replace")[:65535] for pair in row.items() for word in pair)
    return b"".join(struct.pack(">H", len(word)) + word for word in words)


def _before(o: op.EventsBefore) -> str:
    place = place_after(o.partition, o.before) if o.before else "+"
    return place if place in ("+", "0-0") else f"({place}"  # the server finds nothing before its least id an error


def _queue_page_args(o: op.QueuePage) -> list[Arg]:
    span: list[Arg] = [f"({FAR}", o.since, "BYSCORE", "REV"] if o.latest else [o.since, f"({FAR}", "BYSCORE"]
    return [*span, "LIMIT", o.skip, o.limit, "WITHSCORES"]


def _book(user: str | None, k: Keys) -> str:
    return k.total_book() if user is None else k.user_book(user)


def _set_meta_args(o: op.SetMeta) -> list[Arg]:
    mode = "new" if o.only_new else "raise" if o.raise_only else "set"
    return [mode, "".join(f"{name}\n{value}\n" for name, value in o.fields.items())]


WIRE: dict[type[op.Operation[Any]], Wire] = {
    op.CreateSession: Wire(reading.created, lambda o, k: [k.session(o.session_id)], _create_args, "create"),
    op.OpenSession: OpenWire(
        reading.opened,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [int(o.touch), o.family, o.fingerprint, int(o.enforce), o.grace, o.hold, b"".join(o.macs)],
        "open",
    ),
    op.PeekSession: Wire(
        reading.peeked,
        lambda o, k: [k.session(o.session_id), k.tombstone(o.session_id), k.resources(o.session_id)],
        script="peek",
    ),
    op.FindAlias: Wire(
        lambda _, r: reading.text(r) or None, lambda o, k: [k.alias(o.partition, o.alias)], command=("GET",)
    ),
    op.RotateSession: Wire(
        reading.opened,
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
        reading.opened,
        lambda o, k: [k.session(o.session_id)],
        _timeouts,
        "extend",
    ),
    op.SaveData: Wire(
        reading.opened,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [encode_changes(o.changes), o.mac, int(o.renew), *_timeouts(o)],
        "save",
    ),
    op.EndSession: Wire(
        lambda _, r: op.Ended(
            bool(r[0]), reading.text(r[1]) or None, r[2], tuple(reading.text(p) for p in r[3]), r[4], bool(r[5])
        ),
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.reason, int(o.only_due), o.grace, o.hold, o.idle_for],
        "end",
    ),
    op.Defer: Wire(
        reading.same,
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
        reading.registered,
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
            o.not_after,
            o.user,
        ],
        "register",
    ),
    op.Grow: Wire(
        reading.registered,
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.resource_id, o.size, o.intent_timeout, o.max_bytes, int(o.tell)],
        "grow",
    ),
    op.Commit: Wire(
        reading.registered, lambda o, k: [k.session(o.session_id)], lambda o: [o.resource_id, o.size], "commit"
    ),
    op.Release: Wire(reading.flag, lambda o, k: [k.session(o.session_id)], lambda o: [o.resource_id], "release"),
    op.UseResource: Wire(
        lambda o, r: decode_resource(o.resource_id, r[0], reading.lines(r[1])) if r else None,
        lambda o, k: [k.session(o.session_id), k.resources(o.session_id)],
        lambda o: [o.resource_id],
        "use",
    ),
    op.LiveResources: Wire(
        reading.resources,
        lambda o, k: [k.session(o.session_id), k.resources(o.session_id)],
        script="live_resources",
    ),
    op.ListResources: Wire(reading.resources, lambda o, k: [k.resources(o.session_id)], command=("HGETALL",)),
    op.Lease: Wire(
        reading.leased,
        lambda o, k: [k.queue(o.partition, o.location), k.batch(o.partition, o.location, o.lease_id)],
        lambda o: [o.duration, o.limit, o.bound, int(o.dead)],
        "lease",
    ),
    op.LeaseHeld: Wire(reading.flag, lambda o, k: [k.batch(o.partition, o.location, o.lease_id)], command=("EXISTS",)),
    op.Settle: Wire(
        lambda _, r: op.Settled(r[0], tuple(reading.text(rid) for rid in r[1]), r[2], r[3]),
        lambda o, k: [k.resources(o.session_id)],
        _settle_args,
        "settle",
    ),
    op.Queues: Wire(
        lambda _, r: tuple(op.QueueDepth(reading.text(name), n, due) for name, n, due in r),
        lambda o, k: [k.locations(o.partition)],
        script="queues",
    ),
    op.QueuePage: Wire(
        lambda _, r: tuple(op.QueueEntry(reading.text(r[i]), int(r[i + 1])) for i in range(0, len(r), 2)),
        lambda o, k: [k.queue(o.partition, o.location)],
        _queue_page_args,
        command=("ZRANGE",),
    ),
    op.Receipts: Wire(
        reading.receipts, lambda o, k: [k.prefix(o.partition)], lambda o: [o.cursor, o.count], "receipts"
    ),
    op.TryNow: Wire(reading.flag, lambda o, k: [k.resources(o.session_id)], lambda o: [o.resource_id], "try_now"),
    op.SweepStep: Wire(
        reading.swept,
        lambda o, k: [k.wheel(o.partition)],
        lambda o: [o.width, o.grace, o.hold, o.limit, o.bound, int(o.observe)],
        "sweep",
    ),
    op.OverdueIntents: Wire(
        reading.same, lambda o, k: [k.intents(o.partition)], lambda o: [o.limit, o.bound, o.hold], "overdue"
    ),
    op.OutboxRead: Wire(
        reading.outbox, lambda o, k: [k.outbox(o.partition)], lambda o: [0, o.limit - 1], command=("LRANGE",)
    ),
    op.OutboxDone: Wire(
        reading.same,
        lambda o, k: [k.outbox(o.partition)],
        lambda o: [b"".join(len(e).to_bytes(4, "big") + e for e in o.entries)],
        "outbox_done",
    ),
    op.HoldIdle: Wire(reading.same, lambda o, k: [k.held(o.partition)], lambda o: [o.duration], "hold_idle"),
    op.ListWheel: Wire(
        lambda _, r: (tuple(reading.text(sid) for sid in r[0]), int(r[1]), r[2]),
        lambda o, k: [k.wheel(o.partition)],
        lambda o: [o.slot, o.offset, o.limit, o.after],
        "list_wheel",
    ),
    op.Mend: Wire(
        lambda _, r: op.Mended(reading.text(r)),
        lambda o, k: [k.session(o.session_id)],
        lambda o: [o.width, o.grace, o.retention],
        "mend",
    ),
    op.DeadLetters: Wire(
        reading.dead_letters, lambda o, k: [k.dead_letters(o.partition)], lambda o: [o.offset, o.limit], "dead_letters"
    ),
    op.RetryDead: Wire(reading.flag, lambda o, k: [k.resources(o.session_id)], lambda o: [o.resource_id], "retry_dead"),
    op.DropDead: Wire(
        reading.flag,
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
        reading.flag,
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
        lambda _, r: op.Reserved(bool(r[0]), r[1], r[2], tuple(reading.text(m) for m in r[3])),
        lambda o, k: [_book(o.user, k)],
        lambda o: [o.session_id, o.limit, o.duration, o.suspects, o.bound],
        "reserve",
    ),
    op.Confirm: Wire(reading.flag, lambda o, k: [_book(o.user, k)], lambda o: [o.session_id, o.bound], "confirm"),
    op.GiveBack: Wire(
        reading.flag,
        lambda o, k: [_book(o.user, k), k.user_quota(o.user) if o.user else _book(o.user, k)],
        lambda o: [o.session_id, o.resource_id, o.before],
        "give_back",
    ),
    op.BookPage: Wire(
        lambda _, r: tuple(op.Place(reading.text(r[i]), int(r[i + 1])) for i in range(0, len(r), 2)),
        lambda o, k: [_book(o.user, k)],
        lambda o: [o.since, o.after, o.limit],
        "book_page",
    ),
    op.ReserveQuota: Wire(
        lambda _, r: op.Share(reading.text(r[0]), r[1], tuple(sorted(reading.text(share) for share in r[2]))),
        lambda o, k: [k.user_quota(o.user)],
        lambda o: [f"{o.session_id} {o.resource_id}", o.size, o.max_resources, o.max_bytes, o.duration, int(o.present)],
        "quota",
    ),
    op.Facts: Wire(reading.facts, lambda _, k: [k.globals("meta")], script="facts"),
    op.Meta: Wire(reading.meta, lambda _, k: [k.globals("meta")], command=("HGETALL",)),
    op.SetMeta: Wire(reading.flag, lambda _, k: [k.globals("meta")], _set_meta_args, "set_meta"),
    op.RaiseMark: Wire(
        lambda _, r: int(r),
        lambda _, k: [k.globals("marks"), k.globals("meta")],
        lambda o: [o.volume_id, o.seen, o.most, o.run_id],
        "raise_mark",
    ),
    op.Table: Wire(lambda _, r: reading.pairs(r), lambda o, k: [k.globals(o.name)], command=("HGETALL",)),
    op.TablePut: Wire(
        reading.flag,
        lambda o, k: [k.globals(o.name)],
        lambda o: [o.row, o.value, int(o.only_new), pack_row(hold_set(o.row, o.value)) if o.name == HOLDS else b""],
        "table_put",
    ),
    op.TableDrop: Wire(
        reading.flag,
        lambda o, k: [k.globals(o.name)],
        lambda o: [
            o.row,
            pack_row(hold_lifted(o.row)) if o.name == HOLDS else b"",
            int(o.only is not None),
            o.only or "",
        ],
        "table_drop",
    ),
    op.TakeLease: Wire(
        reading.flag, lambda o, k: [k.globals(f"l:{o.name}")], lambda o: [o.token, o.duration], "take_lease"
    ),
    op.DropLease: Wire(reading.flag, lambda o, k: [k.globals(f"l:{o.name}")], lambda o: [o.token], "drop_lease"),
    op.Counters: Wire(
        reading.counters,
        lambda o, k: [k.counters(o.partition)],
        command=("HGETALL",),
    ),
    op.Count: Wire(
        lambda _, r: r,
        lambda o, k: [k.counters(o.partition)],
        lambda o: [x for name, n in o.amounts.items() for x in (name, n)],
        "count",
    ),
    op.Events: Wire(
        reading.events,
        lambda o, k: [k.events(o.partition)],
        lambda o: [place_after(o.partition, o.after), o.count],
        "events",
    ),
    op.EventsBefore: Wire(
        reading.events_before,
        lambda o, k: [k.events(o.partition)],
        lambda o: [_before(o), "-", "COUNT", o.count],
        command=("XREVRANGE",),
    ),
    op.Emit: Wire(reading.flag, lambda _, k: [k.events(DEPLOYMENT)], _emit_args, "emit"),
    op.ScanSessions: Wire(reading.scanned, lambda o, k: [k.prefix(o.partition)], lambda o: [o.cursor, o.count], "scan"),
}
