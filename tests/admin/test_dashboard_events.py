"""The page of events and a session's timeline in a real browser: live, paused, filtered, cut off, without a script."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from admin_client import READ, WRITE, Admin
from dashboard_visitor import log_in
from playwright.sync_api import Browser, Page, expect

from sessionsweep.admin import feed
from sessionsweep.model.events import EventName
from sessionsweep.operator.reached import Deployment
from sessionsweep.store import operations as op
from support.browser import needs_chromium, visitor
from support.looks import CONTRAST, NAMELESS

pytestmark = needs_chromium
HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[31m"


@pytest.fixture
def admin(make_admin: Callable[..., Admin], monkeypatch: pytest.MonkeyPatch) -> Iterator[Admin]:
    """One whose feed ends before its server stops, as `sessionsweep admin` does it: browsers keep streams open."""
    made: list[feed.Feed] = []
    begin = feed.Feed.__init__

    def kept(self: feed.Feed, here: Deployment) -> None:
        begin(self, here)
        made.append(self)

    monkeypatch.setattr(feed.Feed, "__init__", kept)
    monkeypatch.setattr(feed, "POLL", 0.1)
    yield make_admin(idle_timeout=600, max_duration=6000)
    for one in made:
        one.close()


@pytest.fixture
def page(browser: Browser, admin: Admin) -> Iterator[Page]:
    """One that closes before the feed does: it would ask again, and complain that nobody answers."""
    with visitor(browser, one_host=True) as page:
        yield page


def tell(admin: Admin, text: str) -> None:
    admin.node.store.execute(op.Emit(EventName.HOLD_SET, fields={"scope": "all", "code": "a-test", "text": text}))


def test_what_happens_comes_on_top_while_the_page_lies_open(page: Page, admin: Admin) -> None:
    before, _ = admin.node.sessions.create()
    log_in(page, admin, READ, "/")
    page.get_by_role("link", name="Events", exact=True).click()
    rows = page.locator("#events tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text(before.id)
    expect(page.locator("#feed")).to_have_text("Live")
    tell(admin, HOSTILE)
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("hold_set")
    expect(rows.first).to_contain_text("<img src=x onerror=alert(1)>\\u202e\\u001b[31m")
    expect(rows.first.locator(".bad")).to_have_text("hold_set")
    page.reload()
    expect(rows.first).to_contain_text("<img src=x onerror=alert(1)>\\u202e\\x1b[31m")
    page.get_by_role("link", name=before.id).click()
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(page.locator("#timeline tbody tr")).to_have_count(1)


def test_a_pause_holds_the_page_still_and_misses_nothing(page: Page, admin: Admin) -> None:
    log_in(page, admin, READ, "/ui/events")
    rows = page.locator("#events tbody tr")
    expect(page.get_by_text("Nothing happened in the last 15 minutes.")).to_be_visible()
    expect(page.locator("#feed")).to_have_text("Live")
    admin.node.sessions.create()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#feed")).to_have_text("Paused")
    for number in range(3):
        tell(admin, f"number {number}")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Go on").click()
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("number 2")
    expect(rows.last).to_contain_text("session_created")


def test_a_filter_by_name_and_by_session(page: Page, admin: Admin) -> None:
    one, _ = admin.node.sessions.create()
    other, _ = admin.node.sessions.create()
    log_in(page, admin, READ, "/ui/events")
    page.get_by_label("Name").select_option("session_ended")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Nothing that fits happened in the last 15 minutes.")).to_be_visible()
    expect(page.locator("#feed")).to_have_text("Live")
    one.end()
    rows = page.locator("#events tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("ended: logged out")
    page.get_by_role("link", name="Clear").click()
    page.get_by_label("Session", exact=True).fill(other.id)
    page.get_by_role("button", name="Show").click()
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text(other.id)


def test_a_session_shows_its_timeline(page: Page, admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(2000, user="ana")
    session.log_in("ben")
    session.end()
    admin.node.reclaim.run_once()
    log_in(page, admin, READ, f"/ui/sessions/{session.id}")
    timeline = page.locator("#timeline")
    expect(timeline.locator("tbody tr").first).to_contain_text("began")
    expect(timeline).to_contain_text("got a new token: ben logged in")
    expect(timeline).to_contain_text("deleted 1 resource (2 kB) on a")
    expect(timeline.locator("tbody tr").last).to_contain_text("owes nothing more")


def test_a_feed_that_ended_is_said(browser: Browser, admin: Admin) -> None:
    context = browser.new_context()
    page = context.new_page()  # its console may complain: a 401 is logged there
    log_in(page, admin, READ, "/ui/events")
    expect(page.locator("#feed")).to_have_text("Live")
    page.get_by_role("button", name="Pause").click()
    context.clear_cookies()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#feed")).to_have_text("Ended: load the page again")
    context.close()


def test_without_a_script_the_page_shows_what_happened(browser: Browser, admin: Admin) -> None:
    session, _ = admin.node.sessions.create()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, admin, READ, "/ui/events")
    expect(page.locator("#events tbody tr")).to_have_count(1)
    expect(page.get_by_role("button", name="Pause")).not_to_be_visible()
    admin.node.sessions.create()
    page.get_by_role("link", name="Look again").click()
    expect(page.locator("#events tbody tr")).to_have_count(2)
    page.goto(f"{admin.http.base_url}/admin/ui/sessions/{session.id}")
    page.get_by_role("link", name="What happened to it, step by step").click()
    expect(page.locator("#timeline tbody tr")).to_have_count(1)
    context.close()


def test_the_pages_of_events_need_a_visit_and_take_no_nonsense(admin: Admin) -> None:
    http = admin.http
    for path in ("/ui/events", "/ui/sessions/00aaaaaaaaaaaaaaaaaa/timeline"):
        assert http.get(f"/admin{path}").status_code == 303, path
    assert http.get("/admin/ui/events/stream").status_code == 401
    assert http.get("/admin/ui/events/stream", headers={"X-Admin-Token": WRITE}).status_code == 401
    answer = http.post("/admin/ui/login", data={"token": READ}, headers={"Sec-Fetch-Site": "same-origin"})
    http.cookies = answer.cookies
    assert http.get("/admin/ui/events", params={"name": "nonsense"}).status_code == 422
    assert http.get("/admin/ui/events", params={"session": "<script>"}).status_code == 422
    assert http.get("/admin/ui/sessions/00aaaaaaaaaaaaaaaaaa/timeline").status_code == 404
    assert http.get("/admin/ui/sessions/nonsense/timeline").status_code == 404
    for nonsense in ({"cursor": "x"}, {"name": "x"}, {"session": "x"}):
        assert http.get("/admin/ui/events/stream", params=nonsense).status_code in (404, 422)


def test_the_pages_can_be_read_on_a_phone_and_a_desk(page: Page, admin: Admin) -> None:
    node = admin.node
    session, _, _ = node.session_with_file(9, user="Averylongwordthatnobodybreaks" * 6)
    session.log_in("Averylongwordthatnobodybreaks" * 8)
    tell(admin, "x" * 200)
    session.end()
    node.reclaim.run_once()
    log_in(page, admin, READ, "/")
    shots = os.environ.get("SCREENSHOTS")
    for one in ("/ui/events", f"/ui/sessions/{session.id}/timeline", f"/ui/sessions/{session.id}"):
        page.goto(f"{admin.http.base_url}/admin{one}")
        expect(page.locator("tbody tr").first).to_be_visible()
        for width in (320, 390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{one} scrolls sideways"
        assert page.evaluate(NAMELESS) == [], f"{one}: something without a name"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert page.evaluate(CONTRAST) == [], f"{one}, {scheme}: less than 4.5:1 (WCAG 2.2, 1.4.3)"
            if shots:
                for width in (390, 1280):
                    page.set_viewport_size({"width": width, "height": 900})
                    name = one.strip("/").replace("/", "-").replace(session.id, "ID")
                    page.screenshot(path=Path(shots) / f"{name}-{scheme}-{width}.png", full_page=True)
