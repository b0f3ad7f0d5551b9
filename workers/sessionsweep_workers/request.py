"""How a worker reads our messages: JSON alone, whatever else the app that we are installed in accepts.

An app that accepts pickle alone would refuse our messages, and one that accepts pickle too would unpickle what somebody
sent under our tasks' names. So our messages are read here, and go to the pool as plain data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from celery.worker.strategy import default

JSON = "application/json"


def json_strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., None]:
    """Celery's own strategy, for JSON messages; others are dropped unread."""
    handle = default(task, app, consumer, **options)

    def read(message: Any, *args: Any, **kwargs: Any) -> None:
        if message.content_type != JSON:
            raise InvalidTaskError(f"our tasks read JSON, not {message.content_type!r}: the message is dropped")
        message.accept = {JSON}
        handle(message, *args, **kwargs)

    return read


class JsonRequest(Request):  # type: ignore[misc]
    """A request that was read already: the pool's processes don't ask the app what it accepts."""

    def __init__(self, message: Any, *, body: Any = None, decoded: bool = False, **options: Any) -> None:
        super().__init__(message, body=body if decoded else message.payload, decoded=True, **options)
