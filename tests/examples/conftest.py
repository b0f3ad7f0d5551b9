"""The examples as their READMEs run them: real processes, for voice notes two nodes inside the test; and a browser."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from convert_site import Site
from playwright.sync_api import Browser, Page
from web_nodes import BufferedClient, Quiet, WebNode
from werkzeug.serving import make_server

from sessionsweep import Settings
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers.devstack.ports import free_port
from sessionsweep_workers.devstack.server import EmbeddedServer
from sessionsweep_workers.devstack.web import example_parent
from support.browser import chromium, visitor
from support.nodes import KEY
from support.processes import LocalProcess

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


@pytest.fixture
def make_site(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        made.append(Site(tmp_path, redis_url, namespace, **settings))
        try:
            return made[-1].__enter__()
        except BaseException:
            made[-1].__exit__()
            raise

    yield make
    for site in made:
        site.__exit__()


@pytest.fixture
def photo_drop(tmp_path: Path) -> Iterator[str]:
    """The photo drop's address: one process, memory, swept by itself."""
    at = f"127.0.0.1:{free_port()}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SESSIONSWEEP_", "DJANGO_"))}
    env = {
        **kept,
        "DJANGO_SETTINGS_MODULE": "django_photos.settings",
        "SESSIONSWEEP_REDIS_URL": "memory://",
        "SESSIONSWEEP_VOLUMES": f"photos={tmp_path / 'photos'}",
        "SESSIONSWEEP_CLEANUP_INTERVAL": "100ms",
        "PYTHONPATH": str(example_parent()),
    }

    def up() -> bool:
        try:
            return httpx.get(f"http://{at}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    argv = ["python", "-m", "waitress", "--listen", at, "django_photos.urls:application"]
    with LocalProcess("photos", argv, tmp_path, env=env, ready_when=up, ready_timeout=60):
        yield f"http://{at}"


@pytest.fixture
def start_daemon(namespace: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a daemon and answers its address."""
    started: list[subprocess.Popen[str]] = []

    def one(**variables: str) -> str:
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("SESSIONSWEEP_", "SESSION_"))}
        ours |= {"PORT": "0", "SESSIONSWEEP_NAMESPACE": namespace, "SESSIONSWEEP_SECRET_KEY": KEY, **variables}
        command = [sys.executable, "-u", "-m", "session_daemon.daemon"]
        with (tmp_path / f"daemon{len(started)}.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=example_parent(), env=ours, stdout=subprocess.PIPE, stderr=log, text=True
            )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready on port "), (tmp_path / f"daemon{len(started) - 1}.log").read_text()
        return f"ws://127.0.0.1:{line.split()[-1]}"

    yield one
    for process in started:
        process.terminate()
        assert process.wait(20) == 0, "it stops in order"
        assert process.stdout is not None
        process.stdout.close()


def chat_node(name: str, tmp_path: Path, redis_url: str, namespace: str) -> LocalProcess:
    """A node of the chat, without anything that sweeps."""
    return LocalProcess(
        name,
        ["python", "-m", "uvicorn", "socketio_chat.app:app", "--host", "127.0.0.1", "--port", "0"],
        tmp_path,
        cwd=example_parent(),
        env={
            "SESSIONSWEEP_REDIS_URL": redis_url,
            "SESSIONSWEEP_NAMESPACE": namespace,
            "SESSIONSWEEP_SECRET_KEY": KEY,
            "SESSIONSWEEP_NODE": name,
            "SESSIONSWEEP_CLEANUP_INTERVAL": "1",  # how soon a node tells pools anew
        },
        ready_when=re.compile(r"running on (http://\S+)"),
        ready_timeout=60,
    )


@pytest.fixture
def chat_nodes(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[tuple[LocalProcess, LocalProcess]]:
    """Two nodes of the chat, `a` and `b`."""
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(chat_node(name, tmp_path, redis_url, namespace)) for name in "ab")
        yield a, b


@pytest.fixture
def own_chat(
    tmp_path: Path, own_server: Callable[..., EmbeddedServer], namespace: str
) -> Iterator[tuple[LocalProcess, EmbeddedServer]]:
    """One node of the chat, and a server that the test may kill."""
    server = own_server(data_dir=tmp_path / "redis")
    with chat_node("a", tmp_path, server.url, namespace) as node:
        yield node, server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for the tests of a module."""
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with visitor(browser) as page:
        yield page
