"""The in-memory store shared by threads that race: every count is exact, nothing comes back, nobody waits for ever."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from driving import DISK, GRACE, IDLE, MAC, NEW_MAC, T0, WIDTH, MemorySubject, P, create_op

from sessionsweep.model.books import imbalance
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.states import EndReason, Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.memory import MemoryStore
from support.books import members

THREADS = 8


@pytest.fixture(autouse=True)
def _often_switched() -> Iterator[None]:
    """Threads change places after almost every bytecode, so that a race of one line is met within a test."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def race(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Runs `work(number)` in threads that start together; fails if one raises or doesn't come back."""
    start = threading.Barrier(threads)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive(), "a thread waits for ever"
    assert not errors, errors


def counters(store: MemoryStore) -> dict[str, int]:
    books = dict(store.execute(op.Counters(P)))
    assert imbalance(books) == 0
    return books


def test_every_open_counts() -> None:
    store = MemoryStore()
    sid = new_session_id(P)
    store.execute(create_op(sid))
    race(lambda _: [store.execute(op.OpenSession(sid, (MAC,))) for _ in range(2000)] and None)
    record = store.execute(op.PeekSession(sid)).record
    assert record is not None
    assert record.request_count == 1 + THREADS * 2000


def test_activity_never_moves_backwards_under_a_race() -> None:
    ticks = iter(range(T0, T0 + 10**9))
    store = MemoryStore(clock=lambda: next(ticks))
    sid = new_session_id(P)
    store.execute(create_op(sid, idle=10**9, max=0))

    def work(_: int) -> None:
        last = 0
        for _ in range(1000):
            opened = store.execute(op.OpenSession(sid, (MAC,)))
            assert opened.record is not None
            assert opened.record.last_activity >= last
            assert opened.record.last_activity == opened.now
            last = opened.record.last_activity

    race(work)


def test_one_of_many_ends_wins_and_nothing_opens_afterwards() -> None:
    store = MemoryStore()
    for _ in range(60):
        sid = new_session_id(P)
        store.execute(create_op(sid))
        won: list[op.Ended] = []
        ended = threading.Event()

        def work(number: int, sid: str = sid, won: list[op.Ended] = won, ended: threading.Event = ended) -> None:
            if number % 2:
                reply = store.execute(op.EndSession(sid, EndReason.LOGOUT))
                ended.set()
                if reply.done:
                    won.append(reply)
                return
            for _ in range(20):
                over = ended.is_set()
                opened = store.execute(op.OpenSession(sid, (MAC,)))
                assert not (over and opened.status is op.OpenStatus.OK)

        race(work)
        assert len(won) == 1
    books = counters(store)
    assert books["created"] == books["ended"] == 60


def test_a_touch_that_was_answered_is_never_swept_away() -> None:
    """Sweeps race opens right around the idle end: whoever was told OK isn't ended for being idle before that touch."""
    subject = MemorySubject()
    store = subject.store
    rounds = 150
    for _ in range(rounds):
        sids = [new_session_id(P) for _ in range(20)]
        for sid in sids:
            store.execute(create_op(sid, max=0))
        subject.advance(IDLE - 1)
        told: list[str] = []

        def work(number: int, sids: list[str] = sids, told: list[str] = told) -> None:
            if number == 0:
                subject.advance(WIDTH + 1)
                while store.execute(op.SweepStep(P, WIDTH, GRACE, 0)).more:
                    pass
                return
            order = random.sample(sids, len(sids))
            told += [sid for sid in order if store.execute(op.OpenSession(sid, (MAC,))).status is op.OpenStatus.OK]

        race(work, 3)
        for sid in set(told):
            record = store.execute(op.PeekSession(sid)).record
            assert record is not None, "told OK, then ended as idle without having been idle"
        for sid in sids:
            store.execute(op.EndSession(sid, EndReason.ADMIN))


def test_limits_are_exact_and_the_books_balance() -> None:
    store = MemoryStore()
    sids = [new_session_id(P) for _ in range(4)]
    for sid in sids:
        store.execute(create_op(sid))

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(300):
            sid, rid = dice.choice(sids), new_resource_id()
            limits = {"max_resources": 10, "max_bytes": 500}
            reply = store.execute(op.Register(sid, rid, "f", DISK, dice.randint(0, 100), **limits))
            if reply.status == "ok" and dice.random() < 0.8:
                store.execute(op.Commit(sid, rid, 0))
            elif reply.status == "ok":
                store.execute(op.Release(sid, rid))
            record = store.execute(op.PeekSession(sid)).record
            assert record is not None
            assert record.resource_count <= 10
            assert record.bytes_used <= 500

    race(work)
    for sid in sids:
        record = store.execute(op.PeekSession(sid)).record
        held = [one for one in store.execute(op.ListResources(sid)) if one.state in ("i", "l")]
        assert record is not None
        assert (record.resource_count, record.bytes_used) == (len(held), sum(one.size for one in held))
    active = sum(one.state in ("i", "l") for sid in sids for one in store.execute(op.ListResources(sid)))
    assert counters(store)["active"] == active


def test_each_debt_is_leased_by_one_worker_and_settled_once() -> None:
    store = MemoryStore()
    sids = []
    for _ in range(200):
        sids.append(new_session_id(P))
        store.execute(create_op(sids[-1]))
        for _ in range(3):
            store.execute(op.Register(sids[-1], new_resource_id(), "f", DISK, 10, live=True))
        store.execute(op.EndSession(sids[-1], EndReason.LOGOUT))
    handed: Counter[str] = Counter()
    counted = Counter[int]()

    def work(number: int) -> None:
        for turn in range(10_000):
            entries = store.execute(op.Lease(P, DISK, f"{number}-{turn}", 60_000, 20)).entries
            if not entries:
                return
            for sid, found in entries:
                attempts = tuple(op.Attempt(one.resource_id, Outcome.DELETED) for one in found)
                handed.update(one.resource_id for one in found)
                counted[number] += store.execute(op.Settle(sid, DISK, attempts)).counted

    race(work)
    # a batch that ends within a session shares it with the next; what is leased is settled before that can happen twice
    assert sum(counted.values()) == 600
    assert len(handed) == 600
    books = counters(store)
    assert (books["deleted"], books["b_deleted"], books["owed"]) == (600, 6000, 0)


def test_no_debt_is_lost_while_sessions_end_and_workers_reclaim() -> None:
    store = MemoryStore()
    makers, each = 4, 150
    made = threading.Semaphore(0)
    deadline = time.monotonic() + 60

    def work(number: int) -> None:
        if number < makers:
            for _ in range(each):
                sid = new_session_id(P)
                store.execute(create_op(sid))
                for _ in range(2):
                    store.execute(op.Register(sid, new_resource_id(), "f", DISK, 1, live=True))
                store.execute(op.EndSession(sid, EndReason.LOGOUT))
            made.release()
            return
        for turn in itertools.count():
            entries = store.execute(op.Lease(P, DISK, f"{number}-{turn}", 3_600_000, 7)).entries
            for sid, found in entries:
                attempts = tuple(op.Attempt(one.resource_id, Outcome.DELETED) for one in found)
                store.execute(op.Settle(sid, DISK, attempts))
            if not entries and counters(store).get("deleted", 0) == 2 * makers * each:
                return
            assert time.monotonic() < deadline, counters(store)

    race(work)
    assert store.execute(op.Queues(P)) == (op.QueueDepth(DISK, 0, 0),)


def test_a_rotation_is_never_undone_by_an_open_that_notes_its_client() -> None:
    store = MemoryStore()
    sid = new_session_id(P)
    store.execute(create_op(sid))
    secrets = [bytes([number]) * 16 for number in range(250)]
    done = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            for secret in secrets:
                assert store.execute(op.RotateSession(sid, (), secret)).status is op.OpenStatus.OK
                for _ in range(5):
                    record = store.execute(op.PeekSession(sid)).record
                    assert record is not None
                    assert record.mac == secret, "an old secret opens again"
            done.set()
            return
        macs = (MAC, *secrets)
        for turn in itertools.count():
            if done.is_set():
                return
            store.execute(op.OpenSession(sid, macs, family=4, fingerprint=bytes([number, turn % 256, 1])))

    race(work, 4)


def test_data_saved_by_many_is_all_there() -> None:
    store = MemoryStore()
    sid = new_session_id(P)
    store.execute(create_op(sid))

    def work(number: int) -> None:
        for turn in range(100):
            store.execute(op.SaveData(sid, {f"{number}-{turn}": b"x"}))

    race(work)
    record = store.execute(op.PeekSession(sid)).record
    assert record is not None
    assert len(record.data) == 100 * THREADS


def test_a_quota_is_exact() -> None:
    store = MemoryStore()
    sid = new_session_id(P)
    got: list[str] = []  # appending is one step; adding to a counter isn't

    def work(_: int) -> None:
        reserve = (op.ReserveQuota("ana", sid, new_resource_id(), 1, max_bytes=500) for _ in range(200))
        got.extend(store.execute(one).status for one in reserve)

    race(work)
    assert got.count("ok") == 500


def test_never_more_places_than_the_limit() -> None:
    store = MemoryStore()
    got: list[bool] = []  # appending is one step; adding to a counter isn't

    def work(_: int) -> None:
        got.extend(store.execute(op.Reserve("ana", new_session_id(P), 25)).ok for _ in range(100))

    race(work)
    assert got.count(True) == 25
    assert len(members(store.execute, "ana")) == 25


def test_an_alias_makes_one_session_whoever_asks() -> None:
    store = MemoryStore()
    for number in range(100):
        made: list[str] = []

        def work(_: int, alias: str = f"{number:032}", made: list[str] = made) -> None:
            record = store.execute(create_op(alias=alias)).record
            assert record is not None
            made.append(record.session_id)

        race(work, 4)
        assert len(set(made)) == 1
    assert counters(store)["created"] == 100


def test_partitions_race_without_waiting_for_each_other_for_ever() -> None:
    """Creating with an alias takes two stripes one after the other; two partitions at it must not lock each other."""
    store = MemoryStore()

    def work(number: int) -> None:
        partition = f"{number % 4:02x}"
        for turn in range(300):
            sid = new_session_id(partition)
            made = store.execute(create_op(sid, alias=f"{turn % 3:032}")).record
            assert made is not None
            if turn % 5 == 0:
                store.execute(op.RotateSession(made.session_id, (), NEW_MAC))
                store.execute(op.EndSession(made.session_id, EndReason.USER))

    race(work)
    for number in range(4):
        books = store.execute(op.Counters(f"{number:02x}"))
        live = len([sid for sid in store._state.sessions if sid.startswith(f"{number:02x}")])
        assert books["created"] - books.get("ended", 0) == live


def test_nudges_wake_those_who_listen() -> None:
    store = MemoryStore()
    sid = new_session_id(P)
    store.execute(create_op(sid))
    heard = store.nudges([DISK], poll=30.0)
    store.execute(op.Register(sid, new_resource_id(), "f", DISK, 1, live=True))
    waiting = threading.Thread(target=lambda: store.execute(op.EndSession(sid, EndReason.LOGOUT)), daemon=True)
    waiting.start()
    assert next(heard) == DISK
    waiting.join(10)
    assert next(store.nudges([DISK], poll=0.01)) == ""
    closing = threading.Thread(target=store.close, daemon=True)
    closing.start()
    assert list(heard) == []
    closing.join(10)
