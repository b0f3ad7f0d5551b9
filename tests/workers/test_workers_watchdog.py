"""What a worker and a beat tell the service manager, and that one which hangs says nothing more."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from worker_cluster import Cluster

from sessionsweep_workers.devstack.server import EmbeddedServer
from sessionsweep_workers.notify import Notifier
from support.processes import PATIENCE

#: Our app, whose keeper hangs as long as the file `hangs` lies in this folder.
HANGING_KEEPER = """
import sys, time
from pathlib import Path
from sessionsweep_workers.application import build
from sessionsweep_workers.keeper import Keeper

heartbeat = Keeper._heartbeat

def slowly(self):
    while Path("hangs").exists():
        print("it hangs", file=sys.stderr, flush=True)
        time.sleep(0.1)
    heartbeat(self)

Keeper._heartbeat = slowly
app = build()
"""


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """Listens as a service manager does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")  # a free abstract name
        listener.settimeout(30 * PATIENCE)
        yield listener


def name_of(listener: socket.socket) -> str:
    """As NOTIFY_SOCKET."""
    return "@" + listener.getsockname()[1:].decode()


def test_a_worker_is_ready_and_goes_on_until_its_keeper_hangs(cluster: Cluster, manager: socket.socket) -> None:
    (cluster.folder / "hanging_keeper.py").write_text(HANGING_KEEPER)
    worker = cluster.worker(app="hanging_keeper", env={"NOTIFY_SOCKET": name_of(manager)})
    assert [manager.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    flag = cluster.folder / "hangs"
    flag.touch()
    worker.wait_for_log("it hangs")
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while manager.recv(99):  # said before
            pass
    manager.settimeout(1.5)  # longer than it is ever silent
    with pytest.raises(TimeoutError):
        manager.recv(99)
    manager.settimeout(30 * PATIENCE)
    flag.unlink()
    assert manager.recv(99) == b"WATCHDOG=1"


def test_a_store_that_is_away_is_no_reason_to_fall_silent(
    make_cluster: Callable[..., Cluster],
    own_server: Callable[..., EmbeddedServer],
    manager: socket.socket,
) -> None:
    server = own_server()
    cluster = make_cluster(server.url)
    worker = cluster.worker(env={"NOTIFY_SOCKET": name_of(manager)})
    server.kill()
    worker.wait_for_log("the store doesn't answer")
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while manager.recv(99):  # said before
            pass
    manager.settimeout(30 * PATIENCE)
    assert [manager.recv(99) for _ in range(2)] == [b"WATCHDOG=1"] * 2


def test_a_beat_is_ready_and_goes_on(cluster: Cluster, manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name_of(manager))
    cluster.beat()
    assert [manager.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


def test_nobody_who_listens_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("@nobody-listens-here", "/nowhere/at/all", ""):
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        Notifier().ready()
