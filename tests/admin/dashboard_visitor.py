"""How a person gets into the dashboard."""

from __future__ import annotations

from admin_client import WRITE, Admin
from playwright.sync_api import Page, expect


def log_in(page: Page, admin: Admin, token: str = WRITE, path: str = "/") -> None:
    """Opens a page by the log-in that leads there."""
    page.goto(f"{admin.http.base_url}/admin{path}")
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
