"""How the command line and the admin side reach the workers: send a task, wait for its record."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from kombu.exceptions import OperationalError

from sessionsweep.errors import ConfigurationError, SessionSweepError
from sessionsweep.sessions.connect import make_store
from sessionsweep.settings import Settings
from sessionsweep_workers import names, passes
from sessionsweep_workers.application import broker_url, build

POLL = 0.1  # seconds between two looks at the record
PATIENCE = 2.0  # seconds that a broker may take to say how long its queues are


class Dispatcher:
    """Sends tasks to the workers of one deployment. The answer is a record in the store, not a Celery result.

    Raises:
        ConfigurationError: there is no broker (`memory://`).
    """

    def __init__(self, settings: Settings) -> None:
        self._app = build(settings)
        self._on_redis = broker_url(settings).startswith(("redis", "sentinel"))
        self._store = make_store(settings)

    def dispatch(self, task: str, kwargs: Mapping[str, Any] | None = None, queue: str | None = None) -> str:
        """Sends a task; the id under which its record will appear.

        Raises:
            ConfigurationError: there is no such task. TypeError: it takes no such argument.
            BrokerUnavailableError: the broker doesn't take the message. BrokerFullError: for want of memory.
        """
        if task not in names.TASKS:
            raise ConfigurationError(f"{task!r} is not a task of ours; one of {', '.join(names.TASKS)}")
        request_id = str(uuid.uuid4())
        arguments = {**(kwargs or {}), "request_id": request_id}
        try:
            self._app.tasks[task].apply_async(
                kwargs=arguments, queue=queue or names.QUEUE, task_id=request_id, retry=False
            )
        except OperationalError as error:
            if "maxmemory" in str(error):  # a Redis or Valkey that is full
                raise BrokerFullError from error
            raise BrokerUnavailableError(f"the broker doesn't take the message ({error}); is it running?") from error
        return request_id

    def read(self, request_id: str) -> dict[str, Any] | None:
        """The record of a request as it is (see passes.read); None: no worker has begun."""
        return passes.read(self._store, request_id)

    def last_runs(self) -> dict[str, dict[str, Any]]:
        """The record of each task's last run, by `<task>` or `<task>:<volume>`, whoever asked for it."""
        return {name: asdict(run) for name, run in passes.last_runs(self._store).items()}

    def queue_lengths(self, volume_ids: Iterable[str]) -> dict[str, int]:
        """Messages that no worker has taken yet, by queue: the common one and those of these volumes. Nothing where the
        broker is no Redis: it has a monitor of its own.

        Raises:
            BrokerUnavailableError: the broker doesn't answer.
        """
        if not self._on_redis:
            return {}
        patience = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
        with self._app.connection_for_read(transport_options=patience) as broker:
            try:
                broker.connect()  # tries twice; what a channel does by itself tries for ever
                channel = broker.channel()
                queues = [names.QUEUE, *map(names.volume_queue, volume_ids)]
                return {queue: channel._size(queue) for queue in queues}
            except (*broker.connection_errors, *broker.channel_errors, OperationalError) as error:
                raise BrokerUnavailableError(f"the broker doesn't answer ({error}); is it running?") from error

    def wait(self, request_id: str, timeout: float, tick: Callable[[float], None] = lambda _: None) -> dict[str, Any]:
        """The record of a request when it has ended, with its parts; `state` is `done` or `failed`.

        `tick` is told the seconds waited.

        Raises:
            TimeoutError: no worker has finished it within `timeout` seconds; it may still.
        """
        begun = time.monotonic()
        while True:
            found = self.read(request_id)
            if found is not None and found["state"] in passes.ENDED:
                return found
            waited = time.monotonic() - begun
            if waited > timeout:
                raise TimeoutError(
                    f"no worker answered within {timeout:g} s; is one running?"
                    if found is None
                    else f"not finished within {timeout:g} s; it goes on: {found['result']}"
                )
            tick(waited)
            time.sleep(POLL)

    def close(self) -> None:
        """Closes connections. Idempotent."""
        self._store.close()
        self._app.close()


class BrokerUnavailableError(SessionSweepError):
    """Celery's broker can't be reached; nothing was sent. Workers go on by themselves."""


class BrokerFullError(BrokerUnavailableError):
    """It runs, and has no memory for a message."""

    def __init__(self) -> None:
        super().__init__(
            "The broker's memory is full (maxmemory), so it takes no message. Workers sweep and delete by themselves; "
            "to end sessions at once: sessionsweep sweep idle --here. Give it more memory."
        )
