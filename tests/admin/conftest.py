"""The admin side over a deployment whose time the test moves, a client with a token for each scope, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from admin_client import OVER, READ, WRITE, Admin
from playwright.sync_api import Browser, Page

from sessionsweep.admin import create_admin
from support.browser import chromium, visitor
from support.nodes import Node
from support.serving import serving


@pytest.fixture
def make_admin(make_node: Callable[..., Node]) -> Iterator[Callable[..., Admin]]:
    with ExitStack() as stack:

        def make(**settings: Any) -> Admin:
            tokens = f"# on call\n{WRITE}\nread {READ}\nread {OVER} 2020-01-01"
            settings = {"admin_token": tokens, "sweeper": "in-process", **settings}
            node = make_node("a", **settings)
            node.mount()
            url = stack.enter_context(serving(create_admin(sessions=node.sessions)))
            return Admin(node, stack.enter_context(httpx.Client(base_url=url, timeout=30)))

        yield make


@pytest.fixture
def admin(make_admin: Callable[..., Admin]) -> Admin:
    return make_admin()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with visitor(browser, one_host=True) as page:
        yield page
