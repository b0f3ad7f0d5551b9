"""Conformance: books of places (a user's sessions, all sessions) and users' quotas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driving import T0, P, Subject

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.store import operations as op
from support.books import members

MINUTE = 60_000


@pytest.fixture(params=["ana", None], ids=["user", "all"])
def user(request: pytest.FixtureRequest) -> str | None:
    """Whose book: a user's, or that of all sessions."""
    chosen: str | None = request.param
    return chosen


def test_places_are_reserved_up_to_the_limit(store: Subject, user: str | None) -> None:
    first, second, third = (new_session_id(P) for _ in range(3))
    assert store.do(op.Reserve(user, first, 2)) == op.Reserved(True, T0 + MINUTE, 1)
    assert store.do(op.Reserve(user, second, 2)) == op.Reserved(True, T0 + MINUTE, 2)
    assert store.do(op.Reserve(user, third, 2)) == op.Reserved(False, T0 + MINUTE, 2)
    assert set(members(store.do, user)) == {first, second}


def test_reserving_again_is_success_even_at_the_limit(store: Subject, user: str | None) -> None:
    sid = new_session_id(P)
    store.do(op.Reserve(user, sid, 1))
    store.advance(1000)
    assert store.do(op.Reserve(user, sid, 1)) == op.Reserved(True, T0 + 1000 + MINUTE, 1)
    store.do(op.Confirm(user, sid))
    assert store.do(op.Reserve(user, sid, 1)).ok
    assert members(store.do, user) == (sid,)


def test_a_lapsed_reservation_still_counts_but_is_told_first(store: Subject, user: str | None) -> None:
    old, lapsed, fresh, asking = (new_session_id(P) for _ in range(4))
    store.do(op.Confirm(user, old))
    store.do(op.Reserve(user, lapsed, 3))
    store.advance(MINUTE)
    store.do(op.Reserve(user, fresh, 3))
    refused = store.do(op.Reserve(user, asking, 3))
    assert refused == op.Reserved(False, store.now + MINUTE, 3, (lapsed, old))
    assert store.do(op.Reserve(user, asking, 3, suspects=1)).suspects == (lapsed,)
    assert set(members(store.do, user)) == {old, lapsed, fresh}


def test_confirmed_places_last_in_the_order_in_which_they_were_confirmed(store: Subject, user: str | None) -> None:
    sids = []
    for _ in range(3):
        sids.append(new_session_id(P))
        store.do(op.Reserve(user, sids[-1], 3))
        assert store.do(op.Confirm(user, sids[-1])) is True
        store.advance(10)
    store.advance(10 * MINUTE)
    assert store.do(op.Confirm(user, sids[0])) is True
    assert members(store.do, user) == tuple(sids)
    assert store.do(op.Reserve(user, new_session_id(P), 3)).suspects == tuple(sids)


def test_of_several_bindings_the_latest_counts(store: Subject, user: str | None) -> None:
    sid = new_session_id(P)
    store.do(op.Confirm(user, sid, T0 + 5))
    store.do(op.Confirm(user, sid, T0 + 4))
    store.do(op.Confirm(user, sid))
    store.do(op.Reserve(user, sid, 1, bound=T0 + 3))
    assert store.do(op.GiveBack(user, sid, before=T0 + 4)) is False
    store.do(op.Reserve(user, sid, 1, bound=T0 + 6))
    assert store.do(op.GiveBack(user, sid, before=T0 + 5)) is False
    store.do(op.Confirm(user, sid, T0 + 8))
    assert store.do(op.GiveBack(user, sid, before=T0 + 7)) is False
    assert store.do(op.GiveBack(user, sid, before=T0 + 8)) is True


def test_without_a_limit_a_place_is_reserved_in_any_case(store: Subject, user: str | None) -> None:
    assert all(store.do(op.Reserve(user, new_session_id(P), 0)).ok for _ in range(3))


def test_a_place_can_be_confirmed_without_a_reservation(store: Subject, user: str | None) -> None:
    sid = new_session_id(P)
    assert store.do(op.Confirm(user, sid)) is True
    assert members(store.do, user) == (sid,)


def test_a_place_is_given_back_once(store: Subject, user: str | None) -> None:
    sid = new_session_id(P)
    store.do(op.Reserve(user, sid, 1))
    assert store.do(op.GiveBack(user, sid)) is True
    assert store.do(op.GiveBack(user, sid)) is False
    assert members(store.do, user) == ()
    assert store.do(op.Reserve(user, new_session_id(P), 1)).ok


def test_a_place_that_was_seen_to_be_nobodys_is_given_back_if_it_was_taken_before(
    store: Subject, user: str | None
) -> None:
    sid = new_session_id(P)

    def seen(at: int) -> bool:
        return store.do(op.GiveBack(user, sid, before=at))

    assert seen(T0) is False
    store.do(op.Reserve(user, sid, 1))
    assert seen(T0 + MINUTE - 1) is False, "it may still be bound"
    store.do(op.Reserve(user, sid, 1, duration=MINUTE + 1))
    assert seen(T0 + MINUTE) is False, "it was reserved again"
    assert seen(T0 + MINUTE + 1) is True
    store.do(op.Confirm(user, sid))
    assert seen(T0 - 1) is False, "it was bound since"
    assert seen(T0) is True
    assert members(store.do, user) == ()


def test_books_are_apart(store: Subject) -> None:
    sid = new_session_id(P)
    store.do(op.Confirm("ana", sid))
    assert (members(store.do, "bob"), members(store.do, None)) == ((), ())


def quota(store: Subject, sid: str, rid: str, size: int, **limits: int) -> str:
    return store.do(op.ReserveQuota("ana", sid, rid, size, **limits)).status


def test_a_quota_bounds_count_and_bytes_over_all_sessions(store: Subject) -> None:
    first, second = new_session_id(P), new_session_id("08")
    assert quota(store, first, "r1", 60, max_resources=2, max_bytes=100) == "ok"
    assert quota(store, second, "r2", 41, max_resources=2, max_bytes=100) == "limit:bytes"
    assert quota(store, second, "r2", 40, max_resources=2, max_bytes=100) == "ok"
    assert quota(store, second, "r3", 0, max_resources=2, max_bytes=100) == "limit:resources"
    assert quota(store, second, "r3", 10**12) == "ok"


def test_a_share_said_again_sets_its_size(store: Subject) -> None:
    sid = new_session_id(P)
    for _ in range(2):
        assert quota(store, sid, "r1", 60, max_resources=1, max_bytes=100) == "ok"
    assert quota(store, sid, "r1", 101, max_bytes=100) == "limit:bytes"
    assert quota(store, sid, "r1", 10, max_bytes=5) == "ok"  # less is always welcome
    assert quota(store, sid, "r2", 90, max_bytes=100) == "ok"
    assert quota(store, sid, "r3", 1, max_bytes=100) == "limit:bytes"


def test_a_share_may_lack_its_resource_for_a_minute(store: Subject) -> None:
    sids = sorted(new_session_id(P) for _ in range(2))

    def reserve(rid: str, size: int = 1, **options: Any) -> op.Share:
        return store.do(op.ReserveQuota("ana", sids[0], rid, size, 2, 100, **options))

    assert reserve("r1") == op.Share("ok", T0 + MINUTE)
    store.advance(10)
    assert store.do(op.ReserveQuota("ana", sids[1], "r2", 1, 2, 100)) == op.Share("ok", T0 + 10 + MINUTE)
    assert reserve("r1", 50) == op.Share("ok", T0 + MINUTE), "another size leaves the deadline"
    store.advance(MINUTE - 11)
    assert reserve("r3") == op.Share("limit:resources")
    store.advance(1)
    assert reserve("r3") == op.Share("limit:resources", 0, (f"{sids[0]} r1",))
    store.advance(10)
    assert reserve("r1", 100) == op.Share("limit:bytes", 0, (f"{sids[0]} r1", f"{sids[1]} r2"))
    assert reserve("r1", 99, present=True) == op.Share("ok", T0 + MINUTE)
    assert store.do(op.GiveBack("ana", sids[0], "r1")) is True
    assert reserve("r1", present=True) == op.Share("gone")
    assert reserve("r3", 99).status == "ok", "what is gone takes no room"


def test_of_very_many_shares_each_comes_under_suspicion_in_time(store: Subject) -> None:
    sid = new_session_id(P)
    store.many([op.ReserveQuota("ana", sid, f"r{number}", 0, duration=1) for number in range(600)])
    store.advance(1)
    seen: set[str] = set()
    for _ in range(200):
        told = store.do(op.ReserveQuota("ana", sid, "more", 0, 600)).suspects
        assert 400 < len(set(told)) <= 500
        seen |= set(told)
        if len(seen) == 600:
            return
    raise AssertionError(f"{600 - len(seen)} were never told")


def test_shares_are_given_back_one_by_one_or_all_of_a_session(store: Subject) -> None:
    sid, other = new_session_id(P), new_session_id(P)
    for rid in ("r1", "r2", "r3"):
        quota(store, sid, rid, 10)
    quota(store, other, "r1", 10)
    assert store.do(op.GiveBack("ana", sid, "r1")) is True
    assert store.do(op.GiveBack("ana", sid, "r1")) is False
    assert quota(store, sid, "r4", 71, max_bytes=100) == "limit:bytes"
    assert quota(store, sid, "r4", 70, max_bytes=100) == "ok"
    assert store.do(op.GiveBack("ana", sid, "*")) is True
    assert store.do(op.GiveBack("ana", sid, "*")) is False
    assert quota(store, sid, "r5", 91, max_bytes=100) == "limit:bytes"
    assert store.do(op.GiveBack("ana", other, "*")) is True
    assert quota(store, sid, "r5", 100, max_bytes=100) == "ok"


def test_giving_back_a_share_leaves_the_place(store: Subject) -> None:
    sid, rid = new_session_id(P), new_resource_id()
    store.do(op.Confirm("ana", sid))
    quota(store, sid, rid, 1)
    store.do(op.GiveBack("ana", sid, rid))
    assert members(store.do, "ana") == (sid,)
    quota(store, sid, rid, 1)
    store.do(op.GiveBack("ana", sid))
    assert store.do(op.GiveBack("ana", sid, rid)) is True


def walk(store: Subject, user: str | None, between: Callable[[], object], limit: int = 2) -> list[str]:
    """All places page by page; `between`: what happens between two pages."""
    seen: list[str] = []
    since, after = 0, ""
    while page := store.do(op.BookPage(user, since, after, limit)):
        seen += [place.session_id for place in page]
        since, after = page[-1].at, page[-1].session_id
        between()
    return seen


@pytest.mark.parametrize("step", [0, 1], ids=["at one time", "one after the other"])
def test_a_book_is_walked_oldest_first_whoever_leaves_it_meanwhile(store: Subject, user: str | None, step: int) -> None:
    sids = sorted(new_session_id(P) for _ in range(9))
    for number, sid in enumerate(sids):
        store.do(op.Confirm(user, sid, T0 + step * number))
    assert walk(store, user, lambda: None) == list(members(store.do, user)) == sids
    leaving = iter(sids[:3])
    seen = walk(store, user, lambda: [store.do(op.GiveBack(user, sid)) for sid in [next(leaving, "")] if sid])
    assert seen == sids, "who left had been seen"
    store.do(op.Reserve(user, sids[0], 99))
    assert walk(store, user, lambda: None, 99) == [sids[0], *sids[3:]], "a reservation comes first"
