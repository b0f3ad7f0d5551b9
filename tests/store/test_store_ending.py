"""Conformance: ending sessions, what they owe then, keep-alives and pins."""

from __future__ import annotations

import pytest
from driving import DISK, GRACE, IDLE, LONGEST, OTHER_DISK, PROCESS, T0, WIDTH, P, Subject, create_op

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.session import FLAG_TOTAL_BOOK, FLAG_USER_BOOK, FLAG_USER_QUOTA
from sessionsweep.model.states import EndReason, Outcome
from sessionsweep.store import operations as op
from support.books import members

HOUR = 3_600_000


def test_a_session_that_owned_nothing_leaves_nothing(store: Subject) -> None:
    sid = store.create()
    store.advance(1000)
    ended = store.end(sid, "admin")
    assert ended == op.Ended(True, "admin", 0, (), T0 + 1000)
    assert store.do(op.PeekSession(sid)) == op.Peeked(T0 + 1000, None, None)
    assert store.books() == {"created": 1, "ended": 1, "ended:admin": 1, "lifetime": 1000}
    assert store.end(sid, "user") == op.Ended(False, None, 0, (), T0 + 1000)
    assert store.do(op.Queues(P)) == ()


def test_a_session_that_owned_something_leaves_a_tombstone_and_a_debt(store: Subject) -> None:
    sid = store.create(user="ana")
    file, other = store.file(sid, size=100), store.file(sid, size=30, location=OTHER_DISK)
    store.advance(1000)
    ended = store.end(sid, "logout")
    assert (ended.done, ended.reason, ended.owed, set(ended.locations)) == (True, "logout", 2, {DISK, OTHER_DISK})
    stone = store.tombstone(sid)
    assert (stone.reason, stone.ended, stone.created, stone.user) == ("logout", T0 + 1000, T0, "ana")
    assert (stone.owed, stone.deleted, stone.bytes_deleted) == (2, 0, 0)
    assert {one.resource_id for one in store.do(op.ListResources(sid))} == {file, other}
    assert store.books() == {
        "created": 1, "ended": 1, "ended:logout": 1, "lifetime": 1000, "reg": 2, "owed": 2, "b_owed": 130,
    }  # fmt: skip
    assert store.open(sid).status is op.OpenStatus.INVALID


def test_ending_again_answers_from_the_tombstone(store: Subject) -> None:
    sid = store.create()
    store.file(sid)
    store.end(sid, "logout")
    books = store.books()
    assert store.end(sid, "admin") == op.Ended(False, "logout", 0, (), T0)
    assert store.end(sid, "idle", only_due=True) == op.Ended(False, "logout", 0, (), T0)
    assert store.books() == books


def test_only_due_spares_what_is_alive(store: Subject) -> None:
    sid = store.create()
    store.advance(IDLE - 1)
    spared = store.end(sid, "admin", only_due=True)
    assert (spared.done, spared.live, spared.reason) == (False, True, None)
    store.advance(1)
    ended = store.end(sid, "admin", only_due=True)
    assert (ended.done, ended.live, ended.reason) == (True, False, "idle")


def test_only_due_with_another_idle_timeout(store: Subject) -> None:
    sid, kept = store.create(), store.create()
    store.file(sid)
    store.do(op.Defer(kept, "job-1", IDLE))
    store.advance(60_000)
    assert store.end(sid, "", only_due=True, idle_for=60_001).live
    ended = store.end(sid, "", only_due=True, idle_for=60_000, grace=GRACE)
    assert (ended.done, ended.reason) == (True, "idle")
    assert store.lease().next_due == T0 + 60_000 + GRACE
    assert store.end(kept, "", only_due=True, idle_for=60_000).live


def test_too_old_counts_before_too_idle(store: Subject) -> None:
    sid = store.create()
    store.advance(LONGEST)
    assert store.end(sid, "admin", only_due=True).reason == "expired"


@pytest.mark.parametrize("reason", ["logout", "user", "admin", "limit"])
def test_said_ends_are_reclaimed_at_once(store: Subject, reason: str) -> None:
    sid = store.create()
    file = store.file(sid)
    store.end(sid, reason, grace=GRACE)
    assert store.leased() == {sid: {file}}


@pytest.mark.parametrize(("wait", "died"), [(IDLE + 7, IDLE), (LONGEST + 7, LONGEST)])
def test_the_grace_period_counts_from_the_moment_of_death(store: Subject, wait: int, died: int) -> None:
    sid = store.create()
    file = store.file(sid)
    store.advance(wait)
    store.end(sid, "", only_due=True, grace=GRACE)
    assert store.leased() == {}
    assert store.lease().next_due == T0 + died + GRACE
    store.advance(died + GRACE - wait - 1)
    assert store.leased() == {}
    store.advance(1)
    assert store.leased() == {sid: {file}}


def test_an_idle_end_said_ahead_of_time_dies_now(store: Subject) -> None:
    sid = store.create()
    store.file(sid)
    store.advance(60_000)
    store.end(sid, "idle", grace=GRACE)
    assert store.lease().next_due == T0 + 60_000 + GRACE


def test_what_was_owed_before_the_end_does_not_shorten_the_grace_of_the_rest(store: Subject) -> None:
    sid = store.create()
    given_up, kept, intent = store.file(sid), store.file(sid), store.register(sid)
    store.advance(IDLE - 1)
    store.do(op.Release(sid, given_up))
    store.advance(1)
    store.end(sid, "", only_due=True, grace=GRACE)
    assert store.leased() == {sid: {given_up}}
    settled = store.settle(sid, given_up, "deleted")
    assert (settled.counted, settled.left) == (1, 2)
    assert store.leased(lease_id="lease-2") == {}
    assert store.lease(lease_id="lease-3").next_due == T0 + IDLE + GRACE
    store.advance(GRACE)
    assert store.leased(lease_id="lease-4") == {sid: {kept, intent}}


def test_the_queue_keeps_the_earlier_time(store: Subject) -> None:
    sid = store.create()
    given_up = store.file(sid)
    store.file(sid)
    store.do(op.Release(sid, given_up))
    store.advance(IDLE)
    store.end(sid, "", only_due=True, grace=GRACE)
    depth = store.queue()
    assert depth is not None
    assert (depth.entries, depth.oldest_due) == (1, IDLE)


def test_every_location_ever_used_is_queued(store: Subject) -> None:
    sid = store.create()
    gone = store.file(sid)
    store.do(op.Release(sid, gone))
    store.leased()
    store.settle(sid, gone, "deleted")
    store.file(sid, location=OTHER_DISK)
    assert set(store.end(sid).locations) == {DISK, OTHER_DISK}
    assert store.leased(lease_id="lease-2") == {}
    assert store.queue(DISK) == op.QueueDepth(DISK, 0, 0)


def test_a_session_whose_resources_are_all_gone_leaves_nothing(store: Subject) -> None:
    sid = store.create()
    gone = store.file(sid)
    store.settle(sid, gone, "gone", own=True)
    assert store.end(sid).locations == ()
    assert store.tombstone(sid) is None
    assert store.do(op.ListResources(sid)) == ()
    assert store.scan() == []


def test_places_in_books_are_given_back_through_the_outbox(store: Subject) -> None:
    both = store.create(user="ana", flags=FLAG_USER_BOOK | FLAG_TOTAL_BOOK | FLAG_USER_QUOTA)
    none = store.create(user="bob")
    store.end(both)
    store.end(none)
    expected = {("user", both, "ana", ""), ("total", both, "", ""), ("user", both, "ana", "*")}
    assert store.outbox() == expected
    entries = store.do(op.OutboxRead(P, limit=2))
    assert len(entries) == 2
    raw = tuple(one.raw for one in entries)
    assert store.do(op.OutboxDone(P, raw)) == 2
    assert store.do(op.OutboxDone(P, raw)) == 0
    assert len(store.outbox()) == 1


@pytest.mark.parametrize("flags", [FLAG_USER_BOOK, FLAG_TOTAL_BOOK])
def test_what_ended_is_not_made_again_while_a_reservation_of_it_may_last(store: Subject, flags: int) -> None:
    """Its making is sent again, for the answer was lost, or by somebody who gives the same token."""
    sid = store.create(user="ana", flags=flags, not_after=T0 + 60_000)
    store.advance(120_000)
    making = create_op(sid, user="ana", flags=flags, not_after=store.now + 60_000)
    assert store.do(making).record is not None, "again, while it lives"
    store.end(sid)
    assert store.do(making).status is op.OpenStatus.INVALID
    store.advance(60_000)
    assert store.do(making).status is op.OpenStatus.INVALID, "the reservation's last moment"
    store.advance(1)
    assert store.do(making) == op.Opened(op.OpenStatus.ENDED, store.now, None, EndReason.LIMIT)
    assert store.scan() == []


def test_what_ended_young_is_not_made_again_at_once(store: Subject) -> None:
    """Of two requests with one old cookie the second comes when its session, made by the first, was logged out."""
    young, old = store.create(), store.create()
    store.end(young)
    assert store.do(create_op(young)).status is op.OpenStatus.INVALID
    store.advance(60_001)
    store.end(old)
    for sid in (young, old):
        assert store.do(create_op(sid)).status is op.OpenStatus.OK, "nobody waits for so long"


def test_an_entry_named_twice_is_removed_once(store: Subject) -> None:
    store.end(store.create(user="ana", flags=FLAG_USER_BOOK))
    (entry,) = store.do(op.OutboxRead(P))
    assert store.do(op.OutboxDone(P, (entry.raw, entry.raw))) == 1


def test_what_a_session_left_with_a_user_is_told_apart_from_what_it_has_when_it_comes_back(store: Subject) -> None:
    """All in one millisecond; a pass that has read the outbox may deliver an entry at any later time."""
    flags = FLAG_USER_BOOK | FLAG_USER_QUOTA
    sid = store.create(user="ana", flags=flags)
    store.do(op.Confirm("ana", sid, store.record(sid).last_activity))
    bound = []
    for number, user in enumerate(("bob", "ana", "bob", "ana")):
        mac = bytes([65 + number]) * 16
        record = store.do(op.RotateSession(sid, (), mac, user=user, flags=FLAG_USER_BOOK)).record
        assert record is not None
        assert record.flags == flags
        assert store.do(op.RotateSession(sid, (), mac, user=user, flags=FLAG_USER_BOOK)).record == record
        bound.append(record.last_activity)
    assert bound == sorted({T0 + 1, *bound}), "each later than those before"
    owed = store.do(op.OutboxRead(P))
    left = [(one.user, one.resource_id, one.before) for one in owed]
    assert left == [
        (user, what, moment) for user, moment in zip(("ana", "bob") * 2, bound, strict=True) for what in ("", "*")
    ]
    store.do(op.Confirm("ana", sid, bound[1]))
    store.do(op.ReserveQuota("ana", sid, "r1", 1))
    first, later = owed[:4], owed[4:]
    for one in first:
        store.do(op.GiveBack(one.user, one.session_id, one.resource_id, one.before))
    assert members(store.do, "ana") == (sid,)
    assert store.do(op.ReserveQuota("ana", sid, "r2", 0, max_resources=1)).status == "limit:resources"
    for one in later:
        store.do(op.GiveBack(one.user, one.session_id, one.resource_id, one.before))
    assert members(store.do, "ana") == ()
    assert store.do(op.ReserveQuota("ana", sid, "r2", 0, max_resources=1)).status == "ok"


def test_what_an_ended_session_leaves_is_given_back_in_any_case(store: Subject) -> None:
    sid = store.create(user="ana", flags=FLAG_USER_BOOK | FLAG_TOTAL_BOOK | FLAG_USER_QUOTA)
    store.end(sid)
    assert {one.before for one in store.do(op.OutboxRead(P))} == {0}


# --- keep-alives ----------------------------------------------------------------------------------------------


def test_a_keep_alive_defers_the_idle_end(store: Subject) -> None:
    sid = store.create()
    assert store.do(op.Defer(sid, "job-1", HOUR // 2, width=WIDTH)) == T0 + HOUR // 2
    assert store.record(sid).keep_alive == T0 + HOUR // 2
    store.advance(HOUR // 2 - 1)
    assert store.end(sid, "", only_due=True).live
    assert store.open(sid, touch=False).status is op.OpenStatus.OK
    store.advance(1)
    assert store.end(sid, "", only_due=True).reason == "idle"


def test_a_keep_alive_never_defers_the_absolute_end_but_the_destruction(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    store.do(op.Defer(sid, "job-1", 2 * HOUR))
    store.advance(LONGEST)
    assert store.open(sid).reason == "expired"
    assert store.leased() == {}
    assert store.lease().next_due == T0 + 2 * HOUR
    store.advance(HOUR)
    assert store.leased() == {sid: {file}}


def test_a_keep_alive_never_defers_a_log_out_but_the_destruction(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    intent = store.register(sid)
    store.do(op.Defer(sid, "job-1", HOUR))
    store.end(sid)
    assert store.leased() == {}
    store.advance(HOUR)
    assert store.leased() == {sid: {file, intent}}


def test_the_idle_death_of_a_session_kept_alive_is_the_end_of_that(store: Subject) -> None:
    sid = store.create()
    store.file(sid)
    store.do(op.Defer(sid, "job-1", HOUR // 2))
    store.advance(HOUR // 2)
    store.end(sid, "", only_due=True, grace=GRACE)
    assert store.lease().next_due == T0 + HOUR // 2 + GRACE


def test_the_latest_of_all_tokens_counts_and_each_can_be_taken_back(store: Subject) -> None:
    sid = store.create()
    assert store.do(op.Defer(sid, "job-1", HOUR)) == T0 + HOUR
    assert store.do(op.Defer(sid, "job-2", HOUR // 2)) == T0 + HOUR // 2
    assert store.record(sid).keep_alive == T0 + HOUR
    assert store.do(op.Undefer(sid, "job-1")) is True
    assert store.record(sid).keep_alive == T0 + HOUR // 2
    assert store.do(op.Undefer(sid, "job-2")) is True
    assert store.record(sid).keep_alive == 0


def test_the_same_token_replaces_what_it_said(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    store.do(op.Defer(sid, "job-1", HOUR))
    store.do(op.Defer(sid, "job-1", 1000))
    assert store.record(sid).keep_alive == T0 + 1000
    store.do(op.Defer(sid, "job-1", 2000, file))
    assert (store.record(sid).keep_alive, store.resource(sid, file).until) == (0, T0 + 2000)
    store.do(op.Defer(sid, "job-1", 3000))
    assert (store.record(sid).keep_alive, store.resource(sid, file).until) == (T0 + 3000, 0)


def test_taking_back_a_keep_alive_files_the_session_earlier(store: Subject) -> None:
    sid = store.create()
    store.do(op.Defer(sid, "job-1", HOUR // 2, width=WIDTH))
    store.advance(IDLE)
    step = store.sweep()
    assert (step.refiled, step.idle) == (1, 0)
    assert store.record(sid).filed == T0 + HOUR // 2
    store.do(op.Undefer(sid, "job-1", width=WIDTH))
    assert store.record(sid).filed == T0 + IDLE
    assert store.sweep().idle == 1


def test_a_shorter_keep_alive_files_the_session_earlier(store: Subject) -> None:
    sid = store.create()
    store.do(op.Defer(sid, "job-1", HOUR // 2, width=WIDTH))
    store.advance(IDLE)
    store.sweep()
    store.do(op.Defer(sid, "job-1", 60_000, width=WIDTH))
    assert store.record(sid).filed == T0 + IDLE + 60_000
    store.advance(60_000)
    assert store.sweep().idle == 1


def test_a_token_that_defers_nothing_changes_nothing(store: Subject) -> None:
    bare, kept = store.create(), store.create()
    store.do(op.Defer(kept, "job-1", 1000))
    store.advance(IDLE)
    store.sweep(observe=True)
    before = (store.record(bare), store.record(kept), store.wheel())
    for sid in (bare, kept):
        assert store.do(op.Undefer(sid, "nobody's", width=WIDTH)) is True
    assert (store.record(bare), store.record(kept), store.wheel()) == before


def test_a_due_or_ended_session_is_not_kept_alive(store: Subject) -> None:
    sid = store.create()
    store.advance(IDLE)
    assert store.do(op.Defer(sid, "job-1", HOUR)) is None
    assert store.record(sid).keep_alive == 0
    store.end(sid)
    assert store.do(op.Defer(sid, "job-1", HOUR)) is None
    assert store.do(op.Undefer(sid, "job-1")) is False
    assert store.do(op.Undefer(new_session_id(P), "job-1")) is False


def test_a_session_with_nothing_but_a_keep_alive_leaves_nothing(store: Subject) -> None:
    sid = store.create()
    store.do(op.Defer(sid, "job-1", HOUR))
    assert store.end(sid).locations == ()
    assert store.tombstone(sid) is None
    assert store.scan() == []


def test_a_job_that_outlives_its_session_releases_the_bytes_when_it_lets_go(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    store.do(op.Defer(sid, "job-1", HOUR))
    store.do(op.Defer(sid, "job-2", 1000))
    store.end(sid)
    assert store.do(op.Undefer(sid, "job-1")) is True
    assert store.leased() == {}
    store.advance(1000)
    assert store.leased() == {sid: {file}}


def test_letting_go_after_an_idle_end_still_waits_for_the_grace(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    store.do(op.Defer(sid, "job-1", 2 * HOUR))
    store.advance(LONGEST)
    store.end(sid, "", only_due=True, grace=GRACE)
    store.do(op.Undefer(sid, "job-1"))
    assert store.leased() == {}
    store.advance(GRACE)
    assert store.leased() == {sid: {file}}


def test_letting_go_of_nothing_breaks_no_lease(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    store.do(op.Defer(sid, "job-1", 1000))
    store.end(sid)
    store.advance(1000)
    assert store.leased() == {sid: {file}}
    store.do(op.Undefer(sid, "job-1"))
    store.do(op.Undefer(sid, "nobody's"))
    assert store.leased(lease_id="lease-2") == {}


# --- pins -----------------------------------------------------------------------------------------------------


def test_a_pin_keeps_one_resource_after_the_end(store: Subject) -> None:
    sid = store.create()
    pinned, other = store.file(sid), store.file(sid)
    assert store.do(op.Defer(sid, "job-1", HOUR, pinned)) == T0 + HOUR
    assert store.resource(sid, pinned).until == T0 + HOUR
    assert store.record(sid).keep_alive == 0
    store.end(sid)
    assert store.leased() == {sid: {other}}
    store.settle(sid, other, "deleted")
    assert store.lease(lease_id="lease-2").next_due == T0 + HOUR
    store.advance(HOUR)
    assert store.leased(lease_id="lease-3") == {sid: {pinned}}


def test_a_released_pin_waits_for_its_end_only(store: Subject) -> None:
    sid = store.create()
    pinned = store.file(sid)
    store.do(op.Defer(sid, "job-1", 1000, pinned))
    store.do(op.Defer(sid, "job-2", 2000, pinned))
    store.do(op.Undefer(sid, "job-2"))
    assert store.resource(sid, pinned).until == T0 + 1000
    assert store.do(op.Release(sid, pinned)) is True
    assert store.leased() == {}
    store.advance(1000)
    assert store.leased() == {sid: {pinned}}


def test_a_pin_taken_back_after_the_end_is_reclaimed_at_once(store: Subject) -> None:
    sid = store.create()
    pinned = store.file(sid)
    store.do(op.Defer(sid, "job-1", HOUR, pinned))
    store.end(sid)
    assert store.leased() == {}
    assert store.do(op.Undefer(sid, "job-1")) is True
    assert store.leased() == {sid: {pinned}}


def test_only_a_live_resource_can_be_pinned(store: Subject) -> None:
    sid = store.create()
    intent, released = store.register(sid), store.file(sid)
    store.do(op.Release(sid, released))
    for resource_id in (intent, released, new_resource_id()):
        assert store.do(op.Defer(sid, "job-1", HOUR, resource_id)) is None
    store.end(sid)
    assert store.do(op.Defer(sid, "job-1", HOUR, intent)) is None


@pytest.mark.parametrize("reason", ["idle", "expired", "logout"])
def test_streams_of_an_ended_session_are_due_at_once_its_files_after_the_grace(store: Subject, reason: str) -> None:
    sid = store.create()
    file = store.file(sid)
    stream = store.register(sid, kind="s", location=PROCESS, live=True)
    store.do(op.Defer(sid, "job", 60_000, ""))  # a job's keep-alive defers destruction, not the end of a connection
    assert store.end(sid, reason, grace=GRACE).done
    assert store.leased(PROCESS) == {sid: {stream}}
    assert store.leased() == {}
    store.do(op.Settle(sid, PROCESS, (op.Attempt(stream, Outcome.DELETED),)))
    store.advance(60_000)
    assert store.leased(lease_id="lease-2") == {sid: {file}}
