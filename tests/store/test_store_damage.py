"""What somebody wrote past the library stops only itself: its neighbours in the same batch go on, and it is told of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from driving import DISK, IDLE, P, RedisSubject

from sessionsweep.errors import RecordUnreadableError, StoreError
from sessionsweep.model.ids import new_session_id
from sessionsweep.model.session import FLAG_USER_BOOK
from sessionsweep.model.states import Outcome, ResourceState
from sessionsweep.store import operations as op
from sessionsweep.store.redis import scripts

BYTES_AND_NO_ID = b"\xff\xfe no id"


@pytest.fixture
def store(redis_url: str, namespace: str) -> Iterator[RedisSubject]:
    """Only Redis: nobody writes into another process's memory."""
    subject = RedisSubject(redis_url, namespace)
    yield subject
    subject.close()


def damage(store: RedisSubject, key: str, how: str) -> None:
    """Puts something else where a record stood."""
    store.client.delete(key)
    if how == "another type":
        store.client.rpush(key, "x")
    else:
        store.client.set(key, {"short": b"\x01short", "empty tail": b"\x01" + b"\0" * 73}[how])


@pytest.mark.parametrize("how", ["short", "another type", "empty tail"])
def test_a_session_that_cannot_be_read_keeps_none_of_its_slot_from_their_end(store: RedisSubject, how: str) -> None:
    before, broken, after = store.create(), store.create(), store.create()
    file = store.file(after)
    slot = store.client.zrange(store.keys.wheel(P), 0, 0)[0].decode()
    store.client.lpush(f"{store.keys.wheel(P)}:{slot}", BYTES_AND_NO_ID)
    damage(store, store.keys.session(broken), how)
    store.advance(IDLE * 2)
    swept = store.sweep()
    assert swept.idle >= 2
    assert not swept.more, "the wheel is done with: nobody waits behind what can't be read"
    assert {store.do(op.PeekSession(sid)).record for sid in (before, after)} == {None}
    assert store.client.exists(store.keys.session(broken)) == 1, "what can't be read is not destroyed"
    assert store.leased()[after] == {file}
    assert store.do(op.ListWheel(P, 0, 0, 10)) == ((), 0, 0)


@pytest.mark.parametrize("how", ["sweep", "end"])
def test_a_session_whose_tail_is_cut_off_is_not_ended_half(store: RedisSubject, how: str) -> None:
    broken, other = store.create(user="ana"), store.create()
    file = store.file(broken)
    key = store.keys.session(broken)
    store.client.set(key, (store.client.get(key) or b"")[:74])
    store.advance(IDLE * 2)
    if how == "sweep":
        assert store.sweep().idle == 1
    else:
        with pytest.raises(RecordUnreadableError, match="cut short"):
            store.end(broken)
    assert store.client.exists(key) == 1
    assert [one.resource_id for one in store.do(op.ListResources(broken))] == [file]
    assert (store.do(op.PeekSession(other)).record is None) == (how == "sweep")


def test_a_newer_release_s_session_stops_the_sweep_there_and_says_so(store: RedisSubject) -> None:
    newer = store.create()
    store.create()
    store.client.setrange(store.keys.session(newer), 0, b"\x02")
    store.advance(IDLE * 2)
    swept = store.sweep()
    assert (swept.newer, swept.more, swept.idle) == (True, False, 0)
    assert store.do(op.ListWheel(P, 0, 0, 10))[0][0] == newer, "it keeps its place in the wheel"


WHOLE = b"lf" + b"\0" * 25 + b"\x01\0\0"  # a record as we write it, at the session's first location


@pytest.mark.parametrize(
    ("rid", "value"),
    [
        *(("0123456789abcdef", value) for value in (b"", b"x", b"l", b"o" * 29, b"l" + b"\xff" * 40)),
        ("0123456789abcdef", b"l\xff" + WHOLE[2:]),
        ("0123456789abcdef", b"\xfff" + WHOLE[2:]),
        ("r" * 300, WHOLE),
        ("../../../etc/passwd", WHOLE),
        (b"\xff\xfe", WHOLE),
    ],
)
def test_a_resource_that_cannot_be_read_keeps_none_of_its_session_from_going(
    store: RedisSubject, rid: str | bytes, value: bytes
) -> None:
    sid = store.create()
    whole = {store.file(sid) for _ in range(3)}
    store.client.hset(store.keys.resources(sid), rid, value)
    store.end(sid)
    assert store.leased() == {sid: whole}
    attempts = tuple(op.Attempt(rid, Outcome.DELETED) for rid in whole)
    assert store.do(op.Settle(sid, DISK, attempts)).counted == 3
    assert store.leased(lease_id="lease-2") == {}
    assert [one.resource_id for one in store.do(op.ListResources(sid))] == []
    assert store.do(op.Mend(sid, 10_000, 0, 1000)).what == "damaged"
    assert store.client.hlen(store.keys.resources(sid)) == 2, "it is kept, and told of"


@pytest.mark.parametrize("kind", ["garbage", "another type", "inf", "0x10", ""])
def test_what_is_no_slot_leaves_the_wheel_and_keeps_nobody_waiting(store: RedisSubject, kind: str) -> None:
    sid = store.create()
    name = "5" if kind == "another type" else kind
    store.client.zadd(store.keys.wheel(P), {name: 5 if kind == "another type" else -1})
    if kind == "another type":
        store.client.set(f"{store.keys.wheel(P)}:5", "x")
    store.advance(IDLE * 2)
    first, second = store.sweep(), store.sweep()
    assert (first.more, first.idle, second.idle) == (True, 0, 1)
    assert store.client.zcard(store.keys.wheel(P)) == 0
    assert store.do(op.PeekSession(sid)).record is None


@pytest.mark.parametrize("key", ["q:" + DISK, "c", "o", "ev", "l"])
@pytest.mark.parametrize("how", ["sweep", "end", "release", "overdue"])
def test_a_damaged_key_that_all_share_ends_nobody_half(store: RedisSubject, key: str, how: str) -> None:
    sid = store.create(user="ana", flags=FLAG_USER_BOOK)
    rid = store.file(sid)
    store.register(sid, intent_timeout=1000)
    shared = f"{store.keys.prefix(P)}{key}"
    store.client.delete(shared)
    store.client.set(shared, "x")
    store.advance(IDLE if how == "sweep" else 1000)
    before = {one: store.client.dump(one) for one in store.client.scan_iter(f"{store.keys.namespace}:*")}
    steps: dict[str, op.Operation[object]] = {
        "sweep": op.SweepStep(P, 10_000, 0, 0),
        "end": op.EndSession(sid, "logout"),
        "release": op.Release(sid, rid),
        "overdue": op.OverdueIntents(P),
    }
    with pytest.raises(StoreError, match="UNUSABLE"):
        store.do(steps[how])
    after = {one: store.client.dump(one) for one in store.client.scan_iter(f"{store.keys.namespace}:*")}
    assert after == before, "nothing was done by halves"
    store.client.delete(shared)
    store.do(steps[how])
    if how in ("sweep", "end"):
        assert store.do(op.PeekSession(sid)).record is None


def test_entries_of_a_queue_that_are_none_keep_no_other_from_being_leased(store: RedisSubject) -> None:
    broken, sid = store.create(), store.create()
    store.file(broken)
    file = store.file(sid)
    store.end(broken)
    store.end(sid)
    queue = store.keys.queue(P, DISK)
    store.client.zadd(queue, {BYTES_AND_NO_ID: 1, "../../etc/passwd": 2, "": 3})
    damage(store, store.keys.resources(broken), "another type")
    assert store.leased() == {sid: {file}}
    assert set(store.client.zrange(queue, 0, -1)) == {sid.encode(), broken.encode()}
    assert store.do(op.Counters(P))["damaged"] == 1
    assert store.leased(lease_id="lease-2") == {}
    assert store.do(op.Counters(P))["damaged"] == 1, "it isn't looked at again at once"


def test_intents_that_cannot_be_read_keep_no_other_from_being_overdue(store: RedisSubject) -> None:
    broken, sid, newer = store.create(), store.create(), store.create()
    store.register(broken, intent_timeout=1000)
    late = store.register(sid, intent_timeout=1000)
    left = store.register(newer, intent_timeout=1000)
    store.client.zadd(store.keys.intents(P), {BYTES_AND_NO_ID: 1, "no-space": 2, "a b c": 3})
    damage(store, store.keys.session(broken), "short")
    store.client.setrange(store.keys.session(newer), 0, b"\x02")
    store.advance(1000)
    assert store.do(op.OverdueIntents(P, limit=6)) == 6
    assert store.resource(sid, late).state is ResourceState.OWED
    assert store.do(op.OverdueIntents(P, limit=6)) == 0
    assert store.client.zrange(store.keys.intents(P), 0, -1) == [f"{newer} {left}".encode()]


def test_dead_letters_that_cannot_be_read_hide_no_other(store: RedisSubject) -> None:
    sid, strange = store.create(), new_session_id(P)
    rid = store.file(sid)
    store.end(sid)
    store.leased()
    store.do(op.Settle(sid, DISK, (op.Attempt(rid, Outcome.FAILED, 0, "EPERM"),), 1))
    store.client.zadd(store.keys.dead_letters(P), {BYTES_AND_NO_ID: 1, f"{strange} x": 2})
    store.client.set(store.keys.resources(strange), "x")
    assert [one.record.resource_id for one in store.do(op.DeadLetters(P, 0, 10))] == [rid]


@pytest.mark.parametrize("value", ["x", "-1", "", "9" * 40, "0x10", b"\xff"])
def test_numbers_of_the_deployment_that_are_none_count_as_absent(store: RedisSubject, value: str | bytes) -> None:
    fields = ["partitions", "high_water", "last_sweep", "beat_seen", "run_since"]
    for field in fields:
        store.client.hset(store.keys.globals("meta"), field, value)
    assert set(store.do(op.Meta())) & set(fields) == set()
    store.client.hset(store.keys.counters(P), "created", value)
    store.do(op.Counters(P))
    assert store.do(op.SetMeta({"high_water": "5"}, raise_only=True)) is True


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("{err = 'WRONGTYPE Operation against a key'}", "left alone"),
        ("'data string too short'", "left alone"),
        ("{err = 'MOVED 7 127.0.0.1:1'}", "raised"),
        ("{err = 'OOM command not allowed'}", "raised"),
        ("{err = 'READONLY no writes here'}", "raised"),
        ("{err = 'FORMAT a newer release wrote this'}", "raised"),
    ],
)
def test_only_what_cannot_be_read_is_passed_over(store: RedisSubject, said: str, what: str) -> None:
    parts = "".join(scripts._part(name) for name in ("books", "damage"))
    text = parts + f"return attempt(function() error({said}) end) and 1 or 0"
    if what == "raised":
        with pytest.raises(redis.ResponseError, match=said.split("'")[1].split()[0]):
            store.client.eval(text, 0)
    else:
        assert store.client.eval(text, 0) == 0


@pytest.mark.parametrize("how", ["short", "another type", "newer"])
def test_one_record_that_cannot_be_read_answers_its_error_in_its_place(store: RedisSubject, how: str) -> None:
    good, broken = store.create(), store.create()
    key = store.keys.session(broken)
    if how == "newer":
        store.client.setrange(key, 0, b"\x02")
    else:
        damage(store, key, how)
    answers = store.many([op.PeekSession(broken), op.PeekSession(good)])
    assert isinstance(answers[0], StoreError)
    assert answers[1].record.session_id == good
    with pytest.raises(StoreError):
        store.do(op.EndSession(broken, "logout"))
    if how != "another type":  # of which the server itself says so
        assert isinstance(answers[0], RecordUnreadableError)
        assert broken in str(answers[0])


def test_a_tombstone_without_its_fields_is_read_as_far_as_it_goes(store: RedisSubject) -> None:
    sid = store.create()
    store.end(sid)
    store.client.delete(store.keys.tombstone(sid))
    store.client.hset(store.keys.tombstone(sid), "ended", "long ago")
    (answer,) = store.many([op.PeekSession(sid)])
    assert isinstance(answer, RecordUnreadableError)
    store.client.hset(store.keys.tombstone(sid), "ended", "5")
    tombstone = store.do(op.PeekSession(sid)).tombstone
    assert tombstone is not None
    assert (tombstone.ended, tombstone.reason) == (5, "")
