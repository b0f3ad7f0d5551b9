"""Fixtures that every test may use: a real server, and a namespace of one's own on it."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx._transports import default as transports

from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node

HERE = Path(__file__).parent

# A version matrix runs the same tests with TEST_REDIS_SERVER=/path/to/another/redis-server.
BINARY = os.environ.get("TEST_REDIS_SERVER")

# Each client of httpx reads the certificates of the Web's authorities, none of which any test meets; that takes twenty
# times as long as the request: they are read once.
transports.create_ssl_context = functools.cache(transports.create_ssl_context)

#: Whose tests start processes and wait for them: first, so that no process of the run is left alone with them.
SLOW = ("faults", "e2e", "workers", "devstack", "examples", "admin", "deploy", "cli", "integrations", "sessions")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow folders first; within one, and among the others, nothing changes."""

    def turn(item: pytest.Item) -> int:
        folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        return SLOW.index(folder) if folder in SLOW else len(SLOW)

    items.sort(key=turn)


def _keep_what_is_here() -> None:
    """Passed over from now on, it no longer makes each `gc.collect` of a test slow."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """What was imported and collected stays."""
    _keep_what_is_here()


@pytest.fixture(scope="module", autouse=True)
def _what_a_module_imported_stays() -> Iterator[None]:
    yield
    _keep_what_is_here()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """To show a failure pytest parses its source, and CPython 3.11 stops with a SystemError ("AST constructor recursion
    depth mismatch", cpython#106905) when a collection runs finalizers in the middle of that: the whole run would end.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedServer]:
    """One server for this test process; shared, so never flush, kill or reconfigure it (see `own_server`)."""
    # No server, no tests: a ConfigurationError fails them, because a skipped test looks like a passed one.
    with EmbeddedServer(binary=BINARY) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedServer) -> str:
    """The shared server's URL; use it together with `namespace`."""
    return redis_server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses; nothing is flushed after the test."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def own_server() -> Iterator[Callable[..., EmbeddedServer]]:
    """Makes servers for tests that kill, restart, fill or flush theirs; takes `EmbeddedServer`'s arguments.

    They are started already, and stopped after the test.
    """
    with contextlib.ExitStack() as stack:

        def make(**options: object) -> EmbeddedServer:
            server = EmbeddedServer(**{"binary": BINARY, **options})  # type: ignore[arg-type]
            return stack.enter_context(server)

        yield make


@pytest.fixture
def make_node(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Makes nodes of one deployment, on the shared server unless `url=` names another."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "a", url: str | None = None, **settings: Any) -> Node:
            node = Node(url or redis_url, settings.pop("namespace", namespace), tmp_path, name, **settings)
            stack.callback(node.close)
            return node

        yield make


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """The only node of a deployment."""
    return make_node()
