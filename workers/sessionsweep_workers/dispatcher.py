"""How the command line and the admin side reach the workers: send a task, wait for its record."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sessionsweep.sessions.connect import make_store
from sessionsweep.settings import Settings
from sessionsweep_workers import names, passes
from sessionsweep_workers.app import build


class Dispatcher:
    """Sends tasks to the workers of one deployment. The answer is a record in the store, not a Celery result."""

    def __init__(self, settings: Settings) -> None:
        self._app = build(settings)
        self._store = make_store(settings)

    def dispatch(self, task: str, kwargs: Mapping[str, Any] | None = None, queue: str | None = None) -> str:
        """Sends a task; the id under which its record will appear."""
        request_id = str(uuid.uuid4())
        arguments = {**(kwargs or {}), "request_id": request_id}
        self._app.send_task(task, kwargs=arguments, queue=queue or names.QUEUE, task_id=request_id)
        return request_id

    def wait(self, request_id: str, timeout: float, tick: Callable[[float], None] = lambda _: None) -> dict[str, Any]:
        """The record of a request, when it has ended; `tick` is told the seconds waited.

        Raises:
            TimeoutError: no worker has done it within `timeout` seconds; it may still.
        """
        begun = time.monotonic()
        while True:
            found = passes.read(self._store, request_id)
            if found is not None:
                return found
            waited = time.monotonic() - begun
            if waited > timeout:
                raise TimeoutError(f"no worker answered within {timeout:.0f} s; is one running?")
            tick(waited)
            time.sleep(0.1)

    def close(self) -> None:
        """Closes connections."""
        self._store.close()
        self._app.close()
