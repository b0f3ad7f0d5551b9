"""What earlier releases wrote is read, swept and reclaimed by this one; what a later one wrote is refused, not guessed.

`fixtures/release-*.json` hold the keys exactly as each release wrote them. They are never written anew: a change of the
format adds a fixture and a version, and the old ones must still pass.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from sessionsweep.errors import StoreError
from sessionsweep.model.books import imbalance
from sessionsweep.model.session import mac_of
from sessionsweep.model.states import Outcome, ResourceState
from sessionsweep.store import operations as op
from sessionsweep.store.redis.codec import UnknownFormatError, decode_session
from sessionsweep.store.redis.sync import RedisStore

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("release-*.json"))


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def written(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What one release wrote."""
    return json.loads(request.param.read_text())  # type: ignore[no-any-return]


@pytest.fixture
def store(written: dict[str, Any], redis_url: str, namespace: str) -> RedisStore:
    """A store that holds it, at the time when it was written."""
    client = redis.Redis.from_url(redis_url)
    for name, content in written["keys"].items():
        key, value = namespace + name.removeprefix("ss"), content["value"]
        if content["type"] == "string":
            client.set(key, base64.b64decode(value))
        elif content["type"] == "hash":
            client.hset(key, mapping={field: base64.b64decode(raw) for field, raw in value.items()})
        elif content["type"] == "zset":
            client.zadd(key, dict(value))
        elif content["type"] == "stream":
            for place, words in value:
                client.xadd(key, dict(zip(words[::2], words[1::2], strict=True)), id=place)
        else:
            client.rpush(key, *value)
    client.close()
    opened = RedisStore(redis_url, namespace, test_clock=True)
    opened.freeze(written["time"])
    return opened


def macs(written: dict[str, Any], session_id: str) -> tuple[bytes, ...]:
    """The hash that opens a session of the fixture."""
    return (mac_of(written["secret"], session_id, written["key"].encode()),)


def test_a_session_opens_with_all_that_it_held(store: RedisStore, written: dict[str, Any]) -> None:
    sid = written["session"]
    opened = store.execute(op.OpenSession(sid, macs(written, sid)))
    assert opened.status is op.OpenStatus.OK
    record = opened.record
    assert record is not None
    assert (record.user, record.ip, record.user_agent, record.node) == (
        "ana",
        "203.0.113.7",
        "Mozilla/5.0 (é)",
        "node-a",
    )
    assert dict(record.data) == {"theme": b'"dark"', "n": b"[1,2.5,null]"}
    assert (record.resource_count, record.stream_count, record.bytes_used) == (2, 1, 5021)
    assert (record.idle, record.max, record.keep_alive) == (900_000, 3_600_000, written["time"] + 60_000)
    assert store.execute(op.OpenSession(written["bare"], macs(written, written["bare"]))).status is op.OpenStatus.OK


def test_its_resources_keep_state_size_and_place(store: RedisStore, written: dict[str, Any]) -> None:
    records = {r.resource_id: r for r in store.execute(op.ListResources(written["session"]))}
    upload = records["0123456789abcdef.wav"]
    assert (upload.state, upload.kind, upload.size, upload.purpose) == (ResourceState.LIVE, "f", 4321, "upload")
    assert upload.location == "v.0000000000000001"
    assert records["fedcba9876543210"].state is ResourceState.INTENT
    assert records["0000000000000001"].location == "p.web1"


def test_it_is_swept_and_what_it_owed_is_leased_and_settled(store: RedisStore, written: dict[str, Any]) -> None:
    store.advance(4_000_000)
    swept = store.execute(op.SweepStep("00", 10_000, 0, 0))
    assert swept.idle + swept.expired == 2
    leased = store.execute(op.Lease("00", "v.0000000000000001", "lease", 60_000))
    found = {sid: {r.resource_id for r in resources} for sid, resources in leased.entries}
    assert found[written["ended"]] == {"eeeeeeeeeeeeeeee.bin"}
    assert found[written["session"]] == {"0123456789abcdef.wav", "fedcba9876543210"}
    for sid, rids in found.items():
        attempts = tuple(op.Attempt(rid, Outcome.DELETED) for rid in rids)
        assert store.execute(op.Settle(sid, "v.0000000000000001", attempts)).counted == len(rids)


def test_a_tombstone_says_what_it_said(store: RedisStore, written: dict[str, Any]) -> None:
    stone = store.execute(op.PeekSession(written["ended"])).tombstone
    assert stone is not None
    assert (stone.reason, stone.ended, stone.owed) == ("logout", written["time"], 1)
    said = {"0.1": (None, 0, 0, 0), "0.1, with receipts": (3, 60, 1, 50)}[written["release"]]
    assert (stone.owned, stone.bytes_owned, stone.deleted, stone.bytes_deleted) == said
    if stone.owned:
        (place,) = stone.places
        assert (place.gone, place.failures, place.last, place.error) == (1, 2, written["time"], "EIO: x 7")
    attempt = op.Attempt("eeeeeeeeeeeeeeee.bin", Outcome.DELETED)
    assert store.execute(op.Settle(written["ended"], "v.0000000000000001", (attempt,))).counted == 1
    after = store.execute(op.PeekSession(written["ended"])).tombstone
    assert after is not None
    assert (after.owed, after.deleted, after.places[0].deleted) == (0, said[2] + 1, said[2] + 1)


def test_its_books_balance_and_go_on(store: RedisStore, written: dict[str, Any]) -> None:
    books = store.execute(op.Counters("00"))
    assert imbalance(books) == 0, books
    store.execute(op.Register(written["bare"], "1111111111111111", "f", "v.0000000000000001", 1))
    assert store.execute(op.Counters("00"))["reg"] == books["reg"] + 1


def test_its_events_are_read(store: RedisStore, written: dict[str, Any]) -> None:
    events = store.execute(op.Events("00")).events
    names = [event.name for event in events]
    told = ["session_created", "resource_registered", "session_ended", "resources_reclaimed"]
    assert names == (told if written["release"] != "0.1" else [])
    for event in events:
        assert event.session_id == written["ended"]
    if events:
        assert dict(events[1].fields) == {"kind": "file", "location": "v.0000000000000001"}
        assert dict(events[2].fields) == {"reason": "logout", "owed": 3}


def test_a_later_format_is_refused_and_nothing_is_lost(
    store: RedisStore, written: dict[str, Any], redis_url: str
) -> None:
    sid = written["session"]
    key = store.keys.session(sid)
    client = redis.Redis.from_url(redis_url)
    client.setrange(key, 0, b"\x02")
    before = client.get(key)
    assert before is not None
    with pytest.raises(UnknownFormatError, match="upgrade"):
        decode_session(sid, before)
    for operation in (
        op.OpenSession(sid, macs(written, sid)),
        op.EndSession(sid, "admin"),
        op.ExtendSession(sid),
        op.Commit(sid, "fedcba9876543210", 1),
    ):
        with pytest.raises(StoreError, match="newer release"):
            store.execute(operation)
    store.advance(4_000_000)
    for _ in range(5):
        store.execute(op.SweepStep("00", 10_000, 0, 0))
    assert client.get(key) == before, "an older sweeper leaves it to a newer one"
    client.setrange(key, 0, b"\x01")
    while store.execute(op.SweepStep("00", 10_000, 0, 0)).more:
        pass
    assert client.get(key) is None, "it was still filed"
    client.close()
