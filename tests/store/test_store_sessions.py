"""Conformance: creating, opening, rotating, extending and saving sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from driving import GRACE, IDLE, LONGEST, MAC, NEW_MAC, OTHER_MAC, T0, WIDTH, P, Subject, create_op

from sessionsweep.model.ids import new_session_id
from sessionsweep.model.session import FLAG_TOTAL_BOOK, FLAG_USER_BOOK, FLAG_USER_QUOTA
from sessionsweep.store import operations as op

OK, INVALID, ENDED = op.OpenStatus.OK, op.OpenStatus.INVALID, op.OpenStatus.ENDED
MISMATCH, REFUSED = op.OpenStatus.MISMATCH, op.OpenStatus.REFUSED
FP, OTHER_FP = b"abc", b"xyz"


def test_a_new_session_has_what_was_given_and_begins_now(store: Subject) -> None:
    sid = new_session_id(P)
    made = store.do(
        create_op(
            sid, family=6, fingerprint=FP, flags=FLAG_USER_BOOK | FLAG_TOTAL_BOOK, user="ana", alias="a" * 32,
            ip="2001:db8::1", user_agent="agent/1 ü", node="node-a", data={"k": b"v\0w", "e": b""},
        )
    )  # fmt: skip
    record = made.record
    assert (made.status, made.now) == (OK, T0)
    assert record is not None
    assert record == store.record(sid)
    assert (record.session_id, record.mac, record.created, record.last_activity) == (sid, MAC, T0, T0)
    assert (record.idle, record.max, record.keep_alive, record.request_count) == (IDLE, LONGEST, 0, 1)
    assert (record.resource_count, record.stream_count, record.bytes_used) == (0, 0, 0)
    assert (record.fingerprint4, record.fingerprint6) == (b"\0\0\0", FP)
    assert (record.flags, record.user, record.alias) == (FLAG_USER_BOOK | FLAG_TOTAL_BOOK, "ana", "a" * 32)
    assert (record.ip, record.user_agent, record.node) == ("2001:db8::1", "agent/1 ü", "node-a")
    assert dict(record.data) == {"k": b"v\0w", "e": b""}
    assert store.books() == {"created": 1}


def test_a_bare_session_has_nothing_else(store: Subject) -> None:
    record = store.record(store.create())
    assert (record.flags, record.user, record.alias, record.ip) == (0, None, "", None)
    assert (record.user_agent, record.node, dict(record.data)) == (None, "", {})


@pytest.mark.parametrize(
    ("idle", "longest", "due"), [(900_000, 3_600_000, 900_000), (900_000, 60_001, 60_001), (5, 0, 5)]
)
def test_it_is_filed_at_the_end_of_the_slot_in_which_it_is_due(
    store: Subject, idle: int, longest: int, due: int
) -> None:
    record = store.record(store.create(idle=idle, max=longest))
    assert record.filed == -(-(T0 + due) // WIDTH) * WIDTH
    assert store.wheel() == [record.session_id]


def test_created_again_with_the_same_secret_is_success_with_another_invalid(store: Subject) -> None:
    sid = store.create(user="ana")
    store.advance(1000)
    again = store.do(create_op(sid, user="ana"))
    assert again.status is OK
    assert again.record == store.record(sid)
    assert again.record is not None
    assert (again.record.last_activity, again.record.request_count) == (T0, 1)
    assert store.do(create_op(sid, mac=OTHER_MAC)).status is INVALID
    assert store.books() == {"created": 1}
    assert store.wheel() == [sid]


def test_an_id_that_left_a_tombstone_is_not_used_again(store: Subject) -> None:
    sid = store.create()
    store.file(sid)
    store.end(sid)
    assert store.do(create_op(sid)).status is INVALID
    assert store.do(op.PeekSession(sid)).record is None


def test_nothing_is_made_after_the_reservation_lapsed(store: Subject) -> None:
    sid = new_session_id(P)
    late = store.do(create_op(sid, not_after=T0 - 1))
    assert (late.status, late.reason, late.record) == (ENDED, "limit", None)
    assert store.do(op.PeekSession(sid)).record is None
    assert store.books() == {}
    assert store.wheel() == []
    assert store.do(create_op(sid, not_after=T0)).status is OK


def test_an_alias_returns_the_live_session_it_names_and_touches_it(store: Subject) -> None:
    first = store.create(alias="a" * 32)
    store.advance(1000)
    again = store.do(create_op(alias="a" * 32, mac=OTHER_MAC))
    assert again.status is OK
    assert again.record is not None
    assert (again.record.session_id, again.record.mac) == (first, MAC)
    assert (again.record.last_activity, again.record.request_count) == (T0 + 1000, 2)
    assert store.record(first) == again.record
    assert store.do(op.FindAlias(P, "a" * 32)) == first
    assert store.books() == {"created": 1}


def test_an_alias_of_a_due_session_ends_that_and_makes_a_new_one(store: Subject) -> None:
    first = store.create(alias="a" * 32)
    store.file(first)
    store.advance(IDLE)
    second = store.create(alias="a" * 32, grace=GRACE)
    assert second != first
    assert store.do(op.FindAlias(P, "a" * 32)) == second
    assert store.tombstone(first).reason == "idle"
    assert store.leased() == {}
    store.advance(GRACE)
    assert set(store.leased()) == {first}


def test_an_alias_goes_with_its_session(store: Subject) -> None:
    sid = store.create(alias="a" * 32)
    store.end(sid)
    assert store.do(op.FindAlias(P, "a" * 32)) is None
    assert store.do(op.FindAlias(P, "b" * 32)) is None


def test_opening_verifies_touches_and_counts(store: Subject) -> None:
    sid = store.create(user="ana", data={"k": b"v"})
    store.advance(1000)
    opened = store.open(sid)
    assert (opened.status, opened.now, opened.reason) == (OK, T0 + 1000, None)
    assert opened.record == store.record(sid)
    assert opened.record is not None
    assert (opened.record.last_activity, opened.record.request_count) == (T0 + 1000, 2)
    assert opened.record.filed == store.record(sid).filed
    assert dict(opened.record.data) == {"k": b"v"}


def test_any_valid_key_s_mac_opens(store: Subject) -> None:
    sid = store.create()
    assert store.do(op.OpenSession(sid, (OTHER_MAC, MAC))).status is OK
    assert store.do(op.OpenSession(sid, (MAC, OTHER_MAC))).status is OK


def test_no_such_session_and_a_wrong_secret_get_the_same_answer_and_write_nothing(store: Subject) -> None:
    sid = store.create()
    store.advance(1000)
    before = store.record(sid)
    for asked, mac in ((sid, OTHER_MAC), (new_session_id(P), MAC)):
        answer = store.open(asked, mac)
        assert (answer.status, answer.record, answer.reason) == (INVALID, None, None)
    assert store.record(sid) == before
    assert store.books() == {"created": 1}


def test_a_wrong_secret_never_ends_a_due_session(store: Subject) -> None:
    sid = store.create()
    store.advance(LONGEST)
    assert store.open(sid, OTHER_MAC).status is INVALID
    assert store.record(sid).session_id == sid


@pytest.mark.parametrize(("wait", "reason"), [(IDLE - 1, None), (IDLE, "idle"), (LONGEST, "expired")])
def test_opening_ends_what_is_due_from_that_very_millisecond(store: Subject, wait: int, reason: str | None) -> None:
    sid = store.create()
    store.advance(wait)
    opened = store.open(sid)
    if reason is None:
        assert opened.status is OK
        return
    assert (opened.status, opened.reason, opened.record, opened.now) == (ENDED, reason, None, T0 + wait)
    assert store.open(sid).status is INVALID
    assert store.books() == {"created": 1, "ended": 1, f"ended:{reason}": 1, "lifetime": wait}


def test_activity_defers_the_idle_end_but_not_the_absolute_one(store: Subject) -> None:
    sid = store.create()
    for _ in range(LONGEST // (IDLE - 1)):
        store.advance(IDLE - 1)
        assert store.open(sid).status is OK
    store.advance(T0 + LONGEST - store.now - 1)
    assert store.open(sid).status is OK
    store.advance(1)
    assert store.open(sid).reason == "expired"


def test_without_a_maximum_only_idleness_ends(store: Subject) -> None:
    sid = store.create(max=0)
    for _ in range(10):
        store.advance(IDLE - 1)
        assert store.open(sid).status is OK
    store.advance(IDLE)
    assert store.open(sid).reason == "idle"


def test_activity_never_moves_backwards(store: Subject) -> None:
    sid = store.create()
    store.advance(5000)
    store.open(sid)
    store.advance(-3000)
    opened = store.open(sid)
    assert opened.record is not None
    assert (opened.record.last_activity, opened.record.request_count) == (T0 + 5000, 3)


def test_opening_without_touch_changes_no_activity(store: Subject) -> None:
    sid = store.create()
    store.advance(1000)
    opened = store.open(sid, touch=False)
    assert opened.status is OK
    assert opened.record is not None
    assert (opened.record.last_activity, opened.record.request_count) == (T0, 1)
    store.advance(IDLE - 1000)
    assert store.open(sid, touch=False).status is ENDED


@pytest.mark.parametrize("family", [4, 6])
def test_the_first_sight_of_a_client_is_kept_and_compared_later(store: Subject, family: int) -> None:
    sid = store.create()
    assert store.open(sid, family=family, fingerprint=FP).status is OK
    record = store.record(sid)
    seen = {4: record.fingerprint4, 6: record.fingerprint6}
    assert (seen[family], seen[10 - family]) == (FP, b"\0\0\0")
    assert store.open(sid, family=family, fingerprint=FP, enforce=True).status is OK
    assert store.open(sid, family=10 - family, fingerprint=OTHER_FP, enforce=True).status is OK
    assert store.open(sid, family=0).status is OK


def test_another_client_is_told_touched_and_remembered(store: Subject) -> None:
    sid = store.create(family=4, fingerprint=FP)
    store.advance(1000)
    opened = store.open(sid, family=4, fingerprint=OTHER_FP)
    assert opened.status is MISMATCH
    assert opened.record == store.record(sid)
    assert opened.record is not None
    assert (opened.record.last_activity, opened.record.fingerprint4) == (T0 + 1000, OTHER_FP)
    assert store.open(sid, family=4, fingerprint=OTHER_FP).status is OK


def test_another_client_is_refused_untouched_where_that_is_enforced(store: Subject) -> None:
    sid = store.create(family=4, fingerprint=FP)
    store.advance(1000)
    before = store.record(sid)
    refused = store.open(sid, family=4, fingerprint=OTHER_FP, enforce=True)
    assert (refused.status, refused.record) == (REFUSED, None)
    assert store.record(sid) == before


def test_rotating_kills_the_old_secret_at_once_and_keeps_everything_else(store: Subject) -> None:
    sid = store.create(data={"k": b"v"}, family=4, fingerprint=FP)
    store.file(sid)
    store.advance(1000)
    rotated = store.do(op.RotateSession(sid, (MAC,), NEW_MAC, user="ana", flags=FLAG_USER_BOOK))
    assert rotated.status is OK
    record = rotated.record
    assert record == store.record(sid)
    assert record is not None
    assert (record.mac, record.user, record.flags) == (NEW_MAC, "ana", FLAG_USER_BOOK)
    assert (record.last_activity, record.request_count) == (T0 + 1000, 1)
    assert (record.resource_count, dict(record.data), record.fingerprint4) == (1, {"k": b"v"}, FP)
    assert store.open(sid, MAC).status is INVALID
    assert store.open(sid, NEW_MAC).status is OK


def test_rotating_wants_the_old_secret_unless_the_caller_is_trusted(store: Subject) -> None:
    sid = store.create()
    assert store.do(op.RotateSession(sid, (OTHER_MAC,), NEW_MAC)).status is INVALID
    assert store.record(sid).mac == MAC
    assert store.do(op.RotateSession(sid, (), NEW_MAC)).status is OK
    assert store.do(op.RotateSession(new_session_id(P), (), NEW_MAC)).status is INVALID


def test_rotating_again_is_success(store: Subject) -> None:
    sid = store.create()
    rotate = op.RotateSession(sid, (MAC,), NEW_MAC, user="ana")
    first = store.do(rotate)
    assert store.do(rotate) == first


def test_rotating_after_the_reservation_lapsed_changes_nothing(store: Subject) -> None:
    sid = store.create()
    late = store.do(op.RotateSession(sid, (MAC,), NEW_MAC, user="ana", not_after=T0 - 1))
    assert (late.status, late.reason) == (ENDED, "limit")
    assert (store.record(sid).mac, store.record(sid).user) == (MAC, None)


def test_another_user_gives_back_what_the_former_one_held(store: Subject) -> None:
    flags = FLAG_USER_BOOK | FLAG_TOTAL_BOOK | FLAG_USER_QUOTA
    sid = store.create(user="ana", flags=flags)
    store.do(op.RotateSession(sid, (MAC,), NEW_MAC, user="ana"))
    assert store.outbox() == set()
    rotated = store.do(op.RotateSession(sid, (NEW_MAC,), OTHER_MAC, user="bob", flags=FLAG_USER_BOOK))
    assert rotated.record is not None
    assert rotated.record.flags == flags
    assert store.outbox() == {("user", sid, "ana", ""), ("user", sid, "ana", "*")}


def test_extending_counts_as_activity_and_sets_the_timeouts(store: Subject) -> None:
    sid = store.create()
    store.advance(1000)
    extended = store.do(op.ExtendSession(sid, idle=2 * IDLE, max=0, width=WIDTH))
    assert extended.status is OK
    assert extended.record == store.record(sid)
    assert extended.record is not None
    assert (extended.record.idle, extended.record.max) == (2 * IDLE, 0)
    assert (extended.record.last_activity, extended.record.request_count) == (T0 + 1000, 1)
    store.do(op.ExtendSession(sid))
    assert (store.record(sid).idle, store.record(sid).max) == (2 * IDLE, 0)


def test_extending_never_moves_activity_backwards(store: Subject) -> None:
    sid = store.create()
    store.advance(5000)
    store.open(sid)
    store.advance(-3000)
    store.do(op.ExtendSession(sid))
    store.do(op.RotateSession(sid, (MAC,), NEW_MAC))
    assert store.record(sid).last_activity == T0 + 5000


def test_extending_files_again_only_when_it_is_due_in_an_earlier_slot(store: Subject) -> None:
    sid = store.create(idle=IDLE - 1)  # due before its slot's end
    filed = store.record(sid).filed
    for _ in range(3):
        store.do(op.ExtendSession(sid, width=WIDTH))
    assert store.wheel() == [sid]
    store.do(op.ExtendSession(sid, idle=2 * IDLE, width=WIDTH))
    assert (store.record(sid).filed, store.wheel()) == (filed, [sid])
    store.do(op.ExtendSession(sid, idle=60_000, width=WIDTH))
    assert (store.record(sid).filed, store.wheel()) == (T0 + 60_000, [sid, sid])
    store.advance(60_000)
    assert store.sweep().idle == 1
    store.advance(IDLE)
    assert store.sweep().stale == 1


def test_saving_sets_removes_and_keeps_the_rest(store: Subject) -> None:
    sid = store.create(user="ana", data={"a": b"1", "b": b"2"})
    store.advance(1000)
    saved = store.do(op.SaveData(sid, {"b": None, "c": b"3", "none": None, "a": b"4"}))
    assert saved.status is OK
    assert saved.record == store.record(sid)
    assert saved.record is not None
    assert dict(saved.record.data) == {"a": b"4", "c": b"3"}
    assert (saved.record.user, saved.record.last_activity, saved.record.request_count) == ("ana", T0, 1)
    store.do(op.SaveData(sid, {"a": None, "c": None}))
    assert dict(store.record(sid).data) == {}


@pytest.mark.parametrize("renew", [False, True])
def test_a_save_under_another_secret_writes_and_renews_nothing(store: Subject, renew: bool) -> None:
    sid = store.create(data={"a": b"1"})
    store.advance(1000)
    save = op.SaveData(sid, {"a": b"2", "b": b"3"}, MAC, renew, 1000, 5000, WIDTH)
    store.do(op.RotateSession(sid, (MAC,), NEW_MAC))
    store.advance(1000)
    before, wheel = store.record(sid), store.wheel()
    assert store.do(save) == op.Opened(INVALID, T0 + 2000)
    assert (store.record(sid), store.wheel()) == (before, wheel)
    assert store.do(replace(save, mac=NEW_MAC)).status is OK
    assert dict(store.record(sid).data) == {"a": b"2", "b": b"3"}


@pytest.mark.parametrize("changes", [{}, {"a": None, "b": b"2"}])
def test_a_save_that_renews_is_both_in_one_step(store: Subject, changes: dict[str, bytes | None]) -> None:
    one, other = (store.create(user="ana", data={"a": b"1"}) for _ in range(2))
    store.advance(1000)
    for idle, longest in ((2 * IDLE, 0), (60_000, 120_000), (None, None)):
        store.do(op.SaveData(one, changes))
        store.do(op.ExtendSession(one, idle, longest, WIDTH))
        saved = store.do(op.SaveData(other, changes, MAC, True, idle, longest, WIDTH))
        assert saved.record == store.record(other)
        assert replace(store.record(other), session_id=one) == store.record(one)
        assert store.wheel().count(one) == store.wheel().count(other)
        store.advance(1000)


def test_a_reply_is_a_copy(store: Subject) -> None:
    sid = store.create(data={"a": b"1"})
    before = store.open(sid).record
    assert before is not None
    store.advance(1000)
    store.open(sid)
    store.do(op.SaveData(sid, {"a": b"2"}))
    assert (dict(before.data), before.last_activity, before.request_count) == ({"a": b"1"}, T0, 2)


@pytest.mark.parametrize(
    "change",
    [op.RotateSession("", (MAC,), NEW_MAC), op.ExtendSession("", idle=10**9), op.SaveData("", {"a": b"1"}, renew=True)],
)
def test_a_due_session_can_not_be_changed(
    store: Subject, change: op.RotateSession | op.ExtendSession | op.SaveData
) -> None:
    sid = store.create()
    fields = {name: getattr(change, name) for name in change.__slots__ if name != "session_id"}
    operation = type(change)(sid, **fields)
    store.advance(IDLE)
    before = store.record(sid)
    assert store.do(operation).status is INVALID
    assert store.record(sid) == before
    store.end(sid)
    assert store.do(operation).status is INVALID


def test_peeking_writes_nothing_and_shows_due_sessions_still(store: Subject) -> None:
    sid = store.create()
    store.advance(LONGEST)
    assert store.record(sid).last_activity == T0
    assert store.do(op.PeekSession(sid)).now == T0 + LONGEST
    assert store.do(op.PeekSession(new_session_id(P))) == op.Peeked(T0 + LONGEST, None, None)
    assert store.books() == {"created": 1}


def test_reading_never_creates(store: Subject) -> None:
    for _ in range(20):
        store.open(new_session_id(P))
        store.do(op.PeekSession(new_session_id(P)))
        store.do(op.ListResources(new_session_id(P)))
    assert store.scan() == []
    assert (store.books(), store.wheel(), store.do(op.Queues(P))) == ({}, [], ())
