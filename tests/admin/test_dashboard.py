"""The dashboard in a real browser (Debian's chromium): what whoever is on call sees and does on each page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from admin_client import READ, WRITE, Admin
from dashboard_looks import CONTRAST, NAMELESS
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from support.browser import chromium, needs_chromium

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A visitor's page. What it complains of on its console, and what it asks of other hosts, fails the test."""
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
    assert len(asked) <= 1, "a page asks another host"


def log_in(page: Page, admin: Admin, token: str = WRITE, path: str = "/") -> None:
    page.goto(f"{admin.http.base_url}/admin{path}")
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def renew(page: Page) -> None:
    """What the page's timer does every 5 s."""
    page.wait_for_function("window.htmx && document.readyState === 'complete'")
    page.evaluate("htmx.trigger(document.getElementById('live'), 'every')")


def tile(page: Page, name: str) -> str:
    return page.locator(f".tiles div:has(dt:text-is('{name}')) dd").first.inner_text()


def test_a_token_opens_the_overview_and_a_log_out_closes_it(page: Page, admin: Admin) -> None:
    admin.node.session_with_file(2000, user="ana")
    log_in(page, admin)
    expect(page.get_by_role("heading", name="Overview")).to_be_attached()
    assert (tile(page, "Active sessions"), tile(page, "They hold"), tile(page, "Books")) == ("1", "2 kB", "Balanced")
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/admin")
    assert WRITE not in cookie["value"]
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Admin token")).to_be_focused()
    assert page.context.cookies() == []


def test_the_page_that_was_asked_for_comes_after_the_log_in(page: Page, admin: Admin) -> None:
    log_in(page, admin, READ, "/?from=pager")
    assert page.url.endswith("/admin/?from=pager")
    expect(page.get_by_text("Read only")).to_be_visible()


def test_a_wrong_token_is_said(browser: Browser, admin: Admin) -> None:
    page = browser.new_page()  # its console may complain: a 401 is logged there
    page.goto(f"{admin.http.base_url}/admin/")
    page.get_by_label("Admin token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is no valid token.")
    page.close()


def test_the_overview_moves_while_it_lies_open(page: Page, admin: Admin) -> None:
    node = admin.node
    session, _, _ = node.session_with_file(1000)
    node.sweep.run_once()
    node.upkeep.run_once()
    log_in(page, admin)
    expect(page.get_by_role("heading", name="All is well")).to_be_visible()
    expect(page.locator("#charts canvas")).to_have_count(4)
    for _ in range(4):
        node.sessions.create()
    session.end()
    node.advance(5)
    renew(page)
    expect(page.locator(".tiles dd").first).to_have_text("4")
    expect(page.locator("#charts canvas")).to_have_count(4)
    expect(page.locator(".u-legend").first).to_contain_text("logout")
    assert page.evaluate("JSON.parse(sessionStorage.getItem('sessionsweep:/admin/:samples')).length") == 2


def test_what_is_wrong_is_said_in_plain_words_and_clears(page: Page, make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(reclaim_tries=1)
    node = admin.node
    node.upkeep.run_once()
    session, rid, path = node.session_with_file(9)
    node.sweep.run_once()
    path.unlink()
    path.mkdir()  # no file of ours: it can't be deleted
    session.end()
    node.advance(5)
    node.reclaim.run_once()
    log_in(page, admin)
    health = page.get_by_role("region", name="Health")
    expect(health).to_contain_text("1 dead letter to look at.")
    node.advance(120)
    renew(page)
    expect(health).to_contain_text("The worker of a is silent for 2m")
    expect(health).to_contain_text("The last sweep ran 2m")
    path.rmdir()
    admin.post(f"/dead-letters/{rid}/retry")
    for one in (node.upkeep, node.sweep, node.reclaim):
        one.run_once()
    renew(page)
    expect(health).to_contain_text("All is well")


def test_an_open_page_whose_visit_is_over_asks_to_log_in(page: Page, admin: Admin) -> None:
    log_in(page, admin)
    page.context.clear_cookies()
    renew(page)
    expect(page.get_by_label("Admin token")).to_be_visible()
    assert "next=%2Fadmin%2F" in page.url


def test_a_store_that_is_away_is_a_page_that_heals(
    browser: Browser, own_server: Callable[..., object], make_admin: Callable[..., Admin], tmp_path: object
) -> None:
    server = own_server(data_dir=tmp_path)
    admin = make_admin(url=server.url)  # type: ignore[attr-defined]
    page = browser.new_page()  # its console may complain: a 503 is logged there
    log_in(page, admin)
    server.kill()  # type: ignore[attr-defined]
    renew(page)
    expect(page.get_by_role("heading", name="The store doesn't answer")).to_be_visible()
    assert "127.0.0.1" not in page.content()
    response = page.reload()
    assert response is not None
    assert response.status == 503
    server.start()  # type: ignore[attr-defined]
    renew(page)
    expect(page.locator(".tiles")).to_be_visible(timeout=20_000)
    page.close()


PAGES = ["/"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_on_a_phone_and_a_desk(
    page: Page, make_admin: Callable[..., Admin], scheme: str
) -> None:
    admin = make_admin(reclaim_tries=1)
    node = admin.node
    session, _, path = node.session_with_file(9, user="Averylongwordthatnobodybreaks" * 8)
    node.session_with_file(9, user="ana")
    node.upkeep.run_once()
    path.unlink()
    path.mkdir()
    session.end()
    node.advance(5)
    node.reclaim.run_once()
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    log_in(page, admin)
    ids = [one["session_id"] for one in admin.get("/sessions")["sessions"]] + [session.id]
    for path_ in [*PAGES, *(f"/ui/sessions/{one}" for one in ids if len(PAGES) > 1)]:
        for width in (320, 390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(f"{admin.http.base_url}/admin{path_}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path_} scrolls sideways"
        assert page.evaluate(CONTRAST) == [], f"{path_}: less than 4.5:1 (WCAG 2.2, 1.4.3)"
        assert page.evaluate(NAMELESS) == [], f"{path_}: something without a name"
