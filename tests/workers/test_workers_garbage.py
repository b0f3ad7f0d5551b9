"""What is no message, in a queue that whoever reaches the broker can write: it is dropped, and nothing else is."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.transport import pyamqp
from kombu.transport import redis as kombu_redis
from worker_cluster import KEY, Cluster, session_with_files, wait_gone

from sessionsweep import Settings
from sessionsweep_workers import broker, install, names
from sessionsweep_workers.application import build
from support.processes import wait_until

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
