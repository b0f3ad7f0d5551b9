"""The way from the command line to the workers, where there are some."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sessionsweep.cli.output import note
from sessionsweep.errors import SessionSweepError
from sessionsweep.settings import Settings

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
    return Sender(Dispatcher(settings))


class Sender:
    """Sends passes to the workers and waits for their records. A context manager."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def send(self, name: str) -> str:
        """Asks for a pass: idle, expired or orphans. The id of the request.

        Raises:
            SessionSweepError: the broker doesn't take it.
        """
        return self._dispatcher.dispatch(f"sessionsweep.sweep_{name}")

    def finish(self, request: str, timeout: float, tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """The record of a request once it has ended, on every node that has a part in it.

        Raises:
            SessionSweepError: it hasn't within `timeout` seconds.
        """

        def tick(waited: float) -> None:
            tell(f"waiting for the workers, {waited:.0f} s")

        try:
            return self._dispatcher.wait(request, timeout, tick)
        except TimeoutError as error:
            raise SessionSweepError(f"Request {request}: {error} With --here it runs in this process.") from error

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dispatcher.close()
