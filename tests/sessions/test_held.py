"""A server that restarted or failed over may have forgotten touches. Until clients had time to be seen again nobody is
idle, whatever an app asks of its session, and whether or not a worker has noted the restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from sessionsweep import AsyncSessions, LimitReachedError, Session
from sessionsweep.store import operations as op
from sessionsweep.store.redis.aio import AsyncRedisStore
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node


def hold(node: Node, session: Session) -> None:
    node.store.execute(op.HoldIdle(session.id[:2], 15_000))


def fail_over(node: Node, session: Session) -> None:
    node.store._send(["HSET", node.store.keys.held(session.id[:2]), "run", "of another server"], "", False)


HELD = pytest.mark.parametrize("held", [hold, fail_over])
Held = Callable[[Node, Session], None]


def test_an_upload_under_way_over_a_restart_is_kept(
    own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node], tmp_path: Path
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    node = make_node(url=server.url)
    session, token = node.sessions.create()
    with session.new_file() as f:
        f.write(b"before, ")
        server.restart()
        node.advance(11)
        assert node.sweep.run_once().idle == 0
        f.write(b"after")
    with session.open_file(f.id) as kept:
        assert kept.read() == b"before, after"
    node.sessions.open(token)
    node.advance(9)
    node.sweep.run_once()
    assert node.reclaim.run_once().deleted == 0
    assert f.path.read_bytes() == b"before, after"


@HELD
def test_an_asynchronous_upload_is_kept_and_grows(node: Node, held: Held) -> None:
    made, _ = node.sessions.create()

    async def upload() -> Path:
        store = AsyncRedisStore(node.store.url, node.settings.namespace, test_clock=True)
        sessions = AsyncSessions(node.settings, store=store)
        session = await sessions.attach(made.id)
        async with session.new_file() as f:
            await f.write(b"x")
            held(node, made)
            node.advance(11)
            await f.write(b"x" * 2_000_000)
        await sessions.close()
        return f.path

    assert asyncio.run(upload()).stat().st_size == 2_000_001


@HELD
@pytest.mark.parametrize("how", ["extends", "keeps it alive"])
def test_a_job_that_attached_keeps_its_session(node: Node, held: Held, how: str) -> None:
    """It has no token; and what it wrote to keep the session alive may be among what was lost."""
    session, _, path = node.session_with_file()
    forgotten, _ = node.sessions.create()
    job = node.sessions.attach(session.id)
    held(node, session)
    node.advance(11)
    assert node.sweep.run_once().idle == 0

    with job.keep_alive(60) if how == "keeps it alive" else nullcontext():
        for _ in range(2):
            if how == "extends":
                job.extend()
            node.advance(6)
        assert node.sweep.run_once().idle == 1, "the hold is over"
        assert node.sessions.get(session.id) is not None
    assert node.sessions.get(forgotten.id) is None
    assert path.exists()


@HELD
def test_who_only_seems_idle_logs_in_and_saves(node: Node, held: Held) -> None:
    session, token = node.sessions.create(data={"cart": 1})
    held(node, session)
    node.advance(11)
    attached = node.sessions.attach(session.id)
    attached.data["cart"] = 2
    attached.save()
    token = session.log_in("ana")
    assert [one.id for one in node.sessions.list(user="ana")[0]] == [session.id]
    assert node.sessions.open(token).data == {"cart": 2}


@HELD
@pytest.mark.parametrize("limit", ["max_sessions", "max_sessions_per_user"])
def test_who_only_seems_idle_keeps_its_place(make_node: Callable[..., Node], held: Held, limit: str) -> None:
    node = make_node(**{limit: 1})
    session, token = node.sessions.create(user="ana")
    held(node, session)
    node.advance(11)
    with pytest.raises(LimitReachedError):
        node.sessions.create(user="ana")
    assert node.sessions.open(token).id == session.id
