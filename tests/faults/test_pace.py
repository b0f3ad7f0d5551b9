"""Promises 19 and 20: what one script does doesn't grow with what there is, and a herd is taken in small steps.

Counted, not timed: `make bench` times both (P7 and P8 in docs/performance.md).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from sessionsweep.engine.sweep import BATCH
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node

pytestmark = pytest.mark.faults

MOST = 4000  # commands of one script: at 1.2 µs each below the 5 ms of the promise
FILES = 60
HERD = 1500


@contextmanager
def counted(node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """The most commands that one call of each operation made the server carry out, by its own statistics."""
    most: Counter[str] = Counter()

    def commands() -> int:
        stats: dict[str, dict[str, int]] = node.store._send(["INFO", "commandstats"], "", True)
        lines = bytes(stats).decode().splitlines()  # type: ignore[arg-type]
        return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines if "calls=" in line)

    execute = RedisStore.execute

    def watched(store: RedisStore, operation: Any) -> Any:
        before = commands()
        answer = execute(store, operation)
        name = type(operation).__name__
        most[name] = max(most[name], commands() - before - 2)  # INFO, and the script's own call
        return answer

    def watched_many(store: RedisStore, operations: Sequence[Any]) -> list[Any]:
        return [watched(store, operation) for operation in operations]

    with monkeypatch.context() as patch:
        patch.setattr(RedisStore, "execute", watched)
        patch.setattr(RedisStore, "execute_many", watched_many)
        yield most


@pytest.mark.schedules(0.01)
def test_no_script_does_more_where_there_is_more(
    seed: str,
    own_server: Callable[..., EmbeddedServer],
    make_node: Callable[..., Node],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 19: the longest call is bounded by the largest session and the batch, not by how many there are."""
    node = make_node(url=own_server().url, max_resources_per_session=FILES, orphan_interval=1000)
    found: list[Counter[str]] = []
    for sessions in (210, 420):  # either is more than a lease takes
        for _ in range(sessions):
            node.session_with_file()
        large, _ = node.sessions.create()
        for _ in range(FILES):
            node.write(large)
        with counted(node, monkeypatch) as most:
            node.write(large)  # evicts one
            node.advance(11)
            for one in (node.sweep, node.upkeep, node.orphans):
                one.run_once()  # type: ignore[attr-defined]
            node.advance(2)
            node.reclaim.run_once()
        found.append(most)
        assert node.sessions.stats().imbalance == 0
    few, many = found
    assert {"SweepStep", "Lease", "Settle", "Register"} <= set(many), many
    assert max(many.values()) < MOST, many.most_common(3)
    grown = {name: (few[name], count) for name, count in many.items() if count > max(few[name], BATCH) * 1.5 + 20}
    assert not grown, "more sessions made these calls longer"


@pytest.mark.schedules(0.01)
def test_a_herd_is_ended_in_small_steps_between_which_requests_get_in(
    seed: str, make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 20: sessions that are all due at once are ended at most 25 in one call."""
    node = make_node(max_duration=0)
    for _ in range(HERD):
        node.sessions.create()
    kept, token = node.sessions.create()
    kept.extend(idle=1000)
    node.advance(11)
    execute, steps = RedisStore.execute, list[int]()
    over = threading.Event()
    touched = list[int]()

    def touch() -> None:
        while not over.is_set():
            assert node.sessions.open(token).id == kept.id
            touched.append(len(steps))

    def watched(store: RedisStore, operation: Any) -> Any:
        answer = execute(store, operation)
        if type(operation).__name__ == "SweepStep":
            steps.append(answer.idle + answer.expired)
        return answer

    monkeypatch.setattr(RedisStore, "execute", watched)
    client = threading.Thread(target=touch)
    client.start()
    try:
        while sum(steps) < HERD and node.sweep.run_once():
            pass
    finally:
        over.set()
        client.join()
    assert sum(steps) == HERD
    assert max(steps) <= BATCH
    assert len(steps) >= HERD / BATCH
    assert len(set(touched)) > 1, "no request got in while it went on"
    assert node.sessions.stats().active_sessions == 1
