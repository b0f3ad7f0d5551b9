"""Promises 7 and 23: a late touch never revives a session, and a cancelled waiter never gives its reply to another."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessionsweep import AsyncSessions, InvalidTokenError, Session, SessionEndedError, StoreError
from sessionsweep.store import operations as op
from sessionsweep.store.redis.aio import AsyncRedisStore
from support.nodes import Node
from support.proxy import FaultyProxy

pytestmark = pytest.mark.faults

RACES = 60  # sessions a schedule, each with five threads that begin at once
CANCELS = 400  # a schedule


def touches(node: Node, session: Session, token: str) -> list[Callable[[], object]]:
    """What may still be under way when a session ends."""

    def save() -> None:
        session.data["late"] = True
        session.save()

    def write() -> None:
        with session.new_file("late") as f:
            f.write(b"late")

    return [lambda: node.sessions.open(token), session.extend, save, write, session.rotate]


@pytest.mark.parametrize("how", ["end", "rotate", "expiry"])
@pytest.mark.schedules(0.2)
def test_no_interleaving_of_touches_and_ends_leaves_a_ghost(
    seed: str, how: str, make_node: Callable[..., Node]
) -> None:
    dice = random.Random(f"{seed} {how}")
    node, other = make_node("a"), make_node("b")
    with ThreadPoolExecutor(6) as pool:
        for _ in range(RACES):
            session, token = node.sessions.create(data={"n": 1})
            node.write(session)
            ours = other.sessions.attach(session.id)
            possible = touches(node, session, token)
            late = possible[:-1] if how == "rotate" else dice.sample(possible, 4)  # of two that rotate one may lose
            gate = threading.Barrier(len(late) + 1)

            def touch(what: Callable[[], object], gate: threading.Barrier = gate) -> None:
                gate.wait(10)
                with contextlib.suppress(InvalidTokenError):  # SessionEndedError is one
                    what()

            waiting = [pool.submit(touch, one) for one in late]
            fresh = ""
            if how == "expiry":
                node.advance(11)
                other._advanced += 11  # its own clock agrees: no jump
                gate.wait(10)
                # each finds it due, or renewed it before the time was up: never both
                other.sweep.run_once()
            elif how == "end":
                gate.wait(10)
                ours.end()
            else:
                gate.wait(10)
                fresh = ours.rotate()
            if how == "end":
                for one in (node, other):
                    with pytest.raises(InvalidTokenError):
                        one.sessions.open(token)
            for future in waiting:
                future.result(10)
            peeked = node.store.execute(op.PeekSession(session.id))
            if how == "rotate":
                assert fresh
                with pytest.raises(InvalidTokenError):
                    node.sessions.open(token)
                assert other.sessions.open(fresh).id == session.id
                other.sessions.end(session.id)
            else:
                assert peeked.record is None or peeked.is_due, "touched back to life"
                assert other.sessions.get(session.id) is None
                with pytest.raises(InvalidTokenError):
                    other.sessions.open(token)
                with pytest.raises(SessionEndedError):
                    session.extend()
    node.advance(15)
    node.sweep.run_once()
    node.advance(2)
    for _ in range(3):
        node.reclaim.run_once()
        other.reclaim.run_once()
    stats = node.sessions.stats()
    assert (stats.active_sessions, stats.imbalance, stats.resources["owed"]) == (0, 0, 0)


@pytest.mark.schedules(0.3)
async def test_a_cancelled_waiter_never_gives_its_reply_to_another(
    seed: str, redis_url: str, make_node: Callable[..., Node]
) -> None:
    dice = random.Random(seed)
    node = make_node(idle_timeout=1000)
    with FaultyProxy(redis_url, seed, lose_reply=0.02) as proxy:
        store = AsyncRedisStore(proxy.url, node.settings.namespace, socket_timeout=5, test_clock=True)
        sessions = AsyncSessions(node.settings, store=store)
        made = [node.sessions.create(data={"mark": n}) for n in range(20)]
        foreign: list[str] = []
        answered = 0

        async def ask(number: int, rounds: int) -> None:
            nonlocal answered
            session, token = made[number]
            for _ in range(rounds):
                try:
                    got = await (sessions.open(token) if dice.random() < 0.7 else sessions.get(session.id))
                except StoreError:
                    continue
                assert got is not None
                answered += 1
                if got.id != session.id or got.data != {"mark": number}:
                    foreign.append(f"{session.id} got {got.id} {got.data}")

        cancelled = 0
        while cancelled < CANCELS:
            tasks = [asyncio.create_task(ask(dice.randrange(20), 5)) for _ in range(40)]
            for task in dice.sample(tasks, 20):
                for _ in range(dice.randrange(6)):
                    await asyncio.sleep(0)
                cancelled += task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results), results
        await sessions.close()
    assert foreign == []
    assert answered > CANCELS
