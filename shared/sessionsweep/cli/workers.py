"""The way from the command line to the workers, where there are some."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sessionsweep.cli.connecting import Deployment
from sessionsweep.cli.output import note
from sessionsweep.errors import SessionSweepError
from sessionsweep.settings import Settings, redact_url
from sessionsweep.store import operations as op

if TYPE_CHECKING:
    from sessionsweep_workers.dispatcher import Dispatcher


def sender(settings: Settings) -> Sender | None:
    """How to reach the workers; None where this process does the work: SWEEPER=in-process, or Celery isn't here."""
    if settings.sweeper != "workers":
        return None
    try:
        from sessionsweep_workers.dispatcher import Dispatcher
    except ModuleNotFoundError as error:
        note(
            f"{error.name} isn't installed (pip install 'sessionsweep[workers]'): it runs here, on this node's volumes."
        )
        return None
    return Sender(Dispatcher(settings), settings)


class Sender:
    """Sends passes to the workers and waits for their records. A context manager."""

    def __init__(self, dispatcher: Dispatcher, settings: Settings) -> None:
        self._dispatcher = dispatcher
        self._settings = settings

    def send(self, name: str) -> str:
        """Asks for a pass: idle, expired or orphans. The id of the request.

        Raises:
            SessionSweepError: the broker doesn't take it.
        """
        try:
            return self._dispatcher.dispatch(f"sessionsweep.sweep_{name}")
        except SessionSweepError:
            raise
        except Exception as error:  # Celery, kombu and the driver each have their own
            url = redact_url(self._settings.broker_url or self._settings.redis_url)
            raise SessionSweepError(
                f"The broker {url} doesn't take messages ({type(error).__name__}); with --here it runs in this process."
            ) from error

    def finish(
        self, there: Deployment, name: str, timeout: float, tell: Callable[[str], None] = lambda _: None
    ) -> list[dict[str, Any]]:
        """Asks, waits, and asks again while there is more; the records of all that ran.

        Raises:
            SessionSweepError: no worker did it within `timeout` seconds.
        """
        records = []
        while True:
            request = self.send(name)
            first = self._wait(request, timeout, tell)
            records.append(first)
            if not first["result"].get("more") or first["state"] != "done" or name == "orphans":
                break
        if name == "orphans":
            # The worker that took it sent every volume that its node doesn't mount to one that does.
            others = _live_volumes(there, but=first["node"])
            records.extend(self._wait(f"{request}.{volume_id}", timeout, tell) for volume_id in others)
        return records

    def _wait(self, request: str, timeout: float, tell: Callable[[str], None]) -> dict[str, Any]:
        try:
            return self._dispatcher.wait(request, timeout, lambda waited: tell(f"waiting for a worker, {waited:.0f} s"))
        except TimeoutError as error:
            raise SessionSweepError(
                f"No worker has done request {request} within {timeout:g} s; it may still. Is one running? With --here "
                "it runs in this process."
            ) from error

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dispatcher.close()


def _live_volumes(there: Deployment, but: str) -> list[str]:
    """Volumes that some live node mounts and node `but` doesn't."""
    now = there.store.execute(op.Facts()).now
    nodes: Mapping[str, Any] = {n: json.loads(row) for n, row in there.store.execute(op.Table("n")).items()}
    taken = set(nodes.get(but, {}).get("volumes", ()))
    patience = there.settings.node_timeout * 1000
    live = {v for about in nodes.values() if now - about["at"] <= patience for v in about["volumes"]}
    return sorted(live - taken)
