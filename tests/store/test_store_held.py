"""While idle ends are held nobody is idle, whatever is asked of the session: a server that restarted or failed over may
have forgotten touches. The absolute end counts as ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from driving import DISK, IDLE, LONGEST, MAC, NEW_MAC, WIDTH, P, Subject

from sessionsweep.model.ids import new_resource_id
from sessionsweep.store import operations as op

HOLD = 5000


@dataclass(frozen=True)
class Owner:
    """A session that owns a live file and an intent."""

    sid: str
    live: str
    intent: str


Asked = Callable[[Owner], op.Operation[Any]]

#: What is asked of a session, and whether its answer says that the session lives.
ASKED: dict[str, tuple[Asked, Callable[[Any], bool]]] = {
    "register": (lambda o: op.Register(o.sid, new_resource_id(), "f", DISK, 1), lambda r: r.status == "ok"),
    "grow": (lambda o: op.Grow(o.sid, o.intent, 200), lambda r: r.status == "ok"),
    "commit": (lambda o: op.Commit(o.sid, o.intent, 50), lambda r: r.status == "ok"),
    "use": (lambda o: op.UseResource(o.sid, o.live), lambda r: r is not None),
    "live_resources": (lambda o: op.LiveResources(o.sid), lambda r: len(r) == 2),
    "rotate": (lambda o: op.RotateSession(o.sid, (MAC,), NEW_MAC, "ana"), lambda r: r.status is op.OpenStatus.OK),
    "save": (lambda o: op.SaveData(o.sid, {"a": b"1"}), lambda r: r.status is op.OpenStatus.OK),
    "extend": (lambda o: op.ExtendSession(o.sid, width=WIDTH), lambda r: r.status is op.OpenStatus.OK),
    "keep-alive": (lambda o: op.Defer(o.sid, "job", 1000, width=WIDTH), lambda r: r is not None),
    "pin": (lambda o: op.Defer(o.sid, "job", 1000, o.live, WIDTH), lambda r: r is not None),
    "peek": (lambda o: op.PeekSession(o.sid), lambda r: not r.is_due),
}
HELD = pytest.mark.parametrize("how", ["held", "another server"])


def owners(store: Subject, **fields: Any) -> dict[str, Owner]:
    """One for each question, for one changes what the next would be answered."""
    found = {}
    for what in ASKED:
        sid = store.create(**fields)
        found[what] = Owner(sid, store.file(sid), store.register(sid, intent_timeout=2 * LONGEST))
    return found


def living(store: Subject, asked: dict[str, Owner]) -> set[str]:
    """To which questions the answer says that the session lives."""
    return {what for what, owner in asked.items() if ASKED[what][1](store.do(ASKED[what][0](owner)))}


def hold(store: Subject, how: str) -> None:
    """Idle ends are held from now on: by a hold, or since the server is another one, which nobody has noted yet."""
    if how == "held":
        store.do(op.HoldIdle(P, HOLD))
    else:
        store.restart()


@HELD
def test_who_seems_idle_lives_while_idle_ends_are_held(store: Subject, how: str) -> None:
    asked = owners(store)
    store.advance(IDLE)
    hold(store, how)
    assert living(store, asked) == set(ASKED)


def test_no_question_begins_the_hold_of_another_server(store: Subject) -> None:
    """Only who knows for how long does: a sweep, an open."""
    asked = owners(store)
    store.advance(IDLE)
    store.restart()
    living(store, asked)
    store.advance(HOLD)
    assert living(store, asked) == set(ASKED)
    assert store.sweep(hold=HOLD).held_until == store.now + HOLD


@HELD
def test_who_is_idle_is_over_once_the_hold_is(store: Subject, how: str) -> None:
    asked = owners(store)
    store.advance(IDLE)
    hold(store, how)
    sid = asked["peek"].sid
    assert store.end(sid, "", only_due=True, hold=HOLD).live, "which notes the other server"
    store.advance(HOLD - 1)
    assert not store.do(op.PeekSession(sid)).is_due
    store.advance(1)
    assert living(store, asked) == set()
    assert store.end(sid, "", only_due=True, hold=HOLD).reason == "idle"


@HELD
def test_who_is_too_old_is_over_whatever_is_held(store: Subject, how: str) -> None:
    asked = owners(store, max=IDLE + 1)
    store.advance(IDLE)
    hold(store, how)
    assert not store.do(op.PeekSession(asked["peek"].sid)).is_due
    store.advance(1)
    assert living(store, asked) == set()


def test_a_hold_elsewhere_holds_nobody_here(store: Subject) -> None:
    asked = owners(store)
    store.do(op.HoldIdle("08", 10 * IDLE))
    store.advance(IDLE)
    assert living(store, asked) == set()


@pytest.mark.parametrize("by", ["extend", "keep-alive", "rotate"])
def test_who_was_used_meanwhile_outlives_the_hold(store: Subject, by: str) -> None:
    """A job that attached has no token to open the session with: this is all it can do."""
    used, forgotten = owners(store)[by], store.create()
    store.advance(IDLE)
    store.restart()
    store.sweep_all(hold=HOLD)
    if by == "keep-alive":
        store.do(op.Defer(used.sid, "job", 3 * WIDTH, width=WIDTH))
    else:
        assert living(store, {by: used})
    store.advance(2 * WIDTH)
    store.sweep_all(hold=HOLD)
    assert store.do(op.PeekSession(forgotten)).record is None
    assert store.record(used.sid).session_id == used.sid


def test_whether_idle_ends_are_held_is_said_only_of_who_seems_idle(store: Subject) -> None:
    sid = store.create(max=2 * IDLE)
    store.do(op.HoldIdle(P, 10 * IDLE))
    assert store.do(op.PeekSession(sid)).idle_held is False
    store.advance(IDLE)
    assert store.do(op.PeekSession(sid)).idle_held is True
    store.advance(IDLE)
    assert store.do(op.PeekSession(sid)).idle_held is False, "too old"
    store.end(sid)
    assert store.do(op.PeekSession(sid)).idle_held is False
