"""What a person does and sees in the dashboard, in the tests of all its pages."""

from __future__ import annotations

from admin_client import WRITE, Admin
from playwright.sync_api import Page, expect


def log_in(page: Page, admin: Admin, token: str = WRITE, path: str = "/") -> None:
    """Opens a page by the log-in that leads there."""
    page.goto(f"{admin.http.base_url}/admin{path}")
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def renew(page: Page) -> None:
    """What the page's timer does every 5 s."""
    while not page.evaluate("Boolean(window.htmx) && document.readyState === 'complete'"):
        page.wait_for_timeout(50)  # not wait_for_function, whose eval our CSP refuses
    page.evaluate("htmx.trigger(document.getElementById('live'), 'every')")


def tile(page: Page, name: str) -> str:
    """What a tile of the overview says."""
    return page.locator(f".tiles div:has(dt:text-is('{name}')) dd").first.inner_text()
