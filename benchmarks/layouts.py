"""Compares ways to lay a session out in the server: memory and touches. `python -m benchmarks.layouts`.

Each is small and honest: a record, an index of what is due, and the script that a request runs. It answers one
question, which layout to build on (docs/decisions/0002-store-layout.md), and is no part of the library.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from redis.client import Pipeline

from benchmarks.deployment import BATCH, Deployment
from benchmarks.measure import interleaved
from benchmarks.scripts import server_time
from sessionsweep.store.redis.connections import Channel
from sessionsweep.store.redis.resp import pack

IDLE = 1800  # seconds
RECORD = b"\1\0" + bytes(70)  # 72 bytes: what open needs to know
FIELDS = {"mac": bytes(16), "created": 1763700000000, "last": 1763700000000, "idle": 1800000, "max": 3600000, "n": 1}

Make = Callable[[Pipeline, str, int], object]  # (pipeline, session id, due in ms)
TOUCHED = 100_000  # sessions of each layout in the server on which touches are compared


@dataclass(frozen=True)
class Layout:
    """How one is created, and the script that touches one."""

    name: str
    make: Make
    touch: str


_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
_PACKED = (
    "local raw = redis.call('GET', KEYS[1]) if not raw or string.sub(raw, 3, 18) ~= ARGV[1] then return {0} end "
    + _NOW
    + "local created, idle, max, filed, keep = struct.unpack('>I6I5I5I6I6', raw, 19) "
    "local last, requests = struct.unpack('>I6I4', raw, 57) "
    "redis.call('SETRANGE', KEYS[1], 56, struct.pack('>I6I4', now, requests + 1)) "
)
_HASH = (
    "local f = redis.call('HMGET', KEYS[1], 'mac', 'created', 'last', 'idle', 'max', 'n') "
    "if f[1] ~= ARGV[1] then return {0} end " + _NOW + "redis.call('HSET', KEYS[1], 'last', now, 'n', f[6] + 1) "
)
_MOVED = "redis.call('ZADD', KEYS[2], now + 1800000, ARGV[2]) "
_RAW, _MANY = "return {1, now, raw}", "return {1, now, f}"


def _hash(pipeline: Pipeline, key: str) -> None:
    pipeline.hset(key, mapping=FIELDS)  # type: ignore[arg-type]


def _packed_only(p: Pipeline, sid: str, _: int) -> None:
    p.set(f"s:{sid}", RECORD)


def _packed_zset(p: Pipeline, sid: str, due: int) -> None:
    _packed_only(p, sid, due)
    p.zadd("due", {sid: due})


def _packed_wheel(p: Pipeline, sid: str, due: int) -> None:
    _packed_only(p, sid, due)
    p.rpush(f"w:{due // 10_000}", sid)


def _hash_zset(p: Pipeline, sid: str, due: int) -> None:
    _hash(p, f"s:{sid}")
    p.zadd("due", {sid: due})


def _hash_zsets(p: Pipeline, sid: str, due: int) -> None:
    _hash_zset(p, sid, due)
    p.zadd("old", {sid: due + 1_800_000})


def _hash_wheel(p: Pipeline, sid: str, due: int) -> None:
    _hash(p, f"s:{sid}")
    p.rpush(f"w:{due // 10_000}", sid)


def _expiring(p: Pipeline, sid: str, _: int) -> None:
    p.set(f"s:{sid}", RECORD, ex=IDLE)


def _bare(p: Pipeline, sid: str, _: int) -> None:
    p.set(f"s:{sid}", RECORD[:48], ex=IDLE)


LAYOUTS = [
    Layout("a bare 48-byte SET … EX, for comparison", _bare, ""),
    Layout("packed string that expires by itself, no index", _expiring, _PACKED
           + "redis.call('EXPIRE', KEYS[1], 1800) " + _RAW),
    Layout("packed string + timing wheel", _packed_wheel, _PACKED + _RAW),
    Layout("packed string + sorted set, moved at every touch", _packed_zset, _PACKED + _MOVED + _RAW),
    Layout("hash + timing wheel", _hash_wheel, _HASH + _MANY),
    Layout("hash + sorted set, moved at every touch", _hash_zset, _HASH + _MOVED + _MANY),
    Layout("hash + two sorted sets, one moved at every touch", _hash_zsets, _HASH + _MOVED + _MANY),
]  # fmt: skip


def main() -> int:
    """Prints bytes a session, and touches against a GET: seen by one client, and by the server's processor."""
    parser = argparse.ArgumentParser("python -m benchmarks.layouts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=250_000)
    args = parser.parse_args()
    print(f"{args.sessions:,} sessions; load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cpus")
    size = dict[str, float]()
    for layout in LAYOUTS:
        with Deployment() as d:
            server = d.client.info("server")
            size[layout.name] = _fill(d, layout, args.sessions)
    with Deployment() as d:
        rates, micros = _touches(d)
    bare = size[LAYOUTS[0].name]
    print(f"{'layout':50} {'bytes':>6} {'of bare':>8} {'rate of GET':>12} {'server us':>10} {'of GET':>7}")
    for layout in LAYOUTS:
        line = f"{layout.name:50} {size[layout.name]:6.0f} {size[layout.name] / bare:8.2f}"
        if layout.touch:
            spent, get = micros[layout.name], micros["get"]
            line += f" {rates[layout.name]:12.2f} {spent:10.2f} {spent / get:7.1f}"
        print(line)
    print(f"on {server.get('server_name', 'redis')} {server.get('valkey_version', server['redis_version'])}")
    return 0


def _sid(number: int, prefix: str = "00") -> str:
    return f"{prefix}{number:018}"


def _fill(d: Deployment, layout: Layout, count: int, prefix: str = "00") -> float:
    before = d.memory()
    for begin in range(0, count, BATCH):
        pipeline = d.client.pipeline(transaction=False)
        for number in range(begin, begin + BATCH):
            layout.make(pipeline, _sid(number, prefix), 1763700000000 + number * IDLE * 1000 // count)
        pipeline.execute()
    return (d.memory() - before) / count


def _touches(d: Deployment) -> tuple[dict[str, float], dict[str, float]]:
    """All layouts in turn on one server: (rate against a GET, processor time a call in us); `get` is one of them."""
    d.client.set("raw", RECORD)
    channel, get = d.store._connections.take(), pack(["GET", "raw"])
    packers: dict[str, Callable[[], bytes]] = {"get": lambda: get}
    for number, layout in enumerate(LAYOUTS):
        if layout.touch:
            prefix = f"{number:02}"
            _fill(d, layout, TOUCHED, prefix)
            packers[layout.name] = partial(_touch, d.client.script_load(layout.touch), prefix, itertools.count())
    sides: dict[str, Callable[[], object]] = {name: partial(_ask, channel, make) for name, make in packers.items()}
    t = interleaved(sides, rounds=31, calls=100)
    spent: dict[str, list[float]] = {name: [] for name in packers}
    for _ in range(21):
        for name, make in packers.items():
            spent[name].append(server_time(d, [make() for _ in range(1000)], 1))
    channel.close()
    rates = {name: t.ratio(name, "get") for name in packers}
    return rates, {name: statistics.median(values) for name, values in spent.items()}


def _touch(sha: str, prefix: str, turn: Iterator[int]) -> bytes:
    sid = _sid(next(turn) * 7919 % TOUCHED, prefix)
    return pack(["EVALSHA", sha, 2, f"s:{sid}", "due", RECORD[2:18], sid])


def _ask(channel: Channel, make: Callable[[], bytes]) -> None:
    channel.send(make())
    reply = channel.reply()
    assert isinstance(reply, bytes) or reply[0] == 1, reply


if __name__ == "__main__":
    sys.exit(main())
