"""Several Sessions of one process over `memory://`: they share a store and its volumes, or are refused and told why."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from sessionsweep import AsyncSessions, Sessions, Settings, VolumeUntrustedError
from sessionsweep.engine.inprocess import InProcessSweeper
from sessionsweep.integrations.flask import SessionSweep, current_session
from sessionsweep.store import operations as op
from sessionsweep.store.memory import MemoryStore
from support.processes import wait_until

Make = Callable[..., Sessions]


@pytest.fixture
def make(tmp_path: Path, namespace: str) -> Iterator[Make]:
    """Makes Sessions in memory over one volume; closed after the test."""
    made = []

    def make_sessions(store: MemoryStore | None = None, **settings: object) -> Sessions:
        options: dict[str, object] = {"namespace": namespace, "volumes": f"m={tmp_path / 'm'}", **settings}
        made.append(Sessions(Settings(redis_url="memory://", **options), store=store))
        return made[-1]

    yield make_sessions
    for sessions in made:
        sessions.close()


def put_file(sessions: Sessions, content: bytes = b"x") -> Path:
    """A new session's file."""
    session, _ = sessions.create()
    with session.new_file() as f:
        f.write(content)
    return f.path


def refusal(sessions: Sessions) -> str:
    """Why a file can't be made."""
    with pytest.raises(VolumeUntrustedError) as refused:
        put_file(sessions)
    assert refused.value.reason == "in-use"
    return str(refused.value)


def test_two_of_one_process_share_sessions_tokens_and_files(make: Make) -> None:
    one, two = make(), make()
    session, token = one.create()
    with session.new_file() as f:
        f.write(b"x")
    seen = two.open(token)
    with seen.open_file(f.id) as opened:
        assert opened.read() == b"x"
    assert put_file(two).parent.parent.parent == f.path.parent.parent.parent
    sweeper = InProcessSweeper(two.core, two.store)
    two.store.advance(10**8)  # type: ignore[attr-defined]
    sweeper.run_once(orphans=True)
    assert one.get(session.id) is None
    assert not f.path.exists()
    assert one.stats().imbalance == 0


async def test_asynchronous_code_shares_them_too(make: Make) -> None:
    one = make()
    other = AsyncSessions(one.settings)
    session, token = await other.create()
    async with session.new_file() as f:
        await f.write(b"x")
    assert one.open(token).resources()[0].id == f.id
    await other.close()
    assert put_file(one).exists(), "closing one takes nothing from the other"


def test_closing_one_leaves_the_other_its_store_and_volume(make: Make) -> None:
    one, two, stranger = make(), make(), make(store=MemoryStore())
    session, token = one.create()
    path = put_file(one)
    put_file(two)
    one.close()
    one.close()
    assert two.open(token).id == session.id
    put_file(two)
    refusal(stranger)
    two.close()
    put_file(stranger)
    assert path.exists()


def test_another_store_of_this_process_is_refused_before_it_can_take_files_for_orphans(make: Make) -> None:
    one, two = make(orphan_min_age=0, grace_period=0), make(namespace="another", orphan_min_age=0, grace_period=0)
    path = put_file(one)
    assert "Make one Sessions and share it" in refusal(two)
    sweeper = InProcessSweeper(two.core, two.store)
    for _ in range(4):
        sweeper.run_once(orphans=True)
        two.store.advance(10**7)  # type: ignore[attr-defined]
    assert path.exists()
    one.close()
    assert put_file(two).exists(), "the first is closed: its volume is free"


def test_a_store_ends_with_the_last_of_its_users(make: Make) -> None:
    one, two = make(), make()
    one.create()
    one.close()
    assert make().stats().active_sessions == 1
    two.close()
    assert make().stats().active_sessions == 1, "the third, made in between, uses it"


def test_a_restarted_app_reclaims_what_is_new_and_what_it_has_forgotten(make: Make) -> None:
    """An empty memory beside a volume that has seen later times is no store that was rolled back to a snapshot."""
    forgotten = None
    for _ in range(3):
        one = make(orphan_min_age=0, grace_period=0)
        sweeper = InProcessSweeper(one.core, one.store)
        session, _ = one.create()
        with session.new_file() as f:
            f.write(b"x")
        sweeper.run_once(orphans=True)
        session.end()
        one.store.advance(1000)  # type: ignore[attr-defined]
        sweeper.run_once(orphans=True)
        assert not f.path.exists()
        assert forgotten is None or not forgotten.exists(), "an orphan, seen twice"
        assert one.store.execute(op.Table("holds")) == {}
        forgotten = put_file(one)
        one.close()


def test_an_app_factory_called_twice(tmp_path: Path, namespace: str) -> None:
    def create_app(folder: str) -> Flask:
        app = Flask(__name__)
        app.config.update(
            SESSIONSWEEP_REDIS_URL="memory://",
            SESSIONSWEEP_NAMESPACE=namespace,
            SESSIONSWEEP_VOLUMES=f"m={tmp_path / folder}",
            SESSIONSWEEP_CLEANUP_INTERVAL=0.05,
        )
        SessionSweep(app)

        @app.post("/files")
        def upload() -> str:
            with current_session.new_file() as f:
                f.write(b"x")
            return f.id

        return app

    def sessions_of(app: Flask) -> Sessions:
        with app.app_context():
            found: Sessions = app.extensions["sessionsweep"].sessions
            return found

    before = threading.enumerate()
    one, same, other = create_app("one"), create_app("one"), create_app("other")
    for app in (one, same, other):
        assert app.test_client().post("/files").status_code == 200
    assert [sessions_of(app).stats().active_sessions for app in (one, same, other)] == [2, 2, 1]
    for app in (one, same, other):
        sessions_of(app).close()
    assert [t for t in threading.enumerate() if t.name == "sessionsweep" and t not in before] == []
    fresh = create_app("one")
    assert fresh.test_client().post("/files").status_code == 200
    assert sessions_of(fresh).stats().active_sessions == 1, "the first app's memory went with it"
    sessions_of(fresh).close()


def test_closing_stops_the_sweeper_so_that_nothing_takes_the_volume_again(make: Make) -> None:
    one = make(cleanup_interval=0.01)
    put_file(one)
    sweeper = InProcessSweeper(one.core, one.store)
    one.core.before_close.append(sweeper.stop)
    sweeper.ensure()
    wait_until(lambda: sweeper.passes > 1, what="it sweeps")
    one.close()
    passes = sweeper.passes
    two = make(store=MemoryStore())
    put_file(two)
    assert sweeper.passes == passes


def test_a_forked_child_uses_no_volume_of_its_parent(make: Make) -> None:
    """Its copy of the memory hears nothing more of the parent's sessions: it would end them and delete their files."""
    one = make(grace_period=0, orphan_min_age=0)
    path = put_file(one)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def child() -> None:
        try:
            one.store.advance(10**8)  # type: ignore[attr-defined]
            InProcessSweeper(one.core, one.store).run_once(orphans=True)
            theirs.send((refusal(one), one.stats().active_sessions, one.core.mounts.here()))
        except BaseException as error:
            theirs.send(repr(error))

    process = context.Process(target=child)
    process.start()
    try:
        assert ours.poll(30)
        answer = ours.recv()
        assert isinstance(answer, tuple), answer
        assert "another process" in answer[0]
        assert answer[1:] == (1, []), "the sessions of its own memory ended, and one that could make no file began"
        process.join(30)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
    assert path.exists()
    put_file(one)
    assert [volume.name for volume in one.core.mounts.here()] == ["m"]


def test_memory_of_which_nobody_made_files_is_shared_by_its_namespace(namespace: str) -> None:
    made = [Sessions(Settings(redis_url="memory://", namespace=namespace)) for _ in range(2)]
    _, token = made[0].create()
    assert made[1].open(token).request_count == 2
    assert made[0].store is made[1].store
    assert made[0].store.execute(op.Facts()).version == "memory"
    for sessions in made:
        sessions.close()
    assert Sessions(made[0].settings).stats().active_sessions == 0
