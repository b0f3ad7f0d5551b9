"""A web node of the example, inside the test process: its app, behind a real server, on the real store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import WSGIRequestHandler

from sessionsweep import Sessions
from sessionsweep.store.redis.sync import RedisStore
from support.files import files_below


class BufferedClient(FlaskClient):
    """Reads an answer to its end and closes it, as a server does; so a file that stays open is a leak of the app."""

    def open(self, *args: Any, **options: Any) -> Any:
        """See FlaskClient.open."""
        return super().open(*args, **{"buffered": True, **options})


@dataclass
class WebNode:
    """One web node: its app, the address at which it is served, its volume's folder."""

    name: str
    app: Flask
    url: str
    volume: Path

    @property
    def sessions(self) -> Sessions:
        return self.app.extensions["sessionsweep"].sessions  # type: ignore[no-any-return]

    def advance(self, seconds: float) -> None:
        """Moves the store's time, for all nodes of the deployment."""
        store = self.sessions.store
        assert isinstance(store, RedisStore)
        store.advance(round(seconds * 1000))

    def files(self) -> list[Path]:
        """The sessions' files on its volume."""
        return files_below(self.volume / "files")


class Quiet(WSGIRequestHandler):
    def log_request(self, *args: Any, **kwargs: Any) -> None:
        """A passing test prints nothing."""
