"""The script that warns before a session ends, in a real browser: in time, when needed, by mouse and keyboard."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sessionsweep import InvalidTokenError, Sessions, Settings
from sessionsweep.integrations import timeleft
from support.browser import chromium, needs_chromium

POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"

pytestmark = needs_chromium


class Site:
    """A page of an app that uses the script, and the three paths behind it."""

    def __init__(self, sessions: Sessions, attributes: str = "") -> None:
        self.sessions = sessions
        self.session, self.token = sessions.create()
        self.attributes = attributes
        self.asked: list[str] = []
        self.broken = False
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == timeleft.SCRIPT_PATH:
                    return self.answer(timeleft.script(), timeleft.SCRIPT_TYPE)
                if self.path == timeleft.TIME_LEFT_PATH:
                    return self.time_left(touch=False)
                page = "<!doctype html><title>app</title><button id=work autofocus>Work</button>"
                page += f'<script src="{timeleft.SCRIPT_PATH}" defer {site.attributes}></script>'
                return self.answer(page.encode(), "text/html; charset=utf-8")

            def do_POST(self) -> None:
                self.time_left(touch=True)

            def time_left(self, touch: bool) -> None:
                site.asked.append(self.command)
                if site.broken:
                    self.send_error(503)
                    return
                cookie = SimpleCookie(self.headers.get("Cookie", ""))
                try:
                    token = cookie["t"].value if "t" in cookie else ""
                    seconds = site.sessions.open(token, touch=touch).expires_in
                except InvalidTokenError:
                    seconds = None
                self.answer(json.dumps(timeleft.body(seconds)).encode(), "application/json")

            def answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", POLICY)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.sessions.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


Visit = Callable[..., tuple[Site, Page]]


@pytest.fixture
def visit(browser: Browser, namespace: str) -> Iterator[Visit]:
    """Opens the site with a session that lasts `idle` seconds; what the console complains of fails the test.

    A browser's first page can take ten seconds on a busy machine: warnings come early, long before the end.
    """
    sites, contexts, complaints = [], [], list[str]()

    def one(idle: float, attributes: str = "", logged_in: bool = True) -> tuple[Site, Page]:
        settings = Settings(redis_url="memory://", namespace=namespace, idle_timeout=idle)
        site = Site(Sessions(settings), attributes)
        sites.append(site)
        context = browser.new_context()
        contexts.append(context)
        if logged_in:
            context.add_cookies([{"name": "t", "value": site.token, "url": site.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" and "503" not in m.text else None)
        page.goto(site.url)
        return site, page

    yield one
    for context in contexts:
        context.close()
    for site in sites:
        site.close()
    assert complaints == []


def warning(page: Page) -> object:
    return page.get_by_role("alertdialog", name="Are you still there?")


def test_it_warns_in_time_and_a_click_stays(visit: Visit, tmp_path: Path) -> None:
    site, page = visit(60, 'data-warn="58"')
    expect(warning(page)).not_to_be_visible()
    expect(warning(page)).to_be_visible()
    assert set(site.asked) == {"GET"}, "asking renews nothing"
    assert len(site.asked) >= 2, "it looks again before it warns"
    expect(page.get_by_text(re.compile(r"You will be logged out in \d+ seconds\.")).first).to_be_visible()
    stay = page.get_by_role("button", name="Stay logged in")
    expect(stay).to_be_focused()
    page.screenshot(path=tmp_path / "warning.png")
    before = site.sessions.attach(site.session.id).last_activity
    stay.click()
    expect(warning(page)).not_to_be_visible()
    assert site.sessions.attach(site.session.id).last_activity > before
    expect(warning(page)).to_be_visible()  # and again before the next end


def test_the_keyboard_is_enough_and_focus_comes_back(visit: Visit) -> None:
    site, page = visit(60, 'data-warn="59"')
    expect(warning(page)).to_be_visible()
    page.keyboard.press("Enter")
    expect(warning(page)).not_to_be_visible()
    expect(page.locator("#work")).to_be_focused()
    expect(warning(page)).to_be_visible()
    page.keyboard.press("Escape")  # heard, and no wish to stay
    expect(warning(page)).not_to_be_visible()
    assert site.asked.count("POST") == 1
    site.sessions.end(site.session.id)
    expect(page.get_by_text("You have been logged out.").first).to_be_visible()
    expect(page.get_by_role("alertdialog", name="Your session is over")).to_be_visible()  # asks nobody any more


def test_an_end_elsewhere_is_told(visit: Visit) -> None:
    words = 'data-title="Noch da?" data-ended-title="Ende" data-ended="Das war es." data-close="Zu"'
    site, page = visit(60, f'data-warn="59" {words}')
    page.evaluate("document.addEventListener('sessionsweep:ended', () => { window.over = true; })")
    expect(page.get_by_role("alertdialog", name="Noch da?")).to_be_visible()
    site.sessions.end(site.session.id)
    expect(page.get_by_text("Das war es.").first).to_be_visible()
    expect(page.get_by_role("heading", name="Ende")).to_be_visible()
    assert page.evaluate("window.over") is True
    page.get_by_role("button", name="Zu").click()
    expect(page.get_by_role("alertdialog")).to_have_count(0)


def test_it_goes_where_it_is_told_when_it_is_over(visit: Visit) -> None:
    site, page = visit(60, 'data-warn="59" data-after="/login"')
    expect(warning(page)).to_be_visible()
    site.sessions.end(site.session.id)
    page.wait_for_url("**/login")


def test_another_tab_that_stays_closes_the_warning(visit: Visit) -> None:
    site, page = visit(60, 'data-warn="59"')
    other = page.context.new_page()
    other.goto(site.url)
    expect(warning(page)).to_be_visible()
    expect(warning(other)).to_be_visible()
    other.get_by_role("button", name="Stay logged in").click()
    expect(warning(page)).not_to_be_visible()


def test_a_failure_is_told_and_may_be_tried_again(visit: Visit) -> None:
    site, page = visit(20, 'data-warn="19.5"')
    expect(warning(page)).to_be_visible()
    site.broken = True
    page.get_by_role("button", name="Stay logged in").click()
    expect(page.get_by_role("alert")).to_have_text("That did not work. Try again.")
    site.broken = False
    page.get_by_role("button", name="Stay logged in").click()
    expect(warning(page)).not_to_be_visible()


def test_without_a_session_nothing_is_shown_and_nothing_made(visit: Visit) -> None:
    site, page = visit(5, 'data-warn="60"', logged_in=False)
    with page.expect_response(lambda answer: answer.url.endswith(timeleft.TIME_LEFT_PATH)):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("alertdialog")).to_have_count(0)
    assert site.sessions.stats().total_sessions_created == 1  # the site's own
