"""Trends in a real browser: charts and figures of what was done, in light and dark, on a phone, by keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from admin_client import READ, Admin
from dashboard_visitor import log_in, renew, tile
from past_work import FOREVER, past
from playwright.sync_api import Browser, Page, expect

from support.browser import needs_chromium
from support.looks import FOCUS, check_looks, check_names

pytestmark = needs_chromium
CHARTS = 8


@pytest.fixture
def admin(make_admin: Callable[..., Admin]) -> Admin:
    return make_admin(**FOREVER)


def legend(page: Page, chart: str) -> str:
    return page.locator(f"[data-chart={chart}] .u-legend").inner_text()


def rows(page: Page) -> list[list[str]]:
    """The figures: created, ended, why."""
    lines = page.locator(".tall tbody tr").all()
    return [[cell.inner_text() for cell in line.locator("td").all()[:3]] for line in lines]


def test_what_was_done_by_the_hour_day_and_minute(page: Page, admin: Admin) -> None:
    past(admin)
    log_in(page, admin, READ, "/")
    page.get_by_role("link", name="Trends", exact=True).first.click()
    expect(page.get_by_role("link", name="14 days")).to_have_attribute("aria-current", "true")
    expect(page.locator("#charts canvas")).to_have_count(CHARTS)
    assert (tile(page, "Created"), tile(page, "Ended"), tile(page, "Most at once")) == ("10", "6", "4")
    assert [one for one in rows(page) if one[0] != "0"] == [
        ["4", "3", "3 logout"], ["3", "2", "2 logout"], ["2", "1", "1 logout"], ["1", "0", ""],
    ]  # fmt: skip
    assert re.search(r"created\D*4\D+3\b", legend(page, "sessions")), "of the last whole hour"
    assert re.search(r"logout\D*3\b", legend(page, "reasons"))
    assert "idle" not in legend(page, "reasons"), "none did"
    page.get_by_role("link", name="14 days").focus()
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS) == ["A year", True]
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="A year")).to_have_attribute("aria-current", "true")
    expect(page.locator("#charts canvas")).to_have_count(CHARTS)
    assert tile(page, "Created") == "10"
    expect(page.get_by_role("region", name="Figures")).to_have_attribute("tabindex", "0")


def test_it_can_be_read_on_a_phone_and_a_desk(page: Page, admin: Admin) -> None:
    log_in(page, admin, READ, "/ui/trends?by=minute")
    check_looks(page)
    past(admin, 3, 60)
    page.reload()
    expect(page.locator("#charts canvas")).to_have_count(CHARTS)
    check_looks(page)
    check_names(page)
    wide = page.locator("#charts canvas").first.bounding_box()
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#charts canvas")).to_have_count(CHARTS)
    narrow = page.locator("#charts canvas").first.bounding_box()
    assert wide is not None
    assert narrow is not None
    assert narrow["width"] < wide["width"]
    assert narrow["width"] <= 390


def test_a_page_opened_too_early_fills_itself(page: Page, admin: Admin) -> None:
    log_in(page, admin, READ, "/ui/trends?by=minute")
    expect(page.get_by_text("Nothing is known yet")).to_be_visible()
    past(admin, 2, 60)
    renew(page)
    expect(page.locator("#charts canvas")).to_have_count(CHARTS)
    expect(page.get_by_text("Nothing is known yet")).to_have_count(0)
    assert tile(page, "Created") == "3"
    past(admin, 1, 60)
    renew(page)
    expect(page.locator(".tiles dd").first).to_have_text("4")
    expect(page.locator("#charts canvas")).to_have_count(CHARTS)


def test_the_overview_tells_what_ended_before_it_was_opened(page: Page, admin: Admin) -> None:
    past(admin, 3, 60)
    log_in(page, admin, READ, "/")
    expect(page.locator("#charts canvas")).to_have_count(4)
    assert re.search(r"logout\D*2\b", legend(page, "ended"))
    session, _ = admin.node.sessions.create()
    session.end("admin")
    admin.node.advance(60)
    admin.node.upkeep.run_once()
    renew(page)
    expect(page.locator("[data-chart=ended] .u-legend")).to_contain_text("admin")
    assert re.search(r"admin\D*1\b", legend(page, "ended"))


def test_without_a_script_the_figures_say_it_all(browser: Browser, admin: Admin) -> None:
    past(admin, 2)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, admin, READ, "/ui/trends")
    expect(page.get_by_role("row", name=re.compile("1 logout"))).to_be_visible()
    expect(page.locator("#charts")).to_be_hidden()
    answer = page.goto(f"{admin.http.base_url}/admin/ui/trends?by=%3Cscript%3E")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_text("take minute, hour or day")).to_be_visible()
    context.close()
