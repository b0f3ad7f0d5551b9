"""What soak and load test measure with: slopes over restarts, verdicts, a generator that waits for no answer, visitors
who come back late, faults that say what they did."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from benchmarks.load import load, messages, soak, trends
from benchmarks.load.deployed import FlaskSession, Side
from benchmarks.load.faults import Fault, Faults, never_bit
from benchmarks.load.http11 import Address, Connections
from benchmarks.load.openloop import Generator, Measured, percentiles
from benchmarks.load.probes import Look, Looks, StoreLook
from benchmarks.load.tables import verdict
from benchmarks.load.visitors import CAME_BACK, ENDED, RESTS, Record, Rest, Visitor, away

from sessionsweep_workers import names
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import descendants

AT_ONCE = 5
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def looks(pid: int, begun: float, start: int, growth: float) -> list[Look]:
    """A life of 100 looks, one a second, with an outlier here and there."""
    dice = random.Random(pid)
    return [
        Look(begun + s, "web-a", pid, round(start + growth * s) + 10**9 * (dice.random() < 0.1), 10, 8, 0.0)
        for s in range(100)
    ]


def test_growth_is_seen_within_each_life_and_a_restart_is_none() -> None:
    flat = [*looks(1, 0, 90_000, 0), *looks(2, 100, 50_000, 0), *looks(3, 200, 99_000, 0)]
    assert trends.slope(trends.lives(flat, "rss", 10)) == 0
    sawtooth = [*looks(1, 0, 90_000, 7), *looks(2, 100, 50_000, 7), *looks(3, 200, 99_000, 7)]
    slope = trends.slope(trends.lives(sawtooth, "rss", 10))
    assert slope is not None
    assert round(slope) == 7
    assert trends.longest(trends.lives(sawtooth, "rss", 10)) == 89
    assert trends.slope([[(0.0, 1.0), (1.0, 2.0)]]) is None, "too few to say anything"


def test_what_leaks_raises_the_floor_and_what_is_open_for_a_while_does_not() -> None:
    busy = [(float(at), 12.0 + at % 7 + (20 if at > 1500 else 0) * (at % 3)) for at in range(0, 1800, 5)]
    assert trends.slope([busy]) != 0, "it looks like growth"
    assert trends.slope(trends.floors([busy], 120)) == 0
    leaking = [(at, value + at // 60) for at, value in busy]
    slope = trends.slope(trends.floors([leaking], 120))
    assert slope is not None
    assert round(slope * 3600) == 60, "one a minute"


@pytest.mark.parametrize("an_hour", [0.0, 33.0])
def test_what_scatters_is_no_sure_growth_and_a_beats_leak_was(an_hour: float) -> None:
    """Two lives of 23 minutes after their warm-up, as a soak of an hour judges them; the leak is one that was there."""
    wrongly = 0
    for seed in range(100):
        dice = random.Random(seed)
        lives = [[(120.0 * n, 30 + an_hour * n / 30 + dice.randint(-3, 3)) for n in range(12)] for _ in range(2)]
        sure = trends.at_least(lives)
        assert sure is not None
        wrongly += (sure * 3600 > soak.COUNT_BOUND) != (an_hour > 0)
    assert wrongly <= 1
    assert trends.at_least([[(0.0, 1.0), (1.0, 2.0)]]) is None, "too few to say anything"


def test_what_cannot_be_judged_is_neither_met_nor_short() -> None:
    assert verdict("x", 1.0, 1.0).said == "met"
    assert verdict("x", 1.1, 1.0).said == "SHORT"
    assert verdict("x", None, 1.0).said == "SHORT", "nothing was measured that should have been"
    assert verdict("x", 9.9, 1.0, judged=False).said == "not judged"
    assert verdict("x", 0.1, 1.0, judged=False, required=True).said == "SHORT", (
        "a run that should have been long enough"
    )


@contextlib.asynccontextmanager
async def node_that_answers_none_before_many_asked() -> AsyncIterator[Address]:
    """No answer leaves before so many requests wait for theirs: who asks one at a time never gets any."""
    asked, enough, serving = 0, asyncio.Event(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
                await reader.readexactly(length)
                asked += 1
                if asked == AT_ONCE:
                    enough.set()
                await enough.wait()
                writer.write(FAILED)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]
        await asyncio.gather(*serving)  # each ends when its client has closed


async def test_requests_are_sent_when_they_are_meant_to_be_and_not_when_an_answer_came() -> None:
    record, enough = Record(), asyncio.Event()
    async with node_that_answers_none_before_many_asked() as node:
        visitors = [Visitor(n, "seed", [node], record, 60) for n in range(50)]
        generator = asyncio.create_task(Generator(visitors, "seed").run(500, 600, enough))
        while record.counts["create"] < AT_ONCE:
            await asyncio.sleep(0)
        enough.set()
        measured = await generator
    assert measured.failures == record.counts["create"] >= AT_ONCE
    assert set(measured.failed) == {"status 500"}, "each was answered, though none before the fifth was asked"
    assert percentiles(measured.answered)["max"] == 0, "an answer that isn't the wanted one is no latency"


async def test_what_is_hopeless_is_given_up_at_a_mark_and_every_mark_counts() -> None:
    record, enough = Record(), asyncio.Event()
    enough.set()
    async with node_that_answers_none_before_many_asked() as node:
        visitors = [Visitor(n, "seed", [node], record, 60) for n in range(50)]
        measured = await Generator(visitors, "seed").run(500, 600, hopeless=load.hopeless, mark=0.02)
    assert measured.given_up
    assert measured.failures
    assert len(measured.backlogs) >= 2
    held = Measured(100.0, 600.0, backlogs=[0, 51, 0])
    assert not load.holds(held), "what piled up in the middle was worked off at the end"
    assert load.holds(Measured(100.0, 600.0, backlogs=[0, 50, 0]))


class Restful(Visitor):
    """Asks nobody; notes when it acts, and how long it then rests."""

    def __init__(self, number: int, seen: list[Restful], rests: tuple[Rest, ...]) -> None:
        super().__init__(number, "seed", [("", 0)], Record(), 0.1, rests)
        self._seen, self.may_act_from, self.early = seen, 0.0, 0

    async def act(self, http: Connections) -> str:
        self.early += time.monotonic() < self.may_act_from
        self._seen.append(self)
        return "look"

    def rest(self) -> float:
        drawn = super().rest()
        self.may_act_from = time.monotonic() + drawn - 0.001
        return drawn


class Mistaken(Restful):
    """Can't make head or tail of an answer."""

    async def act(self, http: Connections) -> str:
        raise KeyError("session_id")


async def test_an_answer_that_no_visitor_understands_is_counted_as_failed() -> None:
    measured = await Generator([Mistaken(1, [], ())], "seed").run(2000, 0.01)
    assert set(measured.failed) == {"KeyError('session_id')"}


async def test_who_rests_is_back_when_the_rest_is_over_and_not_before() -> None:
    seen: list[Restful] = []
    visitors = [Restful(n, seen, (Rest(0.5, 0.5, 1.0),)) for n in range(50)]
    measured = await Generator(visitors, "seed").run(1000, 0.3)
    assert measured.failures == 0
    assert len(seen) == measured.count > 50, "they came back"
    assert [visitor.early for visitor in visitors] == [0] * 50


def test_rests_are_drawn_as_they_are_declared_and_the_crowd_is_large_enough() -> None:
    visitor = Visitor(1, "seed", [("", 0)], Record(), 60, RESTS)
    drawn = [visitor.rest() for _ in range(10_000)]
    again = Visitor(1, "seed", [("", 0)], Record(), 60, RESTS)
    assert drawn[:100] == [again.rest() for _ in range(100)]
    over_half = [rest for rest in drawn if 30 < rest <= 45]
    late = [rest for rest in drawn if rest > 45]
    assert 200 < len(over_half) < 500
    assert 100 < len(late) < 350
    assert min(late) >= 54, "between them nobody could say whether the session must be there"
    assert round(sum(drawn) / len(drawn) * 30) in range(80, 140)
    assert 80 < away(RESTS, 30, 60) < 140
    assert soak.Plan("seed", 3600).crowd > 60 + away(RESTS, 30, 60)
    assert not any(Visitor(1, "seed", [("", 0)], Record(), 60).rest() for _ in range(100))


@contextlib.asynccontextmanager
async def node_with_a_session(session_id: str) -> AsyncIterator[Address]:
    """Whatever is asked, it has that session, and no files."""
    serving = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                body = f'{{"session_id": "{session_id}", "files": []}}'.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]
        await asyncio.gather(*serving)  # each ends when its client has closed


@pytest.mark.parametrize(
    ("silent", "session_id", "counted", "wrong"),
    [
        (5, "old", {}, 0),
        (35, "old", {CAME_BACK: 1}, 0),
        (10, "new", {}, 1),
        (45, "new", {}, 1),
        (49, "new", {ENDED: 1}, 0),
    ],
)
async def test_a_session_that_ends_before_its_time_is_wrong_and_late_returns_are_counted(
    silent: float, session_id: str, counted: dict[str, int], wrong: int
) -> None:
    record, http = Record(), Connections()
    async with node_with_a_session(session_id) as node:
        visitor = Visitor(1, "seed", [node], record, 60)
        visitor.session_id, visitor.renewed = "old", time.monotonic() - silent
        visitor.dice.choices = lambda *_, **__: ["list"]  # type: ignore[method-assign,assignment]
        await visitor.act(http)
        http.close()
    del record.counts["list"]
    assert dict(record.counts) == counted
    assert len(record.wrong) == wrong, record.wrong


@pytest.fixture
def server(own_server: Callable[..., EmbeddedServer]) -> Iterator[tuple[EmbeddedServer, redis.Redis]]:
    """A server of its own, and its client."""
    started = own_server()
    client: redis.Redis = redis.Redis.from_url(started.url)
    yield started, client
    client.close()


def waiting_process() -> subprocess.Popen[bytes]:
    """One that lives until it is killed, or its input ends."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def struck(server: EmbeddedServer, pids: dict[str, int]) -> Iterator[Faults]:
    """Faults against a deployment with those processes; its thread isn't started."""

    @contextlib.contextmanager
    def another(role: str) -> Iterator[Callable[[], bool]]:
        yield lambda: False  # it didn't start

    side = SimpleNamespace(server=server, pids=lambda: pids, nodes=[], another=another)
    faults = Faults(cast("Side", side), "seed", soak.KINDS, (0, 0), interval=0.0)
    faults._closed.set()  # nothing waits
    yield faults
    faults._client.close()


def test_a_fault_says_what_it_did_and_one_that_did_nothing_is_none(
    server: tuple[EmbeddedServer, redis.Redis],
) -> None:
    started, client = server
    with struck(started, {}) as faults:
        for kind, role in [
            ("kill", "web-a"), ("term", "beat"), ("stop", "worker-a"), ("no beat", "beat"), ("two beats", "beat"),
            ("flush scripts", "redis"), ("lose messages", "redis"), ("double messages", "redis"),
        ]:  # fmt: skip
            assert faults._do(kind, role) == 0, kind
            faults._kinds, faults._deck = [], [(kind, [role])]
            faults._one()
        assert faults.done == []
        assert [one.kind for one in faults.missed][:3] == ["kill", "term", "stop"]
    client.script_load("return 1")
    client.lpush(f"ss:celery:{names.QUEUE}", "one", "two")
    with waiting_process() as child, struck(started, {"web-a": child.pid}) as faults:
        assert faults._do("stop", "web-a") == 1
        assert faults._do("cut", "redis") >= 1
        assert faults._do("flush scripts", "redis") == 1
        assert faults._do("double messages", "redis") >= 2
        assert faults._do("lose messages", "redis") >= 4
        assert faults._do("kill", "web-a") == 1
        child.wait()
        assert faults._do("kill", "web-a") == 0, "it is dead"


def test_forged_messages_count_where_somebody_takes_them(server: tuple[EmbeddedServer, redis.Redis]) -> None:
    _, client = server
    key = f"ss:celery:{names.QUEUE}"
    assert messages.forge(client, random.Random(1), within=0) == 0, "nobody took them"
    waiting = client.llen(key)
    taker = threading.Thread(target=lambda: [client.brpop([key], 10) for _ in range(2 * waiting)])
    taker.start()
    assert messages.forge(client, random.Random(1), within=60) == waiting
    taker.join()


def test_a_recovery_waits_for_another_process_in_the_killed_ones_place(
    server: tuple[EmbeddedServer, redis.Redis],
) -> None:
    started, _ = server
    with waiting_process() as child, struck(started, {"flower": child.pid}) as faults:
        faults._give_up = 0.05
        faults._deck = [("kill", ["flower"])]
        faults._one()
        assert faults.done[0].back is None, "nobody came"
    with waiting_process() as child, struck(started, {}) as faults:
        answers = iter([child.pid] * 4)
        faults._side.pids = lambda: {"flower": next(answers, 1)}  # type: ignore[method-assign]
        faults._deck = [("kill", ["flower"])]
        faults._one()
        assert faults.done[0].back is not None
        assert next(answers, None) is None, "it was asked until another one was there"


def test_who_is_spared_lives_and_each_role_is_spared_in_one_half() -> None:
    plan = soak.Plan("seed", 3600)
    for at in (0.0, 1799.0, 1800.0, 3599.0):
        for kind, roles in soak.KINDS:
            assert set(roles) - set(plan.spared(at)) or kind not in ("kill", "term"), (at, kind, roles)
    first, second = set(plan.spared(0)), set(plan.spared(1800))
    assert first | second == set(soak.ROLES) - {"supervisor"}, "nobody strikes that one"
    assert not first & second


def outcome(seconds: float, **seen: Any) -> soak.Outcome:
    """A soak that saw nothing but that."""
    nothing: dict[str, Any] = {
        "traffic": Measured(30.0, seconds), "record": Record(), "faults": [], "missed": [], "looks": Looks(),
        "canaries": 1, "harmed": [], "living": 1, "clean_after": 1.0, "imbalance": 0, "books": {}, "families": {},
    }  # fmt: skip
    return soak.Outcome(soak.Plan("seed", seconds), **(nothing | seen))


def test_a_soak_in_which_nothing_happened_is_short() -> None:
    hour = outcome(3600.0)
    short = {one.what for one in hour.verdicts if one.said == "SHORT"}
    assert {one.what for one in hour.recoveries() + hour.happened() + hour.growth()} <= short
    assert {one.said for one in outcome(60.0).happened() + outcome(60.0).growth()} == {"not judged"}
    assert all(any(what.startswith(f"{role}: ") for what in short) for role in soak.ROLES)


def test_the_servers_memory_is_judged_between_its_restarts_and_its_keys_beyond_them() -> None:
    before = [StoreLook(at, 4_000_000, 500, 0, 1) for at in range(600, 1800, 10)]
    after = [StoreLook(at, 8_000_000, 500, 0, 2) for at in range(2400, 3600, 10)]
    memory, keys = outcome(3600.0, looks=Looks(store=before + after)).growth()[-2:]
    assert (memory.figure, memory.said) == (0.0, "met"), "a restart is no growth"
    assert (keys.figure, keys.said) == (0.0, "met")
    growing = [StoreLook(at, 8_000_000 + 1000 * at, 500 + at, 0, 2) for at in range(2400, 3600, 10)]
    memory, keys = outcome(3600.0, looks=Looks(store=before + growing)).growth()[-2:]
    assert (memory.said, keys.said) == ("SHORT", "SHORT")


def test_every_kind_of_fault_must_have_bitten_and_every_kind_of_rest_have_been_there() -> None:
    faults = [Fault(0.0, kind, roles[-1], 1, 0.1, 1.0, 2.0, 0.0) for kind, roles in soak.KINDS]
    record = Record()
    record.counts.update({CAME_BACK: 1, ENDED: 1})
    hour = outcome(3600.0, faults=faults, record=record)
    assert [one.said for one in hour.recoveries() + hour.happened()] == ["met"] * 5
    assert never_bit(soak.KINDS, faults[:-1]) == ["two beats beat"]
    assert outcome(3600.0, faults=faults[:-1], record=record).happened()[0].said == "SHORT"
    record.counts[CAME_BACK] = 0
    assert hour.happened()[1].said == "SHORT"


def test_a_load_test_that_measured_nothing_is_short() -> None:
    plan = load.Plan("seed", 600.0)
    assert [one.said for one in load.Outcome(plan).measured()] == ["SHORT"] * 4
    fault = Fault(0.0, "kill", "redis", 1, 0.1, 1.0, 2.0, 61.0)
    whole = Measured(100.0, 600.0)
    ours = load.Stretches(held=whole, faulty=whole, faults=[fault])
    clean: list[float | None] = [70.0, 71.0]
    said = [one.said for one in load.Outcome(plan, ours=ours, clean=clean).measured()]
    assert said == ["met", "met", "met", "SHORT"]
    assert [one.said for one in load.Outcome(plan, theirs=ours).measured()] == ["SHORT"] * 4, "theirs is not judged"
    assert load.Outcome(plan, clean=[70.0, None]).measured()[0].said == "SHORT", "ours was at work in their time"


class Bearing:
    """A generator whose side bears a rate without failures up to a highest one."""

    def __init__(self, highest: float) -> None:
        self.highest = highest

    async def run(self, rate: float, seconds: float, **_: object) -> Measured:
        measured = Measured(rate, seconds)
        measured.failed["status 503"] += rate > self.highest
        return measured


@pytest.mark.parametrize(
    ("highest", "rates", "held"),
    [(100, [100.0], True), (80, [100.0, 88.0, 77.4], True), (59, [100.0, 88.0, 77.4, 68.1, 60.0], False)],
)
async def test_a_rate_that_is_not_held_is_tried_lower_and_none_is_made_up(
    server: tuple[EmbeddedServer, redis.Redis], highest: float, rates: list[float], held: bool
) -> None:
    side = SimpleNamespace(name="ours", server=server[0], pids=dict)
    found, tried = load.Stretches(), list[dict[str, Any]]()
    generator = cast("Generator", Bearing(highest))
    await load._hold(load.Plan("seed", 60.0), tried, generator, cast("Side", side), found, 100.0)
    assert [one["rate"] for one in tried] == rates
    assert [one["held"] for one in tried] == [False] * (len(rates) - 1) + [held]
    assert (found.held.rate <= highest) if found.held else not held


def test_a_killed_node_of_flask_session_comes_back_and_keeps_its_files(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    with FlaskSession(tmp_path, 60) as side:
        faults = Faults(side, "seed", load.KILLS, (0, 0))
        faults._closed.set()  # nothing waits
        faults._deck = [("kill", [role]) for role in ("worker-a", "redis", "web-a")]
        for _ in range(3):
            faults._one()
        faults._client.close()
        assert [(one.role, one.did) for one in faults.done] == [("web-a", 1), ("redis", 1)]
        assert all(one.back is not None and one.web is not None and one.debt == one.web for one in faults.done)
        assert [one.role for one in faults.missed] == ["worker-a"], "it has none"
        assert len(side.files()) == 4, "one on each node after each kill, and nobody deletes them"
        assert set(side.pids()) == {"redis", "web-a", "web-b"}
        os.kill(side.pids()["web-b"], signal.SIGKILL)  # and at once the end: nobody starts it after it was stopped
    assert side.pids() == {}
    assert descendants(os.getpid()) <= before
