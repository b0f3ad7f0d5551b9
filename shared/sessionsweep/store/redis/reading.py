"""What replies mean: the server's words as typed results. Which operation takes which is said in `store.redis.wire`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessionsweep.model.books import REGISTERED
from sessionsweep.model.events import Event, read_event
from sessionsweep.model.ids import is_resource_id, is_session_id
from sessionsweep.model.receipts import ReceiptPlace
from sessionsweep.model.resource import LOCATION, ResourceRecord
from sessionsweep.model.session import SessionRecord, Tombstone
from sessionsweep.store import operations as op
from sessionsweep.store.redis.codec import decode_resource, decode_session, is_sound

_STATUS = {
    0: op.OpenStatus.INVALID,
    1: op.OpenStatus.OK,
    2: op.OpenStatus.MISMATCH,
    3: op.OpenStatus.REFUSED,
    4: op.OpenStatus.ENDED,
}
_META_NUMBERS = {"partitions": 256} | dict.fromkeys(("high_water", "last_sweep", "beat_seen", "run_since"), 10**15)


def text(raw: bytes | None) -> str:
    """A reply's bytes as text; nothing as the empty text."""
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


def opened(o: Any, reply: list[Any]) -> op.Opened:
    status = reply[0]
    if status == 1 or status == 2:
        draft = _OpenedDraft(_STATUS[status], reply[1], decode_session(o.session_id, reply[2]))
        draft.__class__ = op.Opened  # type: ignore[assignment]
        return draft  # type: ignore[return-value]
    if status == 4:
        return op.Opened(op.OpenStatus.ENDED, reply[1], None, text(reply[2]))
    if status == 5:
        return op.Opened(op.OpenStatus.ENDED, reply[1], None, "limit")
    return op.Opened(_STATUS[status], reply[1] if len(reply) > 1 else 0)


def created(o: op.CreateSession, reply: list[Any]) -> op.Opened:
    if reply[0] == 1:
        return op.Opened(op.OpenStatus.OK, reply[1], decode_session(text(reply[3]), reply[2]))
    return opened(o, reply)


def peeked(o: op.PeekSession, reply: list[Any]) -> op.Peeked:
    now, raw, fields, left, held = reply
    record = decode_session(o.session_id, raw) if raw else None
    return op.Peeked(now, record, tombstone(o.session_id, fields, left) if fields else None, bool(held))


def tombstone(session_id: str, fields: list[bytes] | Mapping[bytes, bytes], left: int) -> Tombstone:
    """A tombstone's fields; `left`: records that there still are."""
    f = pairs(fields)
    found = (ReceiptPlace.read(name, value) for name, value in f.items() if LOCATION.match(name))
    return Tombstone(
        session_id,
        f.get("reason", ""),
        int(f.get("ended", 0)),
        int(f.get("created", 0)),
        f.get("user") or None,
        owed=left,
        owned=int(f["owned"]) if "owned" in f else None,
        bytes_owned=int(f.get("b_owned", 0)),
        places=tuple(sorted((place for place in found if place is not None), key=lambda place: place.location)),
        deleted_before=int(f.get("deleted", 0)),
        bytes_before=int(f.get("bytes", 0)),
    )


def receipts(_: op.Receipts, reply: list[Any]) -> tuple[int, tuple[Tombstone, ...]]:
    cursor, *rows = reply
    found = []
    for sid, left, fields in rows:
        try:
            if is_session_id(text(sid)):
                found.append(tombstone(text(sid), fields, left))
        except ValueError:
            continue  # damaged: it hides no other
    return int(cursor), tuple(found)


def pairs(flat: list[bytes] | Mapping[bytes, bytes]) -> dict[str, str]:
    if isinstance(flat, Mapping):
        return {text(key): text(value) for key, value in flat.items()}
    return {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat), 2)}


def events(o: op.Events, reply: list[Any]) -> op.EventPage:
    rows, last, lost = reply
    return op.EventPage(_told(o.partition, rows), f"{o.partition}:{text(last)}", bool(lost), len(rows) == o.count)


def events_before(o: op.EventsBefore, rows: list[Any]) -> op.EventPage:
    last = f"{o.partition}:{text(rows[-1][0])}" if rows else o.before
    return op.EventPage(_told(o.partition, rows), last, more=len(rows) == o.count)


def _told(partition: str, rows: list[Any]) -> tuple[Event, ...]:
    found = (read_event(partition, text(place), pairs(flat)) for place, flat in rows)
    return tuple(event for event in found if event is not None)


def counters(_: op.Counters, reply: list[bytes]) -> dict[str, int]:
    found = {name: int(n) for name, n in pairs(reply).items() if n.lstrip("-").isdecimal()}
    # scripts count by kind alone; what stands under `reg` itself an earlier release counted
    kinds = sum(n for name, n in found.items() if name.startswith(f"{REGISTERED}:"))
    return found | {REGISTERED: found.get(REGISTERED, 0) + kinds} if kinds else found


def lines(raw: bytes | None) -> list[str]:
    return text(raw).split("\n") if raw else []


def registered(_: Any, reply: list[Any]) -> op.Registered:
    return op.Registered(text(reply[0]), tuple(text(rid) for rid in reply[1]), reply[2])


def resources(_: Any, flat: list[bytes]) -> tuple[ResourceRecord, ...]:
    places: list[str] = []
    fields: list[tuple[bytes, bytes]] = []
    for i in range(0, len(flat), 2):
        if flat[i] == b"@":
            places = lines(flat[i + 1])
        elif not flat[i].startswith(b"@"):
            fields.append((flat[i], flat[i + 1]))
    return tuple(
        decode_resource(text(rid), raw, places) for rid, raw in fields if is_sound(raw) and is_resource_id(text(rid))
    )


def leased(_: op.Lease, reply: list[Any]) -> op.Leased:
    entries = []
    for sid, at, *flat in reply[0]:
        places = lines(at)
        found = [decode_resource(text(flat[i]), flat[i + 1], places) for i in range(0, len(flat), 2)]
        entries.append(
            (
                text(sid),
                tuple(op.LeasedResource(r.resource_id, r.kind, r.size, r.tries, r.purpose) for r in found),
            )
        )
    return op.Leased(tuple(entries), int(reply[1]), reply[2])


def swept(_: Any, reply: list[Any]) -> op.Swept:
    idle, expired, refiled, stale, more, now, owed, held, would, newer = reply
    told = tuple(text(one) for one in would)
    return op.Swept(idle, expired, refiled, stale, bool(more), now, owed, int(held), told, bool(newer))


def outbox(_: Any, reply: list[bytes]) -> tuple[op.OutboxEntry, ...]:
    return tuple(op.OutboxEntry.read(raw) for raw in reply)


def dead_letters(_: Any, reply: list[Any]) -> tuple[op.DeadLetter, ...]:
    return tuple(op.DeadLetter(text(sid), decode_resource(text(rid), raw, lines(at))) for sid, rid, raw, at in reply)


def scanned(o: op.ScanSessions, reply: list[Any]) -> tuple[int, tuple[str, ...]]:
    found = dict.fromkeys(text(key).rsplit(":", 1)[-1] for key in reply[1])
    return int(reply[0]), tuple(sid for sid in found if is_session_id(sid))


def facts(_: Any, reply: list[Any]) -> op.ServerFacts:
    run_id, now, version, policy, deployment = reply
    return op.ServerFacts(text(run_id), now, text(version), text(policy), text(deployment))


def meta(_: Any, flat: list[bytes] | Mapping[bytes, bytes]) -> dict[str, str]:
    """What is no number, or no possible one, counts as absent: then a hold stops destruction, and passes go on."""
    return {
        name: value
        for name, value in pairs(flat).items()
        if name not in _META_NUMBERS or (value.isdecimal() and len(value) < 16 and int(value) <= _META_NUMBERS[name])
    }


def flag(_: Any, reply: Any) -> bool:
    return bool(reply)


def same(_: Any, reply: Any) -> Any:
    return reply
