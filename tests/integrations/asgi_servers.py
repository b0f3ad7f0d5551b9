"""Runs uvicorn processes of `asgi_served:app` for tests, all of one deployment."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.nodes import KEY
from support.processes import LocalProcess

Serve = Callable[..., "Server"]


class Server(LocalProcess):
    """One uvicorn process, on a port that it chose itself."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.wait_for_log(re.compile(r"running on (http://\S+)"), after=self._log_start)[1]


@pytest.fixture(name="serve")
def serve_fixture(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Serve]:
    """Starts uvicorn processes of `asgi_served:app`, all of one deployment."""
    here = Path(__file__).parent
    with contextlib.ExitStack() as stack:

        def make(name: str = "a", **env: str) -> Server:
            folders = (str(here), str(here.parent), os.environ.get("PYTHONPATH", ""))
            server = Server(
                name,
                ["python", "-m", "uvicorn", "asgi_served:app", "--host", "127.0.0.1", "--port", "0"],
                tmp_path,
                env={
                    "PYTHONPATH": os.pathsep.join(folders),
                    "SESSIONSWEEP_REDIS_URL": redis_url,
                    "SESSIONSWEEP_NAMESPACE": namespace,
                    "SESSIONSWEEP_SECRET_KEY": KEY,
                    "SESSIONSWEEP_NODE": name,
                    **env,
                },
                ready_when=re.compile(r"Uvicorn running on"),
                ready_timeout=60,
            )
            return stack.enter_context(server)

        yield make
