"""The example on two nodes of one deployment: as WSGI apps, and behind real servers."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from web_nodes import BufferedClient, Quiet, WebNode
from werkzeug.serving import make_server

from sessionsweep import Settings
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers.devstack.web import example_parent
from support.nodes import KEY

sys.path.append(str(example_parent()))


@pytest.fixture
def make_web_nodes(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[WebNode]]]:
    """Serves the example on nodes of the given names; further arguments are settings of all of them."""
    from voice_notes.app import create_app

    with contextlib.ExitStack() as stack:

        def make(*names: str, clock: bool = True, url: str = redis_url, **settings: Any) -> list[WebNode]:
            listeners = []
            for _ in names:
                listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                listeners.append(listener)
            urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
            monkeypatch.setenv("VOICE_NOTES_NODES", ",".join(map("=".join, zip(names, urls, strict=True))))
            nodes = []
            for name, address, listener in zip(names, urls, listeners, strict=True):
                volume = tmp_path / name
                app = create_app(
                    Settings(
                        redis_url=url,
                        namespace=namespace,
                        secret_key=KEY,
                        node=name,
                        volumes=f"{name}={volume}",
                        **settings,
                    )
                )
                app.test_client_class = BufferedClient
                node = WebNode(name, app, address, volume)
                if clock:
                    node.sessions.store = RedisStore(url, namespace, test_clock=True)
                stack.callback(node.sessions.close)
                server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet, fd=listener.fileno())
                thread = threading.Thread(target=server.serve_forever, args=(0.02,))
                thread.start()
                for end in (server.server_close, thread.join, server.shutdown):
                    stack.callback(end)
                nodes.append(node)
            return nodes

        yield make


@pytest.fixture
def nodes(make_web_nodes: Callable[..., list[WebNode]]) -> list[WebNode]:
    """Two nodes, `node-a` and `node-b`, whose time the test moves."""
    return make_web_nodes("node-a", "node-b")
