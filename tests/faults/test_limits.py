"""Promise 17: limits are exact. Many racers, lost replies, dead sessions not yet swept: never more than the limit."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sessionsweep import LimitReachedError, Sessions, SessionSweepError, StoreError
from sessionsweep.model.session import SessionRecord
from sessionsweep.store import operations as op
from sessionsweep.store.redis.codec import decode_session
from sessionsweep.store.redis.sync import RedisStore
from support.nodes import Node
from support.proxy import FaultyProxy

pytestmark = pytest.mark.faults

RACERS = 200
THREADS = 40
#: Of sessions: none of them ends by itself in a race, however slow the machine is.
LONG: dict[str, Any] = {"idle_timeout": 600, "max_duration": 6000}


#: All records at one instant: a listing takes several calls, and who comes while another goes would count twice.
_ALL = """
local out = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  out[#out + 1] = {string.sub(key, -20), redis.call('GET', key)}
end
return out
"""


def live(node: Node) -> list[SessionRecord]:
    """The sessions that exist and aren't due."""
    rows = node.store._send(["EVAL", _ALL, 0, f"{node.settings.namespace}:*:s:*"], "", False)
    now = node.store.execute(op.Facts()).now
    records = [decode_session(sid.decode(), raw) for sid, raw in rows]
    return [record for record in records if not record.is_due(now, idle_held=False)]


class Racers:
    """Threads of several processes' worth of clients, some of them behind a proxy that loses replies."""

    def __init__(self, proxy: FaultyProxy, node: Node) -> None:
        self.clients = [node.sessions]
        for _ in range(4):
            store = RedisStore(proxy.url, node.settings.namespace, socket_timeout=2, test_clock=True)
            self.clients.append(Sessions(node.settings, store=store))
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def race(self, seed: str, act: Callable[[Sessions, random.Random], Any]) -> None:
        """All at once; each outcome is counted by name."""

        def one(number: int) -> None:
            dice = random.Random(f"{seed} {number}")
            try:
                act(dice.choice(self.clients), dice)
                outcome = "ok"
            except SessionSweepError as error:
                outcome = type(error).__name__
            with self._lock:
                self.outcomes[outcome] += 1

        with ThreadPoolExecutor(THREADS) as pool:
            for future in [pool.submit(one, n) for n in range(RACERS)]:
                future.result()

    def close(self) -> None:
        for client in self.clients[1:]:
            client.close()


@pytest.fixture
def race(redis_url: str) -> Any:
    """Runs racers on a node: race(node, seed, act) → outcomes."""

    def run(node: Node, seed: str, act: Callable[[Sessions, random.Random], Any]) -> Counter[str]:
        with FaultyProxy(redis_url, seed, lose_request=0.01, lose_reply=0.02) as proxy:
            racers = Racers(proxy, node)
            try:
                racers.race(seed, act)
            finally:
                racers.close()
        assert racers.outcomes["LimitReachedError"] > 0, f"nobody met the limit: {racers.outcomes}"
        return racers.outcomes

    return run


@pytest.mark.schedules(0.2)
@pytest.mark.parametrize("partitions", [1, 4])
def test_never_more_sessions_than_max_sessions(
    seed: str, partitions: int, make_node: Callable[..., Node], race: Any
) -> None:
    node = make_node(max_sessions=17, partitions=partitions, **LONG)
    for _ in range(17):
        node.sessions.create()
    node.advance(601)  # all of them are due, none is swept
    outcomes = race(node, seed, lambda sessions, dice: sessions.create())
    assert len(live(node)) <= 17
    assert outcomes["ok"] <= 17
    node.advance(661)  # what the lost replies reserved has lapsed by now, and everything is due again
    for _ in range(17):
        node.sessions.create()
    with pytest.raises(LimitReachedError):
        node.sessions.create()


@pytest.mark.schedules(0.2)
@pytest.mark.parametrize("on_limit", ["refuse", "end-oldest"])
def test_never_more_sessions_of_a_user_than_allowed(
    seed: str, on_limit: str, make_node: Callable[..., Node], race: Any, redis_url: str
) -> None:
    node = make_node(max_sessions_per_user=5, on_user_limit=on_limit, max_sessions=150, partitions=3, **LONG)
    over = []

    def come_and_go(sessions: Sessions, dice: random.Random) -> None:
        user = dice.choice(["ana", "bob"])
        if dice.random() < 0.5:
            session, _ = sessions.create(user=user)
        else:
            session, _ = sessions.create()
            session.log_in(user)
        if dice.random() < 0.3:
            session.log_in(dice.choice(["ana", "bob"]))
        mine = Counter(one.user for one in live(node))
        over.extend([mine] if max(mine["ana"], mine["bob"]) > 5 else [])
        if dice.random() < 0.4:
            with contextlib.suppress(StoreError):
                session.end()

    if on_limit == "refuse":
        race(node, seed, come_and_go)
    else:
        with contextlib.suppress(AssertionError):  # here the oldest makes room: nobody need be refused
            race(node, seed, come_and_go)
    assert over == []
    for user in ("ana", "bob"):
        assert sum(one.user == user for one in live(node)) <= 5
    node.advance(661)  # what the lost replies reserved has lapsed by now, and everything is due
    for _ in range(5):
        node.sessions.create(user="ana")


@pytest.mark.schedules(0.5)
def test_a_user_who_changes_back_and_forth_keeps_one_place(seed: str, make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions_per_user=3)
    dice = random.Random(seed)
    sessions = [node.sessions.create()[0] for _ in range(8)]
    for _ in range(60):
        with contextlib.suppress(LimitReachedError):
            dice.choice(sessions).log_in(dice.choice(["ana", "bob", "eve"]))
        if dice.random() < 0.2:
            node.sweep.run_once()
        mine = Counter(one.user for one in live(node))
        assert max(mine[user] for user in ("ana", "bob", "eve")) <= 3, mine


@pytest.mark.schedules(0.2)
def test_a_tracked_key_takes_its_place_before_it_lives(seed: str, make_node: Callable[..., Node], race: Any) -> None:
    node = make_node(max_sessions=5, partitions=2, **LONG)
    for number in range(5):
        node.sessions.track(f"key {number}")
    node.advance(601)  # due: the same keys come back at the same time as others
    most = []

    def come(sessions: Sessions, dice: random.Random) -> None:
        sessions.track(f"key {dice.randrange(12)}")
        most.append(len(live(node)))

    race(node, seed, come)
    assert max(most) <= 5
    assert len(live(node)) <= 5


@pytest.mark.schedules(0.2)
def test_never_more_files_or_bytes_than_a_session_may_have(
    seed: str, make_node: Callable[..., Node], race: Any, tmp_path: Path
) -> None:
    node = make_node(max_resources_per_session=9, max_bytes_per_session=20_000, max_resources_per_user=12)
    sessions_of_ana = [node.sessions.create(user="ana")[0].id for _ in range(3)]
    too_many = []

    def write(sessions: Sessions, dice: random.Random) -> None:
        session = sessions.attach(dice.choice(sessions_of_ana))
        with session.new_file(max_size=4000) as f:
            f.write(b"x" * dice.randrange(4000))
        for session_id in sessions_of_ana:
            at = node.sessions.attach(session_id)
            if at.resource_count > 9 or at.bytes_used > 20_000:
                too_many.append((at.resource_count, at.bytes_used))
        if dice.random() < 0.3:
            mine = session.resources()
            if mine:
                session.delete(dice.choice(mine).id)

    race(node, seed, write)
    assert too_many == []
    assert sum(len(node.sessions.attach(sid).resources()) for sid in sessions_of_ana) <= 12
    assert node.sessions.stats().imbalance == 0
