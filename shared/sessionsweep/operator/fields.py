"""What operators are shown, as fields of JSON: one form for the command line's `--json` and the admin side.

Times are aware datetimes in UTC, durations seconds, sizes bytes. No field holds a token or a session's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sessionsweep.model.holds import Hold
from sessionsweep.model.receipts import ReceiptPlace
from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.session import Tombstone
from sessionsweep.model.states import ResourceState
from sessionsweep.operator import causes, naming
from sessionsweep.operator.advice import advice
from sessionsweep.operator.naming import Names
from sessionsweep.operator.nodes import Node
from sessionsweep.operator.owed import OwedResource
from sessionsweep.operator.places import Place
from sessionsweep.operator.queries import Life, Overview, SessionCase
from sessionsweep.sessions.view import Resource, SessionView, Stats
from sessionsweep.store.operations import DeadLetter
from sessionsweep.units import moment


def of_session(session: SessionView) -> dict[str, Any]:
    """A live session."""
    return {
        "session_id": session.id,
        "user_id": session.user,
        "ip_address": session.ip,
        "user_agent": session.user_agent,
        "created_at": session.created_at,
        "last_activity": session.last_activity,
        "duration_seconds": (session.read_at - session.created_at).total_seconds(),
        "idle_seconds": (session.read_at - session.last_activity).total_seconds(),
        "expires_in_seconds": session.expires_in,
        "request_count": session.request_count,
        "resource_count": session.resource_count,
        "stream_count": session.stream_count,
        "total_bytes_used": session.bytes_used,
    }


def of_case(case: SessionCase, names: Names) -> dict[str, Any]:
    """A session in whatever state, with all that it owns or owes; an ended one by its receipt."""
    shown: dict[str, Any] = {"session_id": case.session_id, "state": case.life}
    if case.record is not None:
        shown.update(of_session(SessionView(case.record, case.now)))
    elif case.tombstone is not None:
        shown.update(_ending(case.tombstone, names))
    return {**shown, "resources": [of_resource(r, case, names) for r in case.resources]}


def of_receipt(t: Tombstone, names: Names) -> dict[str, Any]:
    """An ended session's receipt, or its tombstone while it owes something."""
    return {"session_id": t.session_id, **_ending(t, names)}


def _ending(t: Tombstone, names: Names) -> dict[str, Any]:
    return {
        "user_id": t.user,
        "reason": t.reason,
        "created_at": moment(t.created) if t.created else None,  # unknown of one whose record was lost
        "ended_at": moment(t.ended),
        "owned": t.owned,
        "bytes_owned": t.bytes_owned,
        "owed": t.owed,
        "deleted": t.deleted,
        "bytes_deleted": t.bytes_deleted,
        "locations": [of_receipt_place(place, names) for place in t.places],
    }


def of_receipt_place(place: ReceiptPlace, names: Names) -> dict[str, Any]:
    """What became at one location of what a session had, since it ended."""
    return {
        "location": place.location,
        "volume": names.names.get(place.location) or None,
        "deleted": place.deleted,
        "bytes_deleted": place.bytes_deleted,
        "gone": place.gone,
        "promoted": place.promoted,
        "forgotten": place.forgotten,
        "last": moment(place.last) if place.last else None,
        "failures": place.failures,
        "failed_at": moment(place.failed_at) if place.failed_at else None,
        "dead_letters": place.dead_letters,
        "error": place.error,
        "meaning": causes.meaning(place.error) if place.error else None,
    }


def of_resource(record: ResourceRecord, case: SessionCase, names: Names) -> dict[str, Any]:
    """One resource of a session. `path`: where its bytes lie, where this node knows it."""
    return {
        "resource_id": record.resource_id,
        "state": state_of(record, case),
        **_what_and_where(case.session_id, record, names),
        "created_at": moment(record.created),
        "last_used": moment(record.used),
        "tries": record.tries,
        "error": record.error,
    }


def state_of(record: ResourceRecord, case: SessionCase) -> str:
    """A resource's state in a word. What an ended session has counts as owed whatever its letter."""
    owed = case.life is Life.ENDED and record.state is not ResourceState.DEAD
    return (ResourceState.OWED if owed else record.state).name.lower()


def of_dead_letter(letter: DeadLetter, names: Names) -> dict[str, Any]:
    """A resource that failed too often, and what its error means."""
    record = letter.record
    return {
        "session_id": letter.session_id,
        "resource_id": record.resource_id,
        "volume_id": naming.volume_id_of(record.location) or None,
        **_what_and_where(letter.session_id, record, names),
        "tries": record.tries,
        "error": record.error,
        "meaning": causes.meaning(record.error),
        "created_at": moment(record.created),
        "dead_since": moment(record.until),
    }


def of_owed(one: OwedResource, names: Names) -> dict[str, Any]:
    r, seen = one.record, Resource.of(one.record)
    return {
        "resource_id": r.resource_id,
        "session_id": one.session_id,
        "location": r.location,
        "volume_id": naming.volume_id_of(r.location) or None,
        "volume": names.names.get(r.location) or None,
        "path": names.path(one.session_id, r) or None,
        "kind": seen.kind,
        "purpose": r.purpose,
        "size": r.size,
        "standing": one.standing,
        "tries": r.tries,
        "error": r.error,
        "meaning": causes.meaning(r.error),
        "next_attempt": moment(one.next_attempt),
        "session_ended": None if one.ended is None else moment(one.ended),
        "end_reason": one.reason or None,
        "owed_seconds": one.owed_seconds,
        "created_at": seen.created_at,
        "last_used": seen.last_used,
    }


def of_hold(hold: Hold, now: int) -> dict[str, Any]:
    """A hold with what it stops and what to do; `now` is the store's time in ms."""
    return {
        "scope": hold.scope,
        "reason": hold.reason,
        "text": hold.text,
        **asdict(advice(hold)),
        "node": hold.node,
        "age_seconds": (now - hold.since) / 1000,
        "ends_in_seconds": (hold.until - now) / 1000 if hold.until else None,
    }


def of_stats(stats: Stats) -> dict[str, Any]:
    """The totals of the books."""
    return asdict(stats)


def of_place(place: Place) -> dict[str, Any]:
    """A volume, or another location: what it owes, who mounts it, what stops it."""
    return {**asdict(place), "debt": {**asdict(place.debt), "complete": place.debt.is_complete}}


def of_overview(seen: Overview, where: Sequence[Place], alive: Sequence[Node]) -> dict[str, Any]:
    """All that `stats` shows."""
    return {
        **of_stats(seen.stats),
        "backlog": [asdict(one) for one in seen.backlog],
        "volumes": [of_place(place) for place in where],
        "nodes": [of_node(node) for node in alive],
        "holds": [hold.scope for hold in seen.holds],
        "alarms": [{"reason": alarm.reason, "text": alarm.text} for alarm in seen.alarms],
        "last_sweep_seconds_ago": seen.last_sweep_seconds_ago,
        "beat_seconds_ago": seen.beat_seconds_ago,
    }


def of_node(node: Node) -> dict[str, Any]:
    """A node by its worker's last heartbeat."""
    return asdict(node)


def _what_and_where(session_id: str, record: ResourceRecord, names: Names) -> dict[str, Any]:
    return {
        "kind": Resource.of(record).kind,
        "purpose": record.purpose,
        "size": record.size,
        "location": record.location,
        "volume": names.names.get(record.location) or None,
        "path": names.path(session_id, record) or None,
    }
