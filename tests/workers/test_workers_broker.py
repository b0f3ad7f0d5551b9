"""A broker that goes and comes back: a worker takes up its work, and keeps nothing of the connections that broke."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from worker_cluster import Cluster, session_with_files, wait_gone

from sessionsweep_workers.bootsteps import ConsumeStep
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import wait_until
from support.sockets import CLOSE_WAIT, connections


@pytest.mark.smoke
def test_a_worker_keeps_no_socket_of_a_broker_that_was_restarted(
    make_cluster: Callable[..., Cluster], own_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    cluster = make_cluster(server.url)
    worker = cluster.worker("a", plain=("-c", "2", "-l", "INFO"))  # with gossip, as Celery starts one
    sessions = cluster.sessions()
    for _ in range(3):
        seen = len(worker.logs())
        server.kill()
        worker.wait_for_log("Cannot connect", 20, after=seen)
        server.start()
        worker.wait_for_log("mingle: all alone", 20, after=seen)
        session, paths = session_with_files(sessions)
        session.end()
        wait_gone(paths, 20)
    # Celery's pool keeps the one that it will find broken when it next needs it; channels' would be one a restart.
    wait_until(lambda: len(connections(worker.pid, server.port, CLOSE_WAIT)) <= 1, 10, "the others are closed")


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_what_is_left_of_a_connection_goes_when_the_next_is_there() -> None:
    class Left:
        def __init__(self) -> None:
            self.itself = self

    watched = weakref.ref(Left())
    assert watched() is not None
    consumer = SimpleNamespace(controller=SimpleNamespace(sessionsweep_keeper=SimpleNamespace(consumer=None)))
    ConsumeStep(consumer).start(consumer)
    assert watched() is None
    assert consumer.controller.sessionsweep_keeper.consumer is consumer
