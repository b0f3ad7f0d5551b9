"""How a worker reads our messages: JSON alone, whatever else the app that we are installed in accepts.

An app that accepts pickle alone would refuse our messages, and one that accepts pickle too would unpickle what somebody
sent under our tasks' names. So our messages are read here, and go to the pool as plain data. What Celery would stumble
over is refused here too: it raises after a place in the pool was taken, which is then lost, or ends the worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from celery.worker.strategy import default

JSON = "application/json"


def json_strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., None]:
    """Celery's own strategy, for well-formed JSON messages; others are dropped."""
    handle = default(task, app, consumer, **options)

    def read(message: Any, *args: Any, **kwargs: Any) -> None:
        if message.content_type != JSON:
            raise InvalidTaskError(f"our tasks read JSON, not {message.content_type!r}: the message is dropped")
        message.accept = {JSON}
        if fault := _fault(message.headers, message.payload):
            raise InvalidTaskError(f"{fault}: the message is dropped")
        handle(message, *args, **kwargs)

    return read


class JsonRequest(Request):  # type: ignore[misc]
    """A request that was read already: the pool's processes don't ask the app what it accepts."""

    def __init__(self, message: Any, *, body: Any = None, decoded: bool = False, **options: Any) -> None:
        super().__init__(message, body=body if decoded else message.payload, decoded=True, **options)


class JsonTask(Task):  # type: ignore[misc]
    """A task whose messages are read here."""

    abstract = True
    Strategy = "sessionsweep_workers.request:json_strategy"
    Request = "sessionsweep_workers.request:JsonRequest"


def _fault(headers: Any, body: Any) -> str:
    """What is wrong with a message of Celery's protocol 2; empty: nothing."""
    if not (isinstance(headers.get("task"), str) and isinstance(headers.get("id"), str)):
        return "it names no task and id in its headers"
    limits = headers.get("timelimit") or [None, None]
    if not (isinstance(limits, list) and len(limits) == 2 and all(_is_limit(limit) for limit in limits)):
        return "its time limits are not two numbers"
    if not (isinstance(body, list) and [type(part) for part in body] == [list, dict, dict]):
        return "its body is not arguments, named arguments and options"
    return ""


def _is_limit(seconds: Any) -> bool:
    return seconds is None or (isinstance(seconds, int | float) and not isinstance(seconds, bool))
