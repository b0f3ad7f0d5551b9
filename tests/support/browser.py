"""A real browser for tests of pages and scripts: Debian's chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

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
