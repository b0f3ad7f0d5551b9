"""The in-process sweeper: the same passes in a thread, over Redis and over memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from sessionsweep import Sessions, Settings, VolumeUntrustedError
from sessionsweep.engine.inprocess import InProcessSweeper
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from support.nodes import Node
from support.processes import wait_until


def memory(tmp_path: Path, namespace: str, **settings: object) -> Sessions:
    """Sessions in memory with a volume."""
    options: dict[str, object] = {"idle_timeout": 0.3, "grace_period": 0, "cleanup_interval": 0.1, **settings}
    return Sessions(
        Settings(redis_url="memory://", namespace=namespace, volumes=f"m={tmp_path / 'm'}", **options)  # type: ignore[arg-type]
    )


def test_it_cleans_up_after_sessions_in_memory(tmp_path: Path, namespace: str) -> None:
    sessions = memory(tmp_path, namespace)
    session, _ = sessions.create()
    with session.new_file() as f:
        f.write(b"x")
    sweeper = InProcessSweeper(sessions.core, sessions.store)
    sweeper.ensure()
    try:
        wait_until(lambda: not f.path.exists(), what="the file is deleted")
        assert sessions.stats().imbalance == 0
    finally:
        sweeper.stop()


def test_a_log_out_is_reclaimed_at_once(make_node: Callable[..., Node]) -> None:
    node = make_node(cleanup_interval=3600)
    session, _, path = node.session_with_file()
    sweeper = InProcessSweeper(node.core, node.store)
    sweeper.ensure()
    try:
        with sweeper.round_done:
            assert sweeper.round_done.wait_for(lambda: sweeper.passes > 0, 60)
        wait_until(lambda: sweeper.listening, what="it listens for nudges")
        session.end()
        wait_until(lambda: not path.exists(), what="the nudge begins a round")
    finally:
        sweeper.stop()


def test_a_volume_that_is_mounted_later_is_heard_of_too(make_node: Callable[..., Node], tmp_path: Path) -> None:
    (tmp_path / "two").write_text("in the way")
    node = make_node(cleanup_interval=3600, volumes=f"one={tmp_path}/one,two={tmp_path}/two")
    session, _ = node.sessions.create()
    sweeper = InProcessSweeper(node.core, node.store)
    sweeper.ensure()
    try:
        wait_until(lambda: sweeper.listening, what="it listens for nudges of one")
        (tmp_path / "two").unlink()
        _, path = node.write(session, volume="two")
        wait_until(lambda: len(sweeper.listening) == 2, what="it listens for nudges of both")
        session.end()
        wait_until(lambda: not path.exists(), what="the nudge begins a round")
    finally:
        sweeper.stop()


def test_what_was_due_before_it_listened_does_not_wait(make_node: Callable[..., Node], tmp_path: Path) -> None:
    (tmp_path / "a").write_text("in the way")
    node = make_node(cleanup_interval=3600)
    sweeper = InProcessSweeper(node.core, node.store)
    sweeper.ensure()
    try:
        with sweeper.round_done:
            assert sweeper.round_done.wait_for(lambda: sweeper.passes > 0, 60)
        (tmp_path / "a").unlink()
        session, _, path = node.session_with_file()
        session.end()
        wait_until(lambda: not path.exists(), what="it looks once when it begins to listen")
    finally:
        sweeper.stop()


def test_nudges_don_t_bring_upkeep_forward(make_node: Callable[..., Node]) -> None:
    node = make_node(cleanup_interval=3600)
    sweeper = InProcessSweeper(node.core, node.store)
    sweeper.run_once()
    node.store.execute(op.TableDrop("n", "a"))
    session, _, path = node.session_with_file()
    session.end()
    sweeper.run_once()
    assert not path.exists()
    assert node.store.execute(op.Table("n")) == {}, "no second heartbeat within the interval"


def test_upkeep_goes_on_every_interval(make_node: Callable[..., Node]) -> None:
    node = make_node(cleanup_interval=0.1)
    sweeper = InProcessSweeper(node.core, node.store)
    sweeper.ensure()
    try:
        for _ in range(3):
            wait_until(lambda: node.store.execute(op.TableDrop("n", "a")), what="a heartbeat")
    finally:
        sweeper.stop()


def test_threads_that_mount_at_once_don_t_refuse_each_other(tmp_path: Path, namespace: str) -> None:
    sessions = memory(tmp_path, namespace)
    problems: list[object] = []
    threads = [
        threading.Thread(target=lambda: problems.extend(run(sessions.core.mounts.mount(), sessions.store)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(sessions.core.mounts.here()) == 1


def test_it_survives_any_exception_and_goes_on(node: Node) -> None:
    sweeper = InProcessSweeper(node.core, node.store)
    calls = []

    def fails(*_: object, **__: object) -> None:
        calls.append(1)
        raise ZeroDivisionError

    sweeper._sweep.run_once = fails  # type: ignore[method-assign, assignment]
    session, _, path = node.session_with_file()
    session.end()
    sweeper.ensure()
    try:
        wait_until(lambda: len(calls) > 1 and not path.exists(), what="reclaim goes on although the sweep fails")
    finally:
        sweeper.stop()


def test_it_stops_at_once_when_told(make_node: Callable[..., Node]) -> None:
    node = make_node(cleanup_interval=3600)
    before = set(threading.enumerate())  # other tests of this process may have left theirs
    sweeper = InProcessSweeper(node.core, node.store)
    sweeper.ensure()
    assert "sessionsweep" in [t.name for t in set(threading.enumerate()) - before]
    with sweeper.round_done:
        assert sweeper.round_done.wait_for(lambda: sweeper.passes > 0, 60)
    sweeper.stop()
    assert "sessionsweep" not in [t.name for t in set(threading.enumerate()) - before]
    sweeper.stop()


def test_a_second_process_on_memory_is_refused(tmp_path: Path, namespace: str) -> None:
    first = memory(tmp_path, namespace)
    session, _ = first.create()
    with session.new_file() as f:
        f.write(b"x")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            second = memory(tmp_path, namespace + "2")
            (problem,) = run(second.core.mounts.mount(), second.store)
            refused = isinstance(problem, VolumeUntrustedError) and problem.reason == "in-use"
            os.write(write, b"refused" if refused else repr(problem).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"refused"
    os.waitpid(child, 0)
