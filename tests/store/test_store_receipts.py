"""Conformance: what a receipt says of each location, and how all receipts are found."""

from __future__ import annotations

from driving import DISK, OTHER_DISK, T0, P, RedisSubject, Subject

from sessionsweep.model.receipts import ReceiptPlace
from sessionsweep.model.session import Tombstone
from sessionsweep.store import operations as op


def every(store: Subject, count: int = 500) -> dict[str, Tombstone]:
    """All tombstones and receipts of the partition."""
    found: dict[str, Tombstone] = {}
    cursor = 0
    while True:
        cursor, slice_ = store.do(op.Receipts(P, cursor, count))
        found |= {one.session_id: one for one in slice_}
        if cursor == 0:
            return found


def test_a_receipt_says_where_what_became_of_everything(store: Subject) -> None:
    sid = store.create(user="ana")
    one, two, three, four = (store.file(sid, size=size) for size in (100, 20, 3, 7))
    away, given_up = store.file(sid, size=1000, location=OTHER_DISK), store.file(sid, size=5)
    store.do(op.Release(sid, given_up))
    store.settle(sid, given_up, "failed", error="before the end")  # the session lives: it has no receipt yet
    store.advance(1000)
    store.end(sid)
    stone = store.tombstone(sid)
    assert (stone.owned, stone.bytes_owned, stone.owed, stone.places) == (6, 1130, 6, ())
    store.settle(sid, one, "deleted")
    store.settle(sid, two, "gone")
    store.advance(500)
    store.settle(sid, three, "promoted")
    store.advance(500)
    store.settle(sid, four, "busy")
    store.settle(sid, four, "failed", tries=2, error="EACCES: a")
    store.settle(sid, four, "failed", tries=2, error="EIO: 1 2 3")
    store.settle(sid, away, "deleted", OTHER_DISK)
    stone = store.tombstone(sid)
    here = ReceiptPlace(DISK, 1, 100, 1, 1, 0, T0 + 1500, 2, T0 + 2000, 1, "EIO: 1 2 3")
    there = ReceiptPlace(OTHER_DISK, 1, 1000, last=T0 + 2000)
    assert stone.places == (here, there)
    assert (stone.deleted, stone.bytes_deleted, stone.owed) == (2, 1100, 2)
    assert every(store) == {sid: stone}
    store.do(op.RetryDead(sid, four))
    assert store.tombstone(sid).places[0].dead_letters == 0
    store.settle(sid, four, "failed", tries=1, error="EIO")
    store.do(op.DropDead(sid, four))
    store.settle(sid, given_up, "deleted")
    store.settle(sid, given_up, "deleted")  # told again, it counts once
    stone = store.tombstone(sid)
    assert stone.places[0] == ReceiptPlace(DISK, 2, 105, 1, 1, 1, T0 + 2000, 3, T0 + 2000, 0, "EIO")
    assert stone.owed == 0
    gone = sum(place.deleted + place.gone + place.promoted + place.forgotten for place in stone.places)
    assert gone == stone.owned  # what it had is all accounted for


def test_all_receipts_are_found_in_slices(store: Subject) -> None:
    ids = []
    for n in range(25):
        sid = store.create()
        store.file(sid)
        if n % 5:
            store.end(sid)
            ids.append(sid)
    store.end(store.create())  # it owned nothing: it has none
    assert set(every(store, count=7)) == set(ids)


def test_damaged_receipts_hide_no_other(redis_url: str, namespace: str) -> None:
    store = RedisSubject(redis_url, namespace)
    try:
        ids = []
        for _ in range(6):
            sid = store.create()
            store.file(sid)
            store.end(sid)
            ids.append(sid)
        keys = [store.keys.tombstone(sid) for sid in ids]
        store.client.hset(keys[0], "ended", "soon")
        store.client.delete(keys[1])
        store.client.set(keys[1], "x")
        store.client.hset(keys[2], DISK, "1 2 three")
        store.client.hset(keys[3], "v.../../etc", "1 2 3 4 5 6 7 8 9 ")
        store.client.delete(store.keys.resources(ids[4]))
        store.client.set(store.keys.resources(ids[4]), "x")
        store.client.hset(store.keys.tombstone("no-session-at-all"), "reason", "x")
        found = every(store)
        assert set(found) == {ids[2], ids[3], ids[5]}
        assert found[ids[2]].places == found[ids[3]].places == ()
        (rid,) = (one.resource_id for one in store.do(op.ListResources(ids[2])))
        store.settle(ids[2], rid, "deleted")
        assert store.tombstone(ids[2]).places[0].deleted == 1  # it begins anew
    finally:
        store.close()


def test_what_an_earlier_release_wrote_is_read_and_added_to(redis_url: str, namespace: str) -> None:
    store = RedisSubject(redis_url, namespace)
    try:
        sid = store.create()
        rid = store.file(sid, size=7)
        store.end(sid)
        key = store.keys.tombstone(sid)
        store.client.hdel(key, "owned", "b_owned")
        store.client.hset(key, mapping={"deleted": 3, "bytes": 30})  # as 0.1 counted
        store.settle(sid, rid, "deleted")
        stone = store.tombstone(sid)
        assert (stone.owned, stone.deleted, stone.bytes_deleted) == (None, 4, 37)
    finally:
        store.close()
