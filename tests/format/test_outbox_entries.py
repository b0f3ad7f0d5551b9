"""Entries of the outbox and shares of quotas: those that 0.1 wrote, those of now, and what is neither."""

from __future__ import annotations

import pytest
import redis

from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.outbox import drain
from sessionsweep.store.redis.sync import RedisStore
from support.books import members

SID = "00a1b2c3d4e5f6g7h8j9"
RID = "0123456789abcdef.wav"
T = 1_790_000_000_000


@pytest.fixture
def store(redis_url: str, namespace: str) -> RedisStore:
    """A store in whose books a session of ana's has places and two shares."""
    store = RedisStore(redis_url, namespace, test_clock=True)
    store.freeze(T)
    for user in ("ana", None):
        store.execute(op.Confirm(user, SID))
    store.execute(op.ReserveQuota("ana", SID, RID, 10))
    # as 0.1 wrote a share: its bytes alone
    store._send(["HSET", store.keys.user_quota("ana"), f"{SID} other", "10", "#", "20"], "", False)
    return store


def shares(store: RedisStore) -> int:
    """How many shares ana's sessions hold."""
    held = store._send(["HLEN", store.keys.user_quota("ana")], "", False)
    return max(0, held - 1)


def deliver(store: RedisStore, redis_url: str, *entries: bytes) -> None:
    """Puts entries into the outbox as they are, and drains it."""
    client = redis.Redis.from_url(redis_url)
    client.rpush(store.keys.outbox("00"), *entries)
    client.close()
    assert run(drain("00"), store) == len(entries)
    assert store.execute(op.OutboxRead("00")) == ()


@pytest.mark.parametrize(
    ("entry", "places_left", "shares_left"),
    [
        (f"user\0{SID}\0ana\0", (0, 1), 2),
        (f"total\0{SID}\0\0", (1, 0), 2),
        (f"user\0{SID}\0ana\0{RID}", (1, 1), 1),
        (f"user\0{SID}\0ana\0*", (1, 1), 0),
        (f"user\0{SID}\0ana\0@{T}", (0, 1), 2),
        (f"user\0{SID}\0ana\0@{T - 1}", (1, 1), 2),
        (f"user\0{SID}\0ana\0*@{T}", (1, 1), 0),
        (f"user\0{SID}\0ana\0*@{T - 1}", (1, 1), 2),
        (f"user\0{SID}\0ana\0@", (1, 1), 2),
        (f"user\0{SID}\0ana\0*@soon", (1, 1), 2),
        (f"user\0{SID}\0ana\0@{'9' * 40}", (1, 1), 2),
        (f"user\0{SID}\0ana\0@-5", (1, 1), 2),
    ],
)
def test_an_entry_gives_back_what_it_says(
    store: RedisStore, redis_url: str, entry: str, places_left: tuple[int, int], shares_left: int
) -> None:
    deliver(store, redis_url, entry.encode())
    assert tuple(len(members(store.execute, user)) for user in ("ana", None)) == places_left
    assert shares(store) == shares_left


def test_a_share_of_0_1_counts_and_is_looked_at_when_it_stands_in_the_way(store: RedisStore) -> None:
    def reserve(rid: str, size: int, most: int) -> op.Share:
        return store.execute(op.ReserveQuota("ana", SID, rid, size, 0, most))

    assert reserve("more", 1, 20) == op.Share("limit:bytes", 0, (f"{SID} other",))
    assert reserve("other", 5, 20).status == "ok"
    assert reserve("more", 5, 20).status == "ok"
    assert reserve("more", 6, 20).status == "limit:bytes"
