"""What befalls task messages in the broker's queues: lost, doubled, forged."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Iterator

import redis

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep_workers import names

MOST = 9  # further copies of one message


def queues(client: redis.Redis) -> Iterator[bytes]:
    """Keys of the queues in which messages wait now."""
    return client.scan_iter(match=f"*{names.QUEUE}*", _type="list")


def lose(client: redis.Redis) -> int:
    """All that wait; how many."""
    lost = 0
    for key in list(queues(client)):
        with client.pipeline() as pipe:
            lost += int(pipe.llen(key).delete(key).execute()[0])
    return lost


def double(client: redis.Redis, dice: random.Random) -> int:
    """Each that waits comes up to ten times, in any order; how many were added."""
    added = 0
    for key in list(queues(client)):
        copies = [one for one in client.lrange(key, 0, -1) for _ in range(dice.randint(1, MOST))]
        dice.shuffle(copies)
        if copies:
            client.lpush(key, *copies)
        added += len(copies)
    return added


def forge(client: redis.Redis, dice: random.Random, within: float, namespace: str = "ss") -> int:
    """What nobody of ours would send, among what waits; how many of them workers took within so many seconds."""
    forged = [
        b"\xff",
        b"{}",
        b"[" * 10_000,
        _message("sessionsweep.no_such_task"),
        _message(names.SWEEP_IDLE)[:-20],
        _message(names.SWEEP_IDLE, slot=1),
        _message(names.SWEEP_IDLE, slot=10**15),
        _message(names.SWEEP_EXPIRED, dry_run="no", everything=True),
        _message(names.SWEEP_ORPHANS, volume="../.."),
        _message(names.RECLAIM, volume="nobodys"),
        _message(names.END_SESSION, session_id="../../etc/passwd"),
        _message(names.END_SESSION, session_id=new_session_id("00")),
        _message(names.END_USER, user=""),
    ]
    dice.shuffle(forged)
    key = f"{namespace}:celery:{names.QUEUE}"
    client.lpush(key, *forged)
    deadline = time.monotonic() + within
    while left := set(forged) & set(client.lrange(key, 0, -1)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return len(forged) - len(left)


def _message(task: str, **arguments: object) -> bytes:
    """As Celery would send it."""
    tag = new_resource_id()
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps([[], arguments, {}]).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": task, "id": tag, "lang": "py"},
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": tag,
                "delivery_info": {"exchange": "", "routing_key": names.QUEUE},
            },
        }
    ).encode()
