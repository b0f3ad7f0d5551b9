"""The Socket.IO chat on two real nodes: one pool a user, ended from anywhere, pruned when a socket or node is gone."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import socketio
from socketio.exceptions import ConnectionError as NotConnected

from sessionsweep import Sessions, Settings
from sessionsweep.engine.silence import CONFIRM, Silence
from sessionsweep.engine.sweep import Sweep
from sessionsweep.engine.trust import Trust
from sessionsweep.engine.upkeep import PROCESS_SILENCE, Upkeep
from sessionsweep.model.books import imbalance
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import KEY
from support.processes import LocalProcess, wait_until

RUNNING = re.compile(r"running on (http://\S+)")


class Client:
    """A user's socket, and what it was told."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=False)
        self.changed = asyncio.Condition()
        self.pools: list[list[dict[str, str]]] = []
        self.said: list[dict[str, str]] = []
        self.over: list[dict[str, str]] = []
        self.closed: list[str] = []
        for event, told in (
            ("pool", self.pools),
            ("said", self.said),
            ("over", self.over),
            ("disconnect", self.closed),
        ):
            self.sio.on(event, self._hear(told))

    def _hear(self, told: list[Any]) -> Callable[[Any], Any]:
        async def hear(data: Any) -> None:
            async with self.changed:
                told.append(data)
                self.changed.notify_all()

        return hear

    async def until(self, condition: Callable[[], object]) -> None:
        async with self.changed, asyncio.timeout(60):
            await self.changed.wait_for(condition)

    async def pool_of(self, *nodes: str) -> None:
        """Waits until its own pool is of these nodes."""
        await self.until(lambda: self.pools and sorted(one["node"] for one in self.pools[-1]) == sorted(nodes))


Join = Callable[..., Any]


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """Connects a user to a node."""
    clients: list[Client] = []

    async def one(node: LocalProcess, auth: object) -> Client:
        client = Client()
        clients.append(client)
        await client.sio.connect(node.wait_for_log(RUNNING)[1], auth=auth, transports=["websocket"], wait_timeout=20)
        return client

    yield one
    for client in clients:
        await client.sio.disconnect()


@pytest.fixture
def operator(redis_url: str, namespace: str) -> Iterator[Sessions]:
    """Another process of the deployment: it ends, sweeps, looks."""
    made = Sessions(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY, node="operator"))
    yield made
    made.close()


def books(operator: Sessions) -> dict[str, int]:
    """Counters of what sessions own."""
    counters = dict(operator.store.execute(op.Counters("00")))
    assert imbalance(counters) == 0
    return counters


async def soon(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, 20, what)


async def test_both_nodes_show_one_pool_and_a_disconnect_prunes_it(
    chat_nodes: tuple[LocalProcess, LocalProcess], join: Join, operator: Sessions
) -> None:
    first, second = await join(chat_nodes[0], {"user": "ana"}), await join(chat_nodes[1], {"user": "ana"})
    other = await join(chat_nodes[1], {"user": "bo"})
    await first.pool_of("a", "b")
    await second.pool_of("a", "b")
    assert first.pools[-1] == second.pools[-1]
    await other.pool_of("b")
    assert [await one.sio.call("who", "ana", timeout=20) for one in (first, second, other)] == [2, 2, 2]

    await first.sio.call("say", "hello", timeout=20)
    for one in (first, second, other):
        await one.until(lambda one=one: one.said == [{"user": "ana", "text": "hello"}])

    await first.sio.disconnect()
    await second.pool_of("b")
    assert await other.sio.call("who", "ana", timeout=20) == 1
    await soon(lambda: operator.stats().active_sessions == 2, "its session is over, not only its stream")
    assert books(operator)["active"] == 2


async def test_ending_a_user_disconnects_that_user_on_both_nodes(
    chat_nodes: tuple[LocalProcess, LocalProcess], join: Join, operator: Sessions
) -> None:
    mine = [await join(node, {"user": "ana"}) for node in chat_nodes]
    other = await join(chat_nodes[0], {"user": "bo"})
    assert await asyncio.to_thread(operator.end_user, "ana", reason="admin") == 2
    for one in mine:
        await one.until(lambda one=one: one.closed)
        assert one.over == [{"reason": "admin"}]
    assert await other.sio.call("who", "ana", timeout=20) == 0
    assert other.sio.connected
    await soon(lambda: books(operator)["owed"] == 0, "both closings are acknowledged")
    assert books(operator)["active"] == 1
    for node in chat_nodes:
        assert "Traceback" not in node.logs(), node.tail()


async def test_messages_are_activity_and_silence_disconnects(
    chat_nodes: tuple[LocalProcess, LocalProcess], join: Join, operator: Sessions
) -> None:
    busy, silent = await join(chat_nodes[0], {"user": "busy"}), await join(chat_nodes[1], {"user": "silent"})
    (one,), (two,) = operator.list(user="busy")[0], operator.list(user="silent")[0]
    await busy.sio.call("who", "silent", timeout=20)
    assert operator.attach(one.id).last_activity == one.last_activity, "asking is no activity"
    await busy.sio.call("say", "still here", timeout=20)
    assert operator.attach(one.id).last_activity > one.last_activity
    two.extend(idle=1)
    sweep = Sweep(operator.core, operator.store, Trust(operator.core, operator.store))
    await soon(lambda: sweep.run_once() and silent.closed, "silence ends a session, and that closes its socket")
    assert silent.over == [{"reason": "idle"}]
    assert await busy.sio.call("who", "silent", timeout=20) == 0
    assert operator.get(one.id) is not None


async def test_a_killed_node_leaves_the_pool_when_its_heartbeat_has_stopped(
    chat_nodes: tuple[LocalProcess, LocalProcess], join: Join, operator: Sessions
) -> None:
    await join(chat_nodes[0], {"user": "ana"})
    second = await join(chat_nodes[1], {"user": "ana"})
    await second.pool_of("a", "b")
    chat_nodes[0].kill()
    looks = itertools.count(0, CONFIRM)  # each so long after the last
    upkeep = Upkeep(operator.core, operator.store, silence=Silence(looks.__next__))
    assert [upkeep.run_once().streams for _ in range(3)] == [0, 0, 0], "it may only be slow"
    assert await second.sio.call("who", "ana", timeout=20) == 2
    process = next(name for name in operator.store.execute(op.Table("p")) if name.startswith("a."))
    silent_since = operator.store.execute(op.Facts()).now - PROCESS_SILENCE - 1000  # as if its heartbeat were that old
    operator.store.execute(op.TablePut("p", process, str(silent_since)))
    assert [upkeep.run_once().streams for _ in range(2)] == [0, 1]
    told = len(second.pools)
    await second.until(lambda: len(second.pools) > told)
    await second.pool_of("b")
    assert books(operator)["active"] == 1


async def test_nobody_is_refused_and_leaves_nothing(
    chat_nodes: tuple[LocalProcess, LocalProcess], join: Join, operator: Sessions
) -> None:
    for auth in (None, "ana", {}, {"user": ""}, {"user": 7}, {"user": "x" * 5000}):
        with pytest.raises(NotConnected):
            await join(chat_nodes[0], auth)
    assert operator.stats().total_sessions_created == 0


async def test_while_the_server_is_away_a_call_is_answered_and_all_goes_on_afterwards(
    own_chat: tuple[LocalProcess, EmbeddedServer], join: Join
) -> None:
    node, server = own_chat
    one = await join(node, {"user": "ana"})
    await one.pool_of("a")
    server.kill()
    for event, data in (("say", "hello"), ("who", "ana")):
        assert await one.sio.call(event, data, timeout=60) == {"error": "try again later"}
    with pytest.raises(NotConnected):
        await join(node, {"user": "bo"})
    server.start()
    assert await one.sio.call("say", "hello again", timeout=60) is None
    await one.until(lambda: one.said == [{"user": "ana", "text": "hello again"}])
    assert await one.sio.call("who", "ana", timeout=20) == 1
    assert "Traceback" not in node.logs(), node.tail()
