"""Conformance: anti-entropy after lost writes, naming all sessions, first sightings of orphans."""

from __future__ import annotations

from driving import DISK, GRACE, IDLE, OTHER_DISK, PROCESS, T0, WIDTH, P, Subject

from sessionsweep.model.ids import new_session_id
from sessionsweep.model.states import ResourceState
from sessionsweep.store import operations as op


def mend(store: Subject, session_id: str, retention: int = 86_400_000) -> str:
    return store.do(op.Mend(session_id, WIDTH, GRACE, retention)).what


def test_what_is_whole_is_left_alone(store: Subject) -> None:
    live, over, nothing = store.create(), store.create(), store.create()
    store.file(live)
    store.file(over)
    store.end(over)
    store.end(nothing)
    books, wheel = store.books(), store.wheel()
    assert [mend(store, sid) for sid in (live, over, nothing, new_session_id(P))] == ["", "", "", ""]
    assert (store.books(), store.wheel()) == (books, wheel)


def test_a_live_session_in_no_slot_is_filed_again(store: Subject) -> None:
    sid = store.create()
    store.lose_slot(store.record(sid).filed)
    store.advance(5000)
    store.open(sid)
    assert mend(store, sid) == "refiled"
    assert store.record(sid).filed == T0 + IDLE + WIDTH
    assert mend(store, sid) == ""
    assert store.wheel() == [sid]


def test_a_due_session_in_no_slot_is_filed_to_be_swept_next(store: Subject) -> None:
    sid = store.create()
    store.lose_slot(store.record(sid).filed)
    store.advance(IDLE + 1)
    assert mend(store, sid) == "refiled"
    store.advance(WIDTH)
    assert store.sweep().idle == 1


def test_records_without_a_session_are_buried_and_reclaimed_after_a_grace(store: Subject) -> None:
    sid = store.create()
    file, intent = store.file(sid, size=100), store.register(sid, size=50)
    stream = store.register(sid, kind="s", location=PROCESS, live=True)
    owed = store.file(sid, size=7)
    store.do(op.Release(sid, owed))
    store.lose_session(sid)
    assert mend(store, sid) == "buried"
    assert mend(store, sid) == ""
    stone = store.tombstone(sid)
    assert (stone.reason, stone.ended, stone.owed) == ("lost", T0, 4)
    books = store.books()
    assert (books["owed"], books["b_owed"], books.get("active", 0), books["ended:lost"]) == (4, 157, 0, 1)
    assert store.leased() == {sid: {owed}}
    store.settle(sid, owed, "deleted")
    store.advance(GRACE)
    assert store.leased(PROCESS) == {sid: {stream}}
    found = set(store.leased(lease_id="lease-2")[sid])
    if intent not in found:  # it waits until it is overdue
        store.advance(900_000)
        found |= store.leased(lease_id="lease-3")[sid]
    assert found == {file, intent}


def test_a_lost_queue_entry_is_made_again(store: Subject) -> None:
    sid = store.create()
    here, there = store.file(sid), store.file(sid, location=OTHER_DISK)
    store.end(sid)
    store.lose_queue(DISK)
    assert store.leased() == {}
    assert mend(store, sid) == "requeued"
    assert mend(store, sid) == ""
    assert store.leased() == {sid: {here}}
    assert store.leased(OTHER_DISK) == {sid: {there}}


def test_a_lost_queue_entry_comes_back_with_its_grace(store: Subject) -> None:
    sid = store.create()
    store.file(sid)
    store.advance(IDLE)
    store.end(sid, "", only_due=True, grace=GRACE)
    store.lose_queue(DISK)
    mend(store, sid)
    assert store.leased() == {}
    assert store.lease().next_due == T0 + IDLE + GRACE


def test_a_tombstone_that_owes_nothing_becomes_a_receipt(store: Subject) -> None:
    sid = store.create()
    store.file(sid)
    store.end(sid)
    store.lose_records(sid)
    assert mend(store, sid, retention=150) == "closed"
    assert mend(store, sid, retention=150) == ""
    assert store.until_lapsed(150, lambda: store.tombstone(sid) is None)


def test_all_sessions_that_anything_names_are_scanned(store: Subject) -> None:
    live, owing, lost, closed = (store.create() for _ in range(4))
    for sid in (owing, lost, closed):
        store.file(sid)
    store.end(owing)
    store.end(closed)
    for one in store.do(op.ListResources(closed)):
        store.settle(closed, one.resource_id, "deleted")
    store.lose_session(lost)
    store.create(new_session_id("08"))
    assert set(store.scan()) == {live, owing, lost, closed}


def test_a_scan_in_small_slices_misses_nothing_that_stays(store: Subject) -> None:
    stays = {store.create() for _ in range(40)}
    goes = [store.create() for _ in range(10)]
    cursor, page = store.do(op.ScanSessions(P, 0, 5))
    seen = set(page)
    while cursor:
        if goes:
            store.end(goes.pop())
            store.create()
        cursor, page = store.do(op.ScanSessions(P, cursor, 5))
        seen |= set(page)
    assert stays <= seen


def sight(store: Subject, *names: str, **fields: object) -> tuple[bool, ...]:
    given = {"age": 1000, "cap": 3, "ttl": 3_600_000, **fields}
    return store.do(op.Sight(P, "volume0000000000", given.pop("run", "run-1"), names, **given))  # type: ignore[arg-type]


def test_only_a_second_sighting_long_enough_after_the_first_counts(store: Subject) -> None:
    assert sight(store, "a", "b") == (False, False)
    store.advance(999)
    assert sight(store, "a") == (False,)
    store.advance(1)
    assert sight(store, "a", "c", "b") == (True, False, True)


def test_a_first_sighting_never_counts_however_small_the_age(store: Subject) -> None:
    assert sight(store, "a", age=0) == (False,)
    assert sight(store, "a", age=0) == (True,)


def test_sightings_are_their_server_run_s_own(store: Subject) -> None:
    sight(store, "a")
    store.advance(1000)
    assert sight(store, "a", run="run-2") == (False,)
    assert sight(store, "a") == (True,)


def test_forgotten_names_are_new_again(store: Subject) -> None:
    sight(store, "a", "b")
    store.advance(1000)
    assert sight(store, "a", "b", forget=("a",)) == (False, True)


def test_at_most_one_more_than_the_cap_is_kept(store: Subject) -> None:
    sight(store, "a", "b", "c", "d", "e")
    store.advance(1000)
    assert sight(store, "a", "b", "c", "d", "e") == (True, True, True, True, False)


def test_sightings_are_forgotten_after_their_time(store: Subject) -> None:
    sight(store, "a", ttl=150)
    store.do(op.TakeLease("as long", "one", 300))
    assert store.until_lapsed(300, lambda: store.do(op.TakeLease("as long", "two", 300)))
    assert sight(store, "a", age=0) == (False,)


def test_each_sighting_is_forgotten_after_its_own_time_though_others_come(store: Subject) -> None:
    """What was seen once, weeks ago, and now again was not "seen twice" by passes that follow each other."""
    sight(store, "a", ttl=90_000)
    for _ in range(3):
        store.advance(40_000)
        sight(store, "b", ttl=90_000)
    assert sight(store, "a", "b", ttl=90_000) == (False, True)


def test_a_buried_intent_is_owed(store: Subject) -> None:
    sid = store.create()
    intent = store.register(sid, intent_timeout=1)
    store.lose_session(sid)
    mend(store, sid)
    assert store.resource(sid, intent).state is ResourceState.OWED
