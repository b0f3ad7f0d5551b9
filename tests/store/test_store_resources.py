"""Conformance: registering, growing, committing, using and giving up resources; limits."""

from __future__ import annotations

import pytest
from driving import DISK, IDLE, NEW_MAC, OTHER_DISK, PROCESS, T0, P, Subject

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.resource import ResourceRecord
from sessionsweep.model.session import FLAG_USER_BOOK, FLAG_USER_QUOTA
from sessionsweep.model.states import Outcome, ResourceState
from sessionsweep.store import operations as op

TIMEOUT = 900_000


def test_an_intent_is_recorded_with_its_reservation_and_deadline(store: Subject) -> None:
    sid, rid = store.create(), new_resource_id(".wav")
    reply = store.do(op.Register(sid, rid, "f", DISK, 100, "tts ü", intent_timeout=TIMEOUT))
    assert reply == op.Registered("ok", (), T0 + TIMEOUT)
    assert store.resource(sid, rid) == ResourceRecord(
        rid, ResourceState.INTENT, "f", DISK, 100, T0, T0, T0 + TIMEOUT, 0, "tts ü", ""
    )
    record = store.record(sid)
    assert (record.resource_count, record.stream_count, record.bytes_used) == (1, 0, 100)
    assert (record.last_activity, record.request_count) == (T0, 1)
    assert store.books() == {"created": 1, "reg": 1, "active": 1, "b_active": 100}


def test_registering_again_answers_the_same(store: Subject) -> None:
    sid = store.create()
    register = op.Register(sid, new_resource_id(), "f", DISK, 100)
    first = store.do(register)
    books = store.books()
    store.advance(1000)
    assert store.do(register) == first
    assert store.books() == books
    store.do(op.Commit(sid, register.resource_id, 50))
    assert store.do(register) == op.Registered("ok", (), 0)
    store.do(op.Release(sid, register.resource_id))
    assert store.do(register).status == "unknown"
    assert store.record(sid).resource_count == 0


def test_a_live_one_needs_no_commit(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid, kind="o", live=True, size=7)
    assert store.resource(sid, rid).state is ResourceState.LIVE
    assert store.resource(sid, rid).until == 0
    assert store.do(op.OverdueIntents(P)) == 0


@pytest.mark.parametrize("kind", ["f", "s", "o", "x"])
def test_streams_count_apart_and_have_no_bytes(store: Subject, kind: str) -> None:
    sid = store.create()
    rid = store.register(sid, kind=kind, location=PROCESS, size=10, live=True)
    stream = kind == "s"
    record = store.record(sid)
    size = 0 if stream else 10
    assert (record.resource_count, record.stream_count, record.bytes_used) == (1 - stream, stream, size)
    assert store.resource(sid, rid).size == size
    store.end(sid)
    assert store.books().get("b_active", 0) == 0
    assert store.books().get("b_owed", 0) == size


def test_nothing_is_registered_in_a_session_that_is_over(store: Subject) -> None:
    sid = store.create()
    store.advance(IDLE)
    for session_id in (sid, new_session_id(P)):
        assert store.do(op.Register(session_id, new_resource_id(), "f", DISK, 1)).status == "ended"
    assert store.books() == {"created": 1}


def test_a_commit_lowers_the_reservation_and_can_be_repeated(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid, size=100)
    store.advance(1000)
    commit = op.Commit(sid, rid, 60)
    for _ in range(2):
        assert store.do(commit) == op.Registered("ok", (), 0)
    found = store.resource(sid, rid)
    assert (found.state, found.size, found.created, found.used) == (ResourceState.LIVE, 60, T0, T0 + 1000)
    assert store.record(sid).bytes_used == 60
    assert store.books() == {"created": 1, "reg": 1, "active": 1, "b_active": 60}
    assert store.do(op.OverdueIntents(P)) == 0


def test_a_commit_above_the_reservation_is_refused(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid, size=100)
    assert store.do(op.Commit(sid, rid, 101)).status == "limit:bytes"
    assert store.resource(sid, rid).state is ResourceState.INTENT
    assert store.record(sid).bytes_used == 100


def test_commit_and_grow_of_what_is_no_intent_are_unknown_and_after_the_end_ended(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid)
    live = store.file(sid)
    store.do(op.Release(sid, rid))
    for resource_id in (rid, new_resource_id()):
        assert store.do(op.Commit(sid, resource_id, 1)).status == "unknown"
        assert store.do(op.Grow(sid, resource_id, 1)).status == "unknown"
    assert store.do(op.Grow(sid, live, 1000)).status == "unknown"
    intent = store.register(sid)
    store.advance(IDLE)
    assert store.do(op.Commit(sid, intent, 1)).status == "ended"
    assert store.do(op.Grow(sid, intent, 1000)).status == "ended"
    store.end(sid)
    assert store.do(op.Commit(sid, intent, 1)).status == "ended"


def test_growing_raises_the_reservation_never_lowers_it_and_renews_the_deadline(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid, size=100)
    store.advance(1000)
    grow = op.Grow(sid, rid, 300, intent_timeout=TIMEOUT, max_bytes=1000)
    for _ in range(2):
        assert store.do(grow) == op.Registered("ok", (), T0 + 1000 + TIMEOUT)
    assert store.record(sid).bytes_used == 300
    store.do(op.Grow(sid, rid, 50, intent_timeout=1))
    assert (store.resource(sid, rid).size, store.resource(sid, rid).until) == (300, T0 + 1000 + TIMEOUT)
    assert store.books()["b_active"] == 300
    store.advance(TIMEOUT - 1)
    assert store.do(op.OverdueIntents(P)) == 0


def test_growing_beyond_the_limit_evicts_others_or_is_refused(store: Subject) -> None:
    sid = store.create()
    old = store.file(sid, size=400)
    rid = store.register(sid, size=100)
    assert store.do(op.Grow(sid, rid, 1001, max_bytes=1000)).status == "limit:bytes"
    assert store.resource(sid, old).state is ResourceState.LIVE
    assert store.do(op.Grow(sid, rid, 601, max_bytes=1000)).evicted == (old,)
    assert store.record(sid).bytes_used == 601
    assert store.do(op.Grow(sid, rid, 1001, max_bytes=1000)).status == "limit:bytes"
    assert store.resource(sid, rid).size == 601


def test_at_the_count_limit_the_least_recently_used_go(store: Subject) -> None:
    sid = store.create()
    files = []
    for _ in range(3):
        store.advance(10)
        files.append(store.file(sid))
    store.advance(10)
    assert store.do(op.UseResource(sid, files[0])) is not None
    new = new_resource_id()
    reply = store.do(op.Register(sid, new, "f", DISK, 1, max_resources=3))
    assert (reply.status, reply.evicted) == ("ok", (files[1],))
    assert store.record(sid).resource_count == 3
    gone = store.resource(sid, files[1])
    assert (gone.state, gone.until) == (ResourceState.OWED, store.now)
    assert store.books() == {
        "created": 1, "reg": 4, "active": 3, "b_active": 201, "owed": 1, "b_owed": 100, "evicted": 1,
    }  # fmt: skip
    assert store.leased() == {sid: {files[1]}}


def test_equally_old_files_go_in_the_order_of_their_ids(store: Subject) -> None:
    sid = store.create()
    files = sorted(store.file(sid) for _ in range(4))
    reply = store.do(op.Register(sid, new_resource_id(), "f", DISK, 1, max_resources=3))
    assert reply.evicted == tuple(files[:2])


def test_bytes_evict_just_as_many_as_needed_and_no_empty_files(store: Subject) -> None:
    sid = store.create()
    sizes = (0, 400, 0, 300, 300)
    files = []
    for size in sizes:
        store.advance(1)
        files.append(store.file(sid, size=size))
    reply = store.do(op.Register(sid, new_resource_id(), "f", DISK, 450, max_bytes=1000))
    assert reply.evicted == (files[1], files[3])
    assert store.record(sid).bytes_used == 750


def test_both_limits_at_once(store: Subject) -> None:
    sid = store.create()
    files = []
    for size in (0, 900, 50):
        store.advance(1)
        files.append(store.file(sid, size=size))
    reply = store.do(op.Register(sid, new_resource_id(), "f", DISK, 500, max_bytes=1000, max_resources=3))
    assert reply.evicted == (files[0], files[1])


@pytest.mark.parametrize(
    ("limits", "size", "status"),
    [({"max_resources": 3}, 1, "limit:resources"), ({"max_bytes": 400}, 101, "limit:bytes"),
     ({"max_bytes": 400}, 401, "limit:bytes")],
)  # fmt: skip
def test_intents_pinned_ones_and_streams_are_never_evicted(
    store: Subject, limits: dict[str, int], size: int, status: str
) -> None:
    sid = store.create()
    intent, pinned, evictable = store.register(sid), store.file(sid), store.file(sid)
    store.register(sid, kind="s", location=PROCESS, live=True)
    store.do(op.Defer(sid, "job-1", 1000, pinned))
    store.do(op.Defer(sid, "job-1b", 1000, evictable))
    before = (store.books(), store.do(op.ListResources(sid)), store.record(sid))
    reply = store.do(op.Register(sid, new_resource_id(), "f", OTHER_DISK, size, **limits))
    assert reply == op.Registered(status)
    assert (store.books(), store.do(op.ListResources(sid)), store.record(sid)) == before
    assert store.queue(OTHER_DISK) is None
    store.advance(1000)
    reply = store.do(op.Register(sid, new_resource_id(), "f", DISK, min(size, 200), **limits))
    assert reply.status == "ok"
    assert intent not in reply.evicted


def test_what_can_never_fit_evicts_nobody(store: Subject) -> None:
    sid = store.create()
    file = store.file(sid)
    assert store.do(op.Register(sid, new_resource_id(), "f", DISK, 1001, max_bytes=1000)).status == "limit:bytes"
    assert store.resource(sid, file).state is ResourceState.LIVE


def test_streams_have_their_own_limit_and_never_evict(store: Subject) -> None:
    sid = store.create()
    store.file(sid)
    first = store.register(sid, kind="s", location=PROCESS, live=True, max_streams=1, max_resources=1)
    full = store.do(op.Register(sid, new_resource_id(), "s", PROCESS, 0, live=True, max_streams=1))
    assert full == op.Registered("limit:streams")
    assert store.do(op.Release(sid, first)) is True
    store.register(sid, kind="s", location=PROCESS, live=True, max_streams=1)
    assert store.record(sid).stream_count == 1


def test_a_release_owes_the_resource_and_returns_its_share(store: Subject) -> None:
    sid = store.create(user="ana")
    rid = store.file(sid, size=100, quota=True)
    assert store.record(sid).flags == FLAG_USER_QUOTA
    assert store.do(op.Release(sid, rid)) is True
    assert store.do(op.Release(sid, rid)) is True  # said again: its answer may have been lost
    record = store.record(sid)
    assert (record.resource_count, record.bytes_used) == (0, 0)
    assert store.outbox() == {("user", sid, "ana", rid)}
    assert store.books() == {"created": 1, "reg": 1, "owed": 1, "b_owed": 100}
    assert store.leased() == {sid: {rid}}


def test_a_released_intent_is_no_longer_overdue(store: Subject) -> None:
    sid = store.create()
    rid = store.register(sid)
    assert store.do(op.Release(sid, rid)) is True
    store.advance(TIMEOUT)
    assert store.do(op.OverdueIntents(P)) == 0
    assert store.do(op.Release(sid, new_resource_id())) is False
    assert store.do(op.Release(new_session_id(P), rid)) is False


def test_an_eviction_returns_its_share(store: Subject) -> None:
    sid = store.create(user="ana")
    rid = store.file(sid, quota=True)
    store.register(sid, quota=True, max_resources=1)
    assert store.outbox() == {("user", sid, "ana", rid)}


def test_using_moves_to_the_end_of_the_eviction_order(store: Subject) -> None:
    sid = store.create()
    rid, intent = store.file(sid), store.register(sid)
    store.advance(10)
    used = store.do(op.UseResource(sid, rid))
    assert used == store.resource(sid, rid)
    assert used is not None
    assert used.used == T0 + 10
    store.advance(-5)
    again = store.do(op.UseResource(sid, rid))
    assert again is not None
    assert again.used == T0 + 10
    assert store.do(op.UseResource(sid, intent)) is None
    assert store.do(op.UseResource(sid, new_resource_id())) is None
    store.do(op.Release(sid, rid))
    assert store.do(op.UseResource(sid, rid)) is None


def test_a_resource_is_not_used_after_its_session_is_due(store: Subject) -> None:
    sid = store.create()
    rid = store.file(sid)
    store.advance(IDLE)
    assert store.do(op.UseResource(sid, rid)) is None


def test_overdue_intents_become_owed_and_finished_ones_are_dropped(store: Subject) -> None:
    sid, ended = store.create(user="ana"), store.create()
    late = store.register(sid, intent_timeout=1000, size=50, quota=True)
    store.register(sid, intent_timeout=2000)
    store.register(ended, intent_timeout=1000)
    store.end(ended)
    store.advance(999)
    assert store.do(op.OverdueIntents(P)) == 0
    store.advance(1)
    assert store.do(op.OverdueIntents(P)) == 2
    assert store.do(op.OverdueIntents(P)) == 0
    owed = store.resource(sid, late)
    assert (owed.state, owed.until) == (ResourceState.OWED, T0 + 1000)
    record = store.record(sid)
    assert (record.resource_count, record.bytes_used) == (1, 100)
    assert store.outbox() == {("user", sid, "ana", late)}
    assert store.leased()[sid] == {late}


def test_an_intent_begun_before_the_server_was_another_becomes_live_not_owed(store: Subject) -> None:
    """Its commit may be among the writes that a failover lost, and its client was told that the file is kept."""
    sid = store.create()
    before = store.register(sid, intent_timeout=1000, size=50)
    store.restart()
    assert store.do(op.OverdueIntents(P, hold=5000)) == 0  # nothing is due: nobody looks at the server yet
    store.advance(1000)
    assert store.do(op.OverdueIntents(P, hold=5000)) == 1
    assumed = store.resource(sid, before)
    assert (assumed.state, assumed.until, assumed.size) == (ResourceState.LIVE, 0, 50)
    assert store.leased() == {}
    store.advance(1)
    after = store.register(sid, intent_timeout=1000, size=50)
    store.advance(1000)
    assert store.do(op.OverdueIntents(P, hold=5000)) == 1
    assert store.resource(sid, after).state is ResourceState.OWED
    record = store.record(sid)
    assert (record.resource_count, record.bytes_used) == (1, 50)
    store.end(sid)
    assert store.leased() == {sid: {before, after}}


def test_an_overdue_intent_that_meets_another_server_first_holds_idle_ends(store: Subject) -> None:
    sid = store.create()
    store.register(sid, intent_timeout=IDLE - 1)
    store.restart()
    store.advance(IDLE - 1)
    assert store.do(op.OverdueIntents(P, hold=5000)) == 1
    store.advance(1)
    ended = store.end(sid, "idle", only_due=True, hold=5000)
    assert (ended.done, ended.live) == (False, True)


def test_overdue_intents_come_in_bounded_steps(store: Subject) -> None:
    sid = store.create()
    for _ in range(5):
        store.register(sid, intent_timeout=1000)
    store.advance(1000)
    assert store.do(op.OverdueIntents(P, bound=T0 + 999)) == 0
    assert [store.do(op.OverdueIntents(P, limit=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_owned_says_who_has_an_owner(store: Subject) -> None:
    sid = store.create()
    rid, stranger = store.file(sid), new_resource_id()
    assert store.do(op.Owned(sid, (rid, stranger))) == op.Ownership("live", (True, False))
    store.end(sid)
    assert store.do(op.Owned(sid, (stranger, rid))) == op.Ownership("ended", (False, True))
    assert store.do(op.Owned(new_session_id(P), (rid,))) == op.Ownership("unknown", (False,))
    assert store.do(op.Owned(sid, ())) == op.Ownership("ended", ())


def test_a_forgotten_file_of_a_live_session_is_registered_again(store: Subject) -> None:
    sid = store.create()
    rid = new_resource_id(".wav")
    assert store.do(op.Readopt(sid, rid, DISK, 70)) is True
    assert store.do(op.Readopt(sid, rid, DISK, 70)) is False
    found = store.resource(sid, rid)
    assert (found.state, found.kind, found.location, found.size) == (ResourceState.LIVE, "f", DISK, 70)
    record = store.record(sid)
    assert (record.resource_count, record.bytes_used) == (1, 70)
    assert store.books() == {"created": 1, "reg": 1, "active": 1, "b_active": 70}
    store.end(sid)
    assert store.leased() == {sid: {rid}}
    assert store.do(op.Readopt(sid, new_resource_id(), DISK, 70)) is False


def test_records_are_listed_also_after_the_end(store: Subject) -> None:
    sid = store.create()
    ids = {store.file(sid), store.register(sid), store.register(sid, kind="s", location=PROCESS, live=True)}
    before = set(store.do(op.ListResources(sid)))
    assert {one.resource_id for one in before} == ids
    store.end(sid)
    assert set(store.do(op.ListResources(sid))) == before


def test_a_session_may_outlive_any_number_of_processes(store: Subject) -> None:
    sid = store.create()
    for number in range(300):
        location, rid = f"p.web-{number}", new_resource_id()
        assert store.do(op.Register(sid, rid, "s", location, 0, "", True, 1, 10, 1000, 10)).status == "ok"
        gone = (op.Attempt(rid, Outcome.GONE),)
        assert store.do(op.Settle(sid, location, gone, retention=1, own=True)).counted == 1
    rid = new_resource_id()
    assert store.do(op.Register(sid, rid, "f", DISK, 10, "", True, 1, 10, 1000, 10)).status == "ok"
    (record,) = store.do(op.ListResources(sid))
    assert record.location == DISK
    store.do(op.EndSession(sid, "logout"))
    (entry,) = store.do(op.Lease(P, DISK, "lease", 1000)).entries
    assert [leased.resource_id for leased in entry[1]] == [rid]


@pytest.mark.parametrize("over", ["ended", "due", "lost"])
def test_the_records_of_a_session_that_is_over_are_the_workers_alone(store: Subject, over: str) -> None:
    sid = store.create()
    rids = {store.file(sid), store.register(sid)}
    assert {one.resource_id for one in store.do(op.LiveResources(sid))} == rids
    if over == "ended":
        store.end(sid)
    elif over == "due":
        store.advance(IDLE)
    else:
        store.lose_session(sid)
    assert store.do(op.LiveResources(sid)) == ()
    assert {one.resource_id for one in store.do(op.ListResources(sid))} == rids


def test_a_share_of_the_former_user_is_none(store: Subject) -> None:
    """A log-in while an upload begins: the file would be the new user's, and count in nobody's quota."""
    ana, nobody = store.create(user="ana", flags=FLAG_USER_BOOK), store.create()

    def register(sid: str, user: str) -> str:
        return store.do(op.Register(sid, new_resource_id(), "f", DISK, 1, quota=True, user=user)).status

    assert [register(ana, "ana"), register(ana, ""), register(ana, "bob"), register(ana, "an")] == [
        "ok", "ok", "lapsed", "lapsed",
    ]  # fmt: skip
    assert [register(nobody, ""), register(nobody, "ana")] == ["ok", "lapsed"]
    store.do(op.RotateSession(ana, (), NEW_MAC, user="bob", flags=FLAG_USER_BOOK))
    assert [register(ana, "ana"), register(ana, "bob")] == ["lapsed", "ok"]


def test_what_comes_after_its_share_has_lapsed_is_not_registered(store: Subject) -> None:
    sid, rid = store.create(user="ana"), new_resource_id()

    def register(not_after: int) -> str:
        return store.do(op.Register(sid, rid, "f", DISK, 1, quota=True, not_after=not_after)).status

    before = store.record(sid)
    assert register(T0 - 1) == "lapsed"
    assert store.record(sid) == before
    assert store.do(op.ListResources(sid)) == ()
    assert register(T0) == "ok"
    store.advance(1)
    assert register(T0) == "ok", "it was, already: only the answer was lost"
