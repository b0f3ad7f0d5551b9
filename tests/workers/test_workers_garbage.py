"""What is no message, in a queue that whoever reaches the broker can write: it is dropped, and nothing else is."""

from __future__ import annotations

import base64
import bz2
import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import pyamqp
from kombu.transport import redis as kombu_redis
from worker_cluster import KEY, Cluster, session_with_files, wait_gone

from sessionsweep import Settings
from sessionsweep_workers import broker, install, names
from sessionsweep_workers.application import build
from support.processes import LocalWorker, wait_until

DROPPED = re.compile(
    r"WARNING/MainProcess\] dropped from the queue (\S+) what is no message \(\w+\): (.*)$", re.MULTILINE
)


def message(body: object = ([], {}, {}), tag: str = "", **headers: object) -> dict[str, Any]:
    """One that Celery sends, but for what the test makes of it."""
    headers = {"task": names.SWEEP_IDLE, "id": tag, "lang": "py", **headers}
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {name: value for name, value in headers.items() if value is not None},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": tag,
            "delivery_info": {"exchange": "", "routing_key": names.QUEUE},
        },
    }


#: Dropped before Celery sees them: each a line in the log.
NO_MESSAGES: dict[str, bytes] = {
    "bytes": b"\xff",
    "nothing": b"",
    "a list": b"[1]",
    "a number": b"1",
    "an object": b"{}",
    "a body": b'{"body": 1}',
    "nesting": b"[" * 100_000,
    "much": b'"' + b"\n" * 1000,
    "a type of kombu's": b'{"__type__": "uuid", "__value__": "x"}',
    "no address": json.dumps({"body": "", "properties": {"delivery_tag": "g1"}, "headers": {}}).encode(),
    "a tag that is none": json.dumps({**message(), "properties": {"delivery_tag": {}, "delivery_info": {}}}).encode(),
    "no tag": json.dumps({**message(), "properties": {**message()["properties"], "delivery_tag": None}}).encode(),
    "a tag that is true": json.dumps(
        {**message(), "properties": {**message()["properties"], "delivery_tag": True}}
    ).encode(),
    "headers in a list": json.dumps({**message(tag="g2"), "headers": [1]}).encode(),
    "a task that is none": json.dumps(message(tag="g3", task=[])).encode(),
    "an encoding that is none": json.dumps({**message(tag="g4"), "body": "W"}).encode(),
    "an unknown task without an id": json.dumps(message(tag="g5", task="unknown", id=None)).encode(),
}
#: Celery takes these for messages. Some would cost a place in the pool each: there are more than it has.
NO_TASKS: dict[str, bytes] = {
    **{f"time limits {n}": json.dumps(message(tag=f"t{n}", timelimit=5)).encode() for n in range(3)},
    **{f"words as limits {n}": json.dumps(message(tag=f"w{n}", timelimit=["a", "b"])).encode() for n in range(3)},
    "a number as body": json.dumps(message(5, "b1")).encode(),
    "a body too short": json.dumps(message([[]], "b2")).encode(),
    "arguments that are none": json.dumps(message([1, 2, 3], "b3")).encode(),
    "an older protocol": json.dumps(message({"task": names.SWEEP_IDLE, "id": "x"}, "b4", task=None, id=None)).encode(),
    "one of Celery's own": json.dumps(message(5, "b5", task="celery.backend_cleanup")).encode(),
    "no id": json.dumps(message(tag="b6", id=None)).encode(),
    "an id that is none": json.dumps(message(tag="b7", id=[1])).encode(),
    "an unknown task": json.dumps(message(tag="b8", task="unknown")).encode(),
}


@pytest.mark.smoke
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_drops_what_is_no_message_and_goes_on(cluster: Cluster, pool: str) -> None:
    worker = cluster.worker("a", pool=pool)
    started, unacked = worker.pid, f"{cluster.namespace}:celery:unacked"
    with redis.Redis.from_url(cluster.url) as client:
        client.lpush(cluster.queue_key(), *NO_MESSAGES.values(), *NO_TASKS.values())
        app = build(cluster.sessions().settings)
        for _ in range(3):  # more than the pool has places
            app.tasks[names.END_USER].apply_async(args=["nobody"])
        wait_until(lambda: len(re.findall(r"end_user\[.* succeeded", worker.logs())) == 3, 20, "the good ones are done")
        assert worker.running
        assert worker.pid == started
        assert client.llen(cluster.queue_key()) == 0
        wait_until(lambda: client.hlen(unacked) == 0, what="nothing comes back to end the next worker")
    told = DROPPED.findall(worker.logs())
    assert len(told) == len(NO_MESSAGES)
    assert {queue for queue, _ in told} == {names.QUEUE}
    assert max(len(shown) for _, shown in told) <= broker.SHOWN
    assert "Unrecoverable" not in worker.logs()
    assert "Connection to broker lost" not in worker.logs()
    # its own volume's queue, too, and what is due there
    session, paths = session_with_files(cluster.sessions())
    session.end()
    wait_gone(paths)
    app.close()


@pytest.mark.smoke
def test_a_worker_survives_what_is_no_remote_control(cluster: Cluster) -> None:
    worker = cluster.worker("a")
    app = build(cluster.sessions().settings)
    with redis.Redis.from_url(cluster.url) as client:
        topic = f"{cluster.namespace}:celery:/0.celery.pidbox"
        for garbage in (b"\xff", b"[1]", b"{}", b"[" * 100_000):
            assert client.publish(topic, garbage) == 1
    wait_until(lambda: app.control.ping(timeout=1.0), 20, "it answers")
    assert worker.running
    assert len(DROPPED.findall(worker.logs())) == 2
    app.close()


def test_an_app_that_we_are_installed_in_keeps_its_connection(redis_url: str, namespace: str) -> None:
    settings = Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY)
    foreign = Celery("foreign", broker=redis_url, set_as_current=False)
    install(foreign, settings)
    with foreign.connection_for_read() as connection:
        assert type(connection.transport) is kombu_redis.Transport
    ours = build(settings)
    with ours.connection_for_read() as connection:
        assert type(connection.transport) is broker.Transport
        assert type(connection.clone().transport) is broker.Transport
    ours.close()
    foreign.close()


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://h/0", broker.Transport),
        ("rediss://h/0", broker.Transport),
        ("unix:///run/r.sock", broker.Transport),
        ("sentinel://h:26379/0", broker.SentinelTransport),
        ("amqp://h//", pyamqp.Transport),
    ],
)
def test_each_way_to_a_redis_is_checked_and_no_other(url: str, transport: type) -> None:
    app = build(Settings(redis_url="redis://h/0", secret_key=KEY, broker_url=url))
    assert app.connection_for_read().get_transport_cls() is transport


def bomb(size: int = 256 << 20) -> bytes:
    """A few hundred bytes that become `size` of them."""
    packer = bz2.BZ2Compressor()
    parts = [packer.compress(b" " * (1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


@pytest.mark.smoke
def test_no_message_is_unpacked(cluster: Cluster) -> None:
    worker, packed = cluster.worker("a"), base64.b64encode(bomb()).decode()
    body = base64.b64encode(b"[[], {}, {}]").decode()
    with redis.Redis.from_url(cluster.url) as client:
        before = peak(worker.pid)
        bombs = [
            {**message(tag="z1", compression="application/x-bz2"), "body": packed},
            {**message(tag="z2"), "body": packed, "content-encoding": "bz2"},
            {**message(tag="z3"), "body": packed, "content-encoding": "BZ2_codec"},
            {**message(tag="z4"), "body": body, "headers": {"compression": 5}},
            {**message(tag="z5"), "body": body, "properties": {**message(tag="z5")["properties"], "body_encoding": 5}},
        ]
        client.lpush(cluster.queue_key(), *map(json.dumps, bombs))
        assert client.publish(f"{cluster.namespace}:celery:/0.celery.pidbox", json.dumps(bombs[0])) == 1
        wait_until(lambda: len(DROPPED.findall(worker.logs())) == 6, 30, "each is dropped")
        assert peak(worker.pid) - before < 64 << 20
        assert client.hlen(f"{cluster.namespace}:celery:unacked") == 0
    assert worker.running


def peak(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(line) << 10


@pytest.mark.smoke
@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("key", ["sessionsweep", "unacked", "unacked_index"])
def test_a_worker_cleans_while_its_broker_is_unusable_and_consumes_again(cluster: Cluster, pool: str, key: str) -> None:
    worker = cluster.worker("a", pool=pool)
    started = worker.pid
    sessions = cluster.sessions()
    app = build(sessions.settings)
    key = f"{cluster.namespace}:celery:{key}"
    with redis.Redis.from_url(cluster.url) as client:
        with client.pipeline() as pipe:
            pipe.delete(key).set(key, "x").execute()
        with contextlib.suppress(OperationalError, redis.ResponseError):
            app.tasks[names.RECLAIM].apply_async(retry=False)  # something to receive
        ended, at_once = session_with_files(sessions)
        _, idle = session_with_files(sessions)
        ended.end()
        wait_gone([*at_once, *idle], 20)
        client.delete(key)
        wait_until(lambda: answers_a_task(app, worker), 60, "tasks run again")
    assert worker.running
    assert worker.pid == started
    app.close()


def answers_a_task(app: Celery, worker: LocalWorker) -> bool:
    """Whether a task that is sent now is done within a second."""
    sent = app.tasks[names.END_USER].apply_async(args=["nobody"])
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: f"{sent.id}] succeeded" in worker.logs(), 1)
        return True
    return False


@pytest.mark.smoke
def test_a_worker_says_that_it_cannot_restore_and_goes_on(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(cleanup_interval="600")
    worker = cluster.worker("a")
    with redis.Redis.from_url(cluster.url) as client:
        client.set(f"{cluster.namespace}:celery:unacked_index", "x")
        worker.wait_for_log("can't be restored; the broker refuses: WRONGTYPE")
        client.delete(f"{cluster.namespace}:celery:unacked_index")
    assert "Error in timer" not in worker.logs()
    app = build(cluster.sessions().settings)
    wait_until(lambda: answers_a_task(app, worker), 20, "tasks run")
    app.close()


@pytest.mark.smoke
def test_what_waits_to_be_restored_and_is_no_message_is_dropped(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(cleanup_interval="600")
    unacked, index = (f"{cluster.namespace}:celery:{name}" for name in ("unacked", "unacked_index"))
    lost = message(tag="lost", task=names.END_USER)
    lost["body"] = base64.b64encode(json.dumps([["nobody"], {}, {}]).encode()).decode()
    rows = {
        "g1": b"\xff",
        "g2": b"[1,2]",
        "g3": b"[5,6,7]",
        "g4": b"[" * 100_000,
        "g5": json.dumps([{"properties": 5}, "", names.QUEUE]).encode(),
        "g6": json.dumps([lost, 5, {}]).encode(),
        "g7": json.dumps([lost, "celery.pidbox", names.QUEUE]).encode(),
        b"\xff\xfe": b"{}",
        "zlost": json.dumps([{**lost, "properties": {**lost["properties"], "delivery_tag": "zlost"}}, "", names.QUEUE]),
    }
    with redis.Redis.from_url(cluster.url) as client:
        client.hset(unacked, mapping=rows)
        client.zadd(index, {**dict.fromkeys(rows, 1), "nothing": 1})
        client.set(f"{cluster.namespace}:celery:unacked_mutex", "x")  # a lock without an end: never a worker's
        worker = cluster.worker("a")
        wait_until(lambda: re.search(r"end_user\[.* succeeded", worker.logs()), 30, "the good one is done")
        wait_until(lambda: client.hlen(unacked) == client.zcard(index) == 0, 30, "nothing is left")
    assert "Error in timer" not in worker.logs()
    assert worker.running


def test_what_ends_after_its_connection_is_told_of_a_broker_that_is_away(redis_url: str, namespace: str) -> None:
    app = build(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY))
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        qos, away = channel.qos, connection.connection_errors
    assert channel.connection is None
    qos._delivered["tag"] = "a message"
    for late in (qos.ack, qos.reject):
        with pytest.raises(away, match="the connection is closed"):
            late("tag")
    qos.restore_unacked()
    assert not qos._delivered
    app.close()
