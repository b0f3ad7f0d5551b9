"""The daemon's page in a real browser: its WebSocket, its end in silence, and that it is nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect

from sessionsweep import Sessions, Settings
from support.browser import needs_chromium
from support.looks import check_looks, check_names
from support.nodes import KEY

pytestmark = needs_chromium
Start = Callable[..., str]


def join(page: Page, session_id: str) -> None:
    page.get_by_role("textbox", name="The id of your session").fill(session_id)
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("You are connected.")


def test_a_visit(page: Page, start_daemon: Start, redis_url: str, namespace: str) -> None:
    url = start_daemon(SESSIONSWEEP_REDIS_URL=redis_url).replace("ws", "http")
    page.goto(url)
    check_looks(page)
    join(page, "<i>one</i>")
    expect(page.get_by_role("heading", name="Session <i>one</i>")).to_be_visible()
    expect(page.get_by_role("textbox", name="A message")).to_be_focused()
    page.keyboard.type("x" * 200)
    page.keyboard.press("Enter")
    expect(page.get_by_role("log")).to_have_text("x" * 200)
    other = page.context.new_page()
    other.goto(url)
    join(other, "two")
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_role("region", name="Live sessions").get_by_role("listitem")).to_have_text(["<i>one</i>", "two"])
    check_looks(page)
    check_names(page)

    sessions = Sessions(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY))
    sessions.end(key="<i>one</i>", reason="admin")
    sessions.close()
    expect(page.get_by_role("status")).to_have_text("The daemon closed the connection: session over: admin.")
    expect(page.get_by_role("textbox", name="The id of your session")).to_be_focused()
    expect(other.get_by_role("status")).to_have_text("You are connected.")
    other.get_by_role("button", name="Disconnect").click()
    expect(other.get_by_role("status")).to_have_text("You are not connected.")


def test_another_sites_page_can_not_connect(start_daemon: Start, browser: Browser) -> None:
    mine, others = start_daemon(), start_daemon()
    context = browser.new_context()  # its console complains, as it should
    page = context.new_page()
    opens = """(url) => new Promise((done) => {
        const socket = new WebSocket(url);
        socket.onopen = () => done(true);
        socket.onerror = () => done(false);
    })"""
    page.goto(f"{mine.replace('ws', 'http')}/nothing")  # without a policy that would stop it by itself
    assert page.evaluate(opens, mine) is True
    assert page.evaluate(opens, others) is False
    context.close()


def test_the_page_is_all_that_is_sent(start_daemon: Start) -> None:
    url = start_daemon().replace("ws", "http")
    with urlopen(url) as page:
        policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    for path in ("/page.py", "/../daemon.py", "//etc/passwd", "/static/app.js"):
        with pytest.raises(HTTPError) as refused:
            urlopen(url + path)
        assert refused.value.code == 404
        refused.value.close()
