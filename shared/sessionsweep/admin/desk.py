"""What the admin side works on: the deployment's store, its doorkeeper, and the way to its workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from sessionsweep.admin.access import Doorkeeper, Grant, Scope
from sessionsweep.admin.problems import NoWorkersError, UnavailableError
from sessionsweep.errors import SessionSweepError
from sessionsweep.integrations.forwarded import client_address
from sessionsweep.operator.reached import Deployment
from sessionsweep.sessions.sync import Sessions

if TYPE_CHECKING:
    from sessionsweep_workers.dispatcher import Dispatcher

log = logging.getLogger(__name__)

READERS = 3  # of long listings at once in this process
PATIENCE = 1.0  # seconds that another waits for its turn: it holds a thread meanwhile
_header = APIKeyHeader(name="X-Admin-Token", auto_error=False, description="A token of SESSIONSWEEP_ADMIN_TOKEN.")
_bearer = HTTPBearer(auto_error=False, description="The same token, as a Bearer.")


class Desk(Deployment):
    """One deployment as the admin side sees it.

    Raises:
        ConfigurationError: no admin token is configured; the store is another process's memory.
    """

    def __init__(self, sessions: Sessions, prefix: str) -> None:
        self.doorkeeper = Doorkeeper(sessions.settings)
        super().__init__(sessions)
        self.prefix = prefix
        self._dispatcher: Dispatcher | None = None
        self._readers = threading.BoundedSemaphore(READERS)
        self._connecting = threading.Lock()

    def dispatcher(self) -> Dispatcher:
        """The way to the workers.

        Raises:
            NoWorkersError: this deployment has none. UnavailableError: Celery isn't installed here.
        """
        if self.settings.sweeper != "workers":
            raise NoWorkersError("SWEEPER=in-process: each web process sweeps by itself, nobody takes orders.")
        with self._connecting:
            if self._dispatcher is None:
                try:
                    from sessionsweep_workers.dispatcher import Dispatcher
                except ModuleNotFoundError as error:
                    raise UnavailableError(
                        f"{error.name} isn't installed here: pip install 'sessionsweep[workers]'."
                    ) from error
                self._dispatcher = Dispatcher(self.settings)
            return self._dispatcher

    @contextmanager
    def one_of_few(self) -> Iterator[None]:
        """Around what reads thousands of rows: whoever asks for many such pages at once doesn't keep others waiting.

        Raises:
            UnavailableError: others read now.
        """
        if not self._readers.acquire(timeout=PATIENCE):
            raise UnavailableError("Others read much here just now; try again in a moment.")
        try:
            yield
        finally:
            self._readers.release()

    def dispatch(self, task: str, **kwargs: Any) -> str:
        """Sends a task to the workers: the id of its record.

        Raises:
            UnavailableError: there is no way to them, or the broker doesn't take it.
        """
        try:
            return self.dispatcher().dispatch(task, kwargs)
        except UnavailableError:
            raise
        except SessionSweepError as error:
            from sessionsweep_workers.dispatcher import BrokerFullError

            if isinstance(error, BrokerFullError):
                raise UnavailableError(str(error)) from error
            log.warning("%s", error)  # names the broker's host
            raise UnavailableError("The broker doesn't take the message; is it running?") from error

    def close(self) -> None:
        """Closes connections to the broker. Idempotent."""
        with self._connecting:
            if self._dispatcher is not None:
                self._dispatcher.close()
                self._dispatcher = None


def desk(request: Request) -> Desk:
    """The app's desk."""
    return cast(Desk, request.app.state.desk)


def address_of(request: Request, at: Desk) -> str:
    """Whose wrong tokens are counted together: the client's address, as listed proxies tell it."""
    peer = request.client.host if request.client else None
    forwarded = ", ".join(request.headers.getlist("x-forwarded-for"))
    return client_address(peer, forwarded, at.settings.trusted_proxies) or "unknown"


def _let_in(scope: Scope) -> Any:
    def check(
        request: Request,
        at: Annotated[Desk, Depends(desk)],
        key: Annotated[str | None, Depends(_header)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Grant:
        token = key or (bearer.credentials if bearer else None)
        return at.doorkeeper.check(token, address_of(request, at), scope)

    return check


Here = Annotated[Desk, Depends(desk)]
Reader = Annotated[Grant, Depends(_let_in(Scope.READ))]
Writer = Annotated[Grant, Depends(_let_in(Scope.WRITE))]
