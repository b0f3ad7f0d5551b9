"""Conformance: leases, settling, tombstones, dead letters, queues."""

from __future__ import annotations

import pytest
from driving import DISK, GRACE, IDLE, OTHER_DISK, PROCESS, T0, P, Subject

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.states import Outcome, ResourceState
from sessionsweep.store import operations as op

MINUTE = 60_000


def ended(store: Subject, files: int = 1, **fields: int) -> tuple[str, list[str]]:
    """A session that has just been logged out, and its files."""
    sid = store.create()
    rids = [store.file(sid, **fields) for _ in range(files)]
    store.end(sid)
    return sid, rids


def test_a_lease_tells_what_a_worker_needs(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid, kind="x", size=70, purpose="thumbnail", live=True)
    store.end(sid)
    leased = store.lease()
    assert leased.entries == ((sid, (op.LeasedResource(rid, "x", 70, 0, "thumbnail"),)),)
    assert (leased.next_due, leased.now) == (T0 + MINUTE, T0)


def test_a_leased_entry_is_nobody_else_s_until_the_lease_ends(store: Subject) -> None:
    sid, rids = ended(store)
    store.leased()
    assert store.leased(lease_id="lease-2") == {}
    store.advance(MINUTE - 1)
    assert store.leased(lease_id="lease-3") == {}
    store.advance(1)
    assert store.leased(lease_id="lease-4") == {sid: set(rids)}


def test_the_same_lease_id_returns_the_same_batch(store: Subject) -> None:
    first = ended(store)
    batch = store.leased()
    second = ended(store)
    assert store.leased() == batch == {first[0]: set(first[1])}
    assert store.leased(lease_id="lease-2") == {second[0]: set(second[1])}


def test_a_lease_repeated_after_settling_tells_only_what_is_left(store: Subject) -> None:
    sid, rids = ended(store, 2)
    store.leased()
    store.settle(sid, rids[0], "deleted")
    assert store.leased() == {sid: {rids[1]}}
    store.settle(sid, rids[1], "deleted")
    assert store.leased() == {}


def test_a_lease_is_held_until_it_lapses(store: Subject) -> None:
    ended(store)
    held = op.LeaseHeld(P, DISK, "lease-1")
    assert store.do(held) is False
    store.lease(duration=150)
    assert store.do(held) is True
    assert store.do(op.LeaseHeld(P, DISK, "lease-2")) is False
    assert store.do(op.LeaseHeld(P, OTHER_DISK, "lease-1")) is False
    assert store.until_lapsed(150, lambda: store.do(held) is False)


def test_a_lease_that_found_nothing_is_not_held(store: Subject) -> None:
    assert store.lease() == op.Leased((), 0, T0)
    assert store.do(op.LeaseHeld(P, DISK, "lease-1")) is False


def test_locations_and_sessions_are_leased_apart(store: Subject) -> None:
    sid = store.create()
    here, there = store.file(sid), store.file(sid, location=OTHER_DISK)
    store.end(sid)
    assert store.leased(DISK) == {sid: {here}}
    assert store.leased(OTHER_DISK) == {sid: {there}}


def test_entries_come_in_the_order_in_which_they_are_due(store: Subject) -> None:
    sids = []
    for _ in range(5):
        sids.append(ended(store)[0])
        store.advance(10)
    assert [sid for sid, _ in store.lease().entries] == sids


def test_a_bound_only_narrows_what_is_due(store: Subject) -> None:
    first, _ = ended(store)
    store.advance(1000)
    second, _ = ended(store)
    assert set(store.leased(bound=T0 + 999)) == {first}
    assert set(store.leased(lease_id="lease-2", bound=T0 + 10**9)) == {second}


def test_a_batch_has_at_most_limit_resources(store: Subject) -> None:
    sid, rids = ended(store, 5)
    taken = store.leased(limit=2)[sid]
    assert len(taken) == 2
    for rid in taken:
        store.settle(sid, rid, "deleted")
    rest = store.leased(lease_id="lease-2", limit=10)[sid]
    assert rest == set(rids) - taken


def test_a_batch_may_end_between_two_sessions(store: Subject) -> None:
    first, _ = ended(store, 2)
    store.advance(1)
    second, rids = ended(store, 2)
    entries = store.lease(limit=3).entries
    assert [(sid, len(found)) for sid, found in entries] == [(first, 2), (second, 1)]
    assert store.leased(lease_id="lease-2") == {}
    (one,) = entries[1][1]
    store.settle(second, one.resource_id, "deleted")
    assert store.leased(lease_id="lease-3") == {second: set(rids) - {one.resource_id}}


def test_only_what_was_given_up_is_leased_of_a_live_session(store: Subject) -> None:
    sid = store.create()
    given_up = store.file(sid)
    store.file(sid)
    store.register(sid)
    store.do(op.Release(sid, given_up))
    assert store.leased() == {sid: {given_up}}
    assert store.settle(sid, given_up, "deleted") == op.Settled(1, (), 0, 100)
    assert store.queue() == op.QueueDepth(DISK, 0, 0)


def test_an_intent_of_an_ended_session_is_leased_at_once(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid)
    store.end(sid)
    assert store.leased() == {sid: {rid}}


@pytest.mark.parametrize("outcome", ["deleted", "gone", "promoted", "forgotten"])
def test_a_last_settlement_moves_the_books_once_and_leaves_a_receipt(store: Subject, outcome: str) -> None:
    sid, (rid,) = ended(store, size=100)
    store.leased()
    assert store.settle(sid, rid, outcome) == op.Settled(1, (), 0, 100)
    expected = {"created": 1, "ended": 1, "ended:logout": 1, "reg": 1, outcome: 1}
    if outcome == "deleted":
        expected["b_deleted"] = 100
    assert store.books() == expected
    stone = store.tombstone(sid)
    assert (stone.owed, stone.deleted, stone.bytes_deleted) == (0, outcome == "deleted", 100 * (outcome == "deleted"))
    assert store.settle(sid, rid, outcome) == op.Settled(0, (), 0, 0)
    assert store.books() == expected
    assert store.queue() == op.QueueDepth(DISK, 0, 0)
    assert store.do(op.ListResources(sid)) == ()


@pytest.mark.parametrize("outcome", [Outcome.DELETED, Outcome.FAILED])
def test_what_is_told_twice_in_one_call_counts_once(store: Subject, outcome: Outcome) -> None:
    sid, (rid, other) = ended(store, 2, size=100)
    store.leased()
    told = (op.Attempt(rid, outcome, 5000, "EIO"),) * 3
    left = 1 if outcome is Outcome.DELETED else 2
    assert store.do(op.Settle(sid, DISK, told)) == op.Settled(1, (), left, 100 * (left == 1))
    store.settle(sid, other, "deleted")
    books = store.books()
    if outcome is Outcome.DELETED:
        assert (books["deleted"], books["b_deleted"], books.get("owed", 0)) == (2, 200, 0)
    else:
        assert store.resource(sid, rid).tries == 1
        assert (books["deleted"], books["owed"]) == (1, 1)


def test_a_receipt_is_forgotten_after_its_retention(store: Subject) -> None:
    sid, (rid,) = ended(store)
    store.settle(sid, rid, "deleted", retention=150)
    assert store.tombstone(sid).reason == "logout"
    assert store.until_lapsed(150, lambda: store.tombstone(sid) is None)
    assert store.scan() == []


def test_a_tombstone_that_owes_is_kept_however_long(store: Subject) -> None:
    sid, rids = ended(store, 2)
    store.settle(sid, rids[0], "deleted", retention=1)
    store.advance(10**10)
    assert store.tombstone(sid).owed == 1


def test_a_late_settlement_after_the_lease_is_welcome(store: Subject) -> None:
    sid, (rid,) = ended(store)
    store.leased()
    store.advance(10 * MINUTE)
    assert store.settle(sid, rid, "deleted").counted == 1


def test_busy_waits_without_using_a_try(store: Subject) -> None:
    sid, (rid,) = ended(store)
    store.leased()
    assert store.settle(sid, rid, "busy", delay=5000) == op.Settled(0, (), 1, 0)
    found = store.resource(sid, rid)
    assert (found.state, found.until, found.tries) == (ResourceState.OWED, T0 + 5000, 0)
    assert store.lease(lease_id="lease-2") == op.Leased((), T0 + 5000, T0)
    store.advance(5000)
    assert store.leased(lease_id="lease-3") == {sid: {rid}}


def test_failed_backs_off_and_counts(store: Subject) -> None:
    sid, (rid,) = ended(store)
    store.leased()
    assert store.settle(sid, rid, "failed", delay=5000, error="EACCES ü") == op.Settled(1, (), 1, 0)
    found = store.resource(sid, rid)
    assert (found.until, found.tries, found.error) == (T0 + 5000, 1, "EACCES ü")
    store.advance(5000)
    ((_, (leased,)),) = store.lease(lease_id="lease-2").entries
    assert leased.tries == 1


def test_the_same_failure_told_twice_uses_one_try(store: Subject) -> None:
    sid, (rid,) = ended(store)
    store.leased()
    for _ in range(3):
        store.settle(sid, rid, "failed", delay=5000)
    assert store.resource(sid, rid).tries == 1
    store.settle(sid, rid, "busy", delay=9000)
    assert store.resource(sid, rid).until == T0 + 5000


def test_one_that_fails_never_holds_up_another(store: Subject) -> None:
    sid, rids = ended(store, 2)
    store.leased()
    attempts = (op.Attempt(rids[0], Outcome.FAILED, 5000, "EIO"), op.Attempt(rids[1], Outcome.DELETED))
    assert store.do(op.Settle(sid, DISK, attempts)) == op.Settled(2, (), 1, 100)
    assert store.lease(lease_id="lease-2").next_due == T0 + 5000


def fail_often(store: Subject, sid: str, rid: str, tries: int = 3) -> op.Settled:
    for _ in range(tries):
        settled = store.settle(sid, rid, "failed", delay=1000, error="EPERM", tries=tries)
        store.advance(1000)
    return settled


def test_after_the_last_try_a_resource_is_a_dead_letter(store: Subject) -> None:
    sid, (rid,) = ended(store, size=100)
    settled = fail_often(store, sid, rid)
    assert settled == op.Settled(1, (rid,), 0, 0)
    (letter,) = store.do(op.DeadLetters(P))
    assert letter == op.DeadLetter(sid, store.resource(sid, rid))
    assert (letter.record.state, letter.record.tries, letter.record.error) == (ResourceState.DEAD, 3, "EPERM")
    assert letter.record.until == T0 + 2000
    books = store.books()
    assert (books["dead"], books.get("owed", 0), books.get("b_owed", 0)) == (1, 0, 0)
    assert store.tombstone(sid).owed == 1
    store.advance(10**9)
    assert store.leased() == {}
    assert store.settle(sid, rid, "failed").counted == 0


def test_dead_letters_come_in_pages_oldest_first(store: Subject) -> None:
    rids = []
    for _ in range(4):
        sid, (rid,) = ended(store)
        fail_often(store, sid, rid, tries=1)
        rids.append(rid)
    assert [one.record.resource_id for one in store.do(op.DeadLetters(P))] == rids
    assert [one.record.resource_id for one in store.do(op.DeadLetters(P, 1, 2))] == rids[1:3]


def test_a_dead_letter_can_be_tried_again(store: Subject) -> None:
    sid, (rid,) = ended(store, size=100)
    fail_often(store, sid, rid)
    assert store.do(op.RetryDead(sid, rid)) is True
    assert store.do(op.RetryDead(sid, rid)) is False
    assert store.do(op.DeadLetters(P)) == ()
    found = store.resource(sid, rid)
    assert (found.state, found.tries, found.until) == (ResourceState.OWED, 0, store.now)
    assert (store.books()["owed"], store.books()["b_owed"]) == (1, 100)
    assert store.leased() == {sid: {rid}}
    assert store.settle(sid, rid, "deleted").counted == 1
    assert store.tombstone(sid).owed == 0


def test_a_dead_letter_can_be_dropped(store: Subject) -> None:
    sid, (rid,) = ended(store)
    assert store.do(op.DropDead(sid, rid)) is False
    fail_often(store, sid, rid)
    assert store.do(op.DropDead(sid, rid, retention=150)) is True
    assert store.do(op.DropDead(sid, rid)) is False
    assert store.do(op.DeadLetters(P)) == ()
    books = store.books()
    assert (books["forgotten"], books.get("dead", 0)) == (1, 0)
    assert store.until_lapsed(150, lambda: store.tombstone(sid) is None)


def test_a_late_success_closes_a_dead_letter(store: Subject) -> None:
    sid, (rid,) = ended(store, size=100)
    fail_often(store, sid, rid)
    assert store.settle(sid, rid, "deleted").counted == 1
    assert store.do(op.DeadLetters(P)) == ()
    books = store.books()
    assert (books["deleted"], books["b_deleted"], books.get("dead", 0)) == (1, 100, 0)
    assert store.tombstone(sid).owed == 0


def test_live_records_of_a_live_session_go_only_to_their_owner(store: Subject) -> None:
    sid = store.create(user="ana")
    file, intent = store.file(sid, size=100, quota=True), store.register(sid, size=50)
    for rid in (file, intent):
        for outcome in ("deleted", "failed", "busy"):
            assert store.settle(sid, rid, outcome).counted == 0
    assert store.record(sid).bytes_used == 150
    assert store.settle(sid, intent, "deleted", own=True) == op.Settled(1, (), 0, 50)
    assert store.settle(sid, file, "promoted", own=True) == op.Settled(1, (), 0, 100)
    record = store.record(sid)
    assert (record.resource_count, record.bytes_used) == (0, 0)
    assert store.outbox() == {("user", sid, "ana", intent), ("user", sid, "ana", file)}
    assert store.books() == {"created": 1, "reg": 2, "deleted": 1, "b_deleted": 50, "promoted": 1}
    store.advance(IDLE - 1)
    assert store.do(op.OverdueIntents(P)) == 0


def test_settling_what_is_unknown_changes_nothing(store: Subject) -> None:
    sid = store.create()
    assert store.settle(sid, new_resource_id(), "deleted") == op.Settled(0, (), 0, 0)
    assert store.settle(new_session_id(P), new_resource_id(), "deleted") == op.Settled(0, (), 0, 0)
    assert store.books() == {"created": 1}
    assert store.do(op.Queues(P)) == ()


def test_live_streams_are_findable_but_never_due(store: Subject) -> None:
    store.register(store.create(), kind="s", location=PROCESS, live=True)
    store.advance(10**9)
    assert store.lease(PROCESS) == op.Leased((), 0, store.now)
    assert store.queue(PROCESS) == op.QueueDepth(PROCESS, 0, 0)


def test_a_dead_location_is_emptied_by_its_finder(store: Subject) -> None:
    live, over = store.create(), store.create()
    stream = store.register(live, kind="s", location=PROCESS, live=True)
    other = store.register(over, kind="s", location=PROCESS, live=True)
    store.end(over, "idle", grace=GRACE)
    assert store.leased(PROCESS, dead=True) == {live: {stream}, over: {other}}
    assert store.settle(live, stream, "gone", PROCESS, own=True).counted == 1
    assert store.settle(over, other, "gone", PROCESS, own=True).counted == 1
    assert store.record(live).stream_count == 0
    assert store.leased(PROCESS, "lease-2", dead=True) == {}
    assert store.lease(PROCESS, "lease-3", dead=True).next_due == 0
    assert store.books()["gone"] == 2


def close_as_dead(store: Subject, lease_id: str) -> int:
    """As upkeep does with what a web process left; how many streams it closed."""
    closed = 0
    while found := store.leased(PROCESS, f"{lease_id} {closed}", dead=True):
        for sid, streams in found.items():
            for stream in streams:
                closed += store.settle(sid, stream, "gone", PROCESS, own=True).counted
    return closed


def test_a_process_whose_streams_are_all_closed_is_listed_no_more(store: Subject) -> None:
    """Each web process that ever was would be looked at once a second, for ever."""
    sid = store.create()
    for _ in range(2):
        store.register(sid, kind="s", location=PROCESS, live=True)
    store.file(sid)
    assert store.leased(PROCESS, "the first", dead=True, limit=1), "one stream is left"
    assert {depth.location for depth in store.do(op.Queues(P))} == {PROCESS, DISK}
    assert close_as_dead(store, "lease") == 2
    assert [depth.location for depth in store.do(op.Queues(P))] == [DISK]
    store.do(op.Lease(P, DISK, "a disk", 1000, dead=True))
    assert store.queue() is not None, "a disk may come back"


def test_a_process_that_was_only_paused_is_listed_again(store: Subject) -> None:
    """The session knows the location already, and its queue must be found all the same."""
    sid = store.create()
    store.register(sid, kind="s", location=PROCESS, live=True)
    assert close_as_dead(store, "lease") == 1
    assert store.queue(PROCESS) is None
    stream = store.register(sid, kind="s", location=PROCESS, live=True)
    assert store.queue(PROCESS) == op.QueueDepth(PROCESS, 0, 0)
    assert store.leased(PROCESS, "again", dead=True) == {sid: {stream}}


@pytest.mark.parametrize("readopted", [False, True])
def test_whatever_is_registered_at_a_process_lists_it_again(store: Subject, readopted: bool) -> None:
    """No file of ours lies at a process; one that did would be owed in a queue that nobody finds."""
    sid = store.create()
    store.file(sid, location=PROCESS)
    assert store.leased(PROCESS, dead=True) == {}
    assert store.queue(PROCESS) is None
    if readopted:
        assert store.do(op.Readopt(sid, new_resource_id(), PROCESS, 100))
    else:
        store.file(sid, location=PROCESS)
    assert store.queue(PROCESS) == op.QueueDepth(PROCESS, 0, 0)


def test_a_process_listed_no_more_comes_back_with_what_its_sessions_owe(store: Subject) -> None:
    sid = store.create()
    store.register(sid, kind="s", location=PROCESS, live=True)
    assert close_as_dead(store, "lease") == 1
    store.file(sid)
    store.end(sid)
    assert store.queue(PROCESS) == op.QueueDepth(PROCESS, 1, 1)
    assert close_as_dead(store, "again") == 0
    assert store.queue(PROCESS) is None


def test_a_stream_that_ends_with_its_session_is_due_at_once(store: Subject) -> None:
    sid = store.create()
    stream = store.register(sid, kind="s", location=PROCESS, live=True)
    store.end(sid)
    assert store.leased(PROCESS) == {sid: {stream}}


def test_a_closed_stream_leaves_the_others_findable(store: Subject) -> None:
    sid = store.create()
    first, second = (store.register(sid, kind="s", location=PROCESS, live=True) for _ in range(2))
    store.do(op.Release(sid, first))
    assert store.leased(PROCESS) == {sid: {first}}
    store.settle(sid, first, "deleted", PROCESS)
    assert store.lease(PROCESS, "lease-2") == op.Leased((), 0, T0)
    assert store.leased(PROCESS, "lease-3", dead=True) == {sid: {second}}


def test_queues_say_how_deep_and_how_late(store: Subject) -> None:
    assert store.do(op.Queues(P)) == ()
    sid = store.create()
    store.file(sid)
    assert store.do(op.Queues(P)) == (op.QueueDepth(DISK, 0, 0),)
    store.end(sid)
    ended(store)
    assert store.queue() == op.QueueDepth(DISK, 2, 1)
    store.advance(5000)
    assert store.queue() == op.QueueDepth(DISK, 2, 5000)
    store.leased()
    assert store.queue() == op.QueueDepth(DISK, 2, 0)
