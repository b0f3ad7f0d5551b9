"""A broker that goes and comes back: a worker takes up its work, and keeps nothing of the connections that broke."""

from __future__ import annotations

import contextlib
import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from kombu.asynchronous import Hub
from worker_cluster import KEY, Cluster, session_with_files, wait_gone

from sessionsweep import Settings
from sessionsweep_workers.application import build
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
    keeper = SimpleNamespace(consumer=None)
    consumer = SimpleNamespace(restart_count=1, controller=SimpleNamespace(sessionsweep_keeper=keeper))
    ConsumeStep(consumer).start(consumer)
    assert watched() is None
    assert keeper.consumer is consumer


def test_a_connection_that_broke_leaves_nothing_in_the_event_loop(
    own_server: Callable[..., EmbeddedServer], namespace: str
) -> None:
    server = own_server()
    app = build(Settings(redis_url=server.url, namespace=namespace, secret_key=KEY, node="a"))
    loop = Hub()
    connection = app.connection_for_read()
    connection.register_with_event_loop(loop)
    channel = connection.channel()
    app.control.mailbox.Node("a@test", channel=channel).listen()
    channel.client.ping()  # by which its queue goes with the channel: what fails then
    watched = [weakref.ref(channel), weakref.ref(channel.qos), weakref.ref(connection.transport)]
    timers = [timer for *_, timer in loop.timer.queue]
    assert loop.on_tick
    assert timers
    server.kill()
    connection.collect()
    assert not channel.closed, "it was closed in the ordinary way, which this isn't about"
    assert not loop.on_tick
    assert all(timer.canceled for timer in timers)
    server.start()
    with contextlib.suppress(Exception):
        channel.close()  # as Celery does, more than once, whatever it raises
    ours = connections(os.getpid(), server.port) | connections(os.getpid(), server.port, CLOSE_WAIT)
    assert not ours, "a socket that nobody will close"
    del connection, channel, timers
    gc.collect()
    assert [one() for one in watched] == [None, None, None]
    loop.close()
    app.close()
