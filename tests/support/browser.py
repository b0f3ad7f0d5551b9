"""A real browser for tests of pages and scripts: Debian's chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = os.environ.get("TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

expect.set_options(timeout=30_000)  # ms; a machine with much to do is no fault of the page's

#: On a developer's machine without one; CI must try the pages.
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no chromium here: apt-get install chromium"
)


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """Starts one and closes it at the end of the block."""
    assert CHROMIUM is not None, "CI must try the page: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *options])
        yield started
        started.close()


@contextmanager
def visitor(browser: Browser, one_host: bool = False) -> Iterator[Page]:
    """A visitor's first page. Whatever it complains of on its console, or its CSP refuses, fails the test; with
    `one_host` also what it asks of other hosts.
    """
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    asked: set[str] = set()

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    yield page
    context.close()
    assert complaints == []
    assert len(asked) <= 1 or not one_host, f"a page asks other hosts: {asked}"
