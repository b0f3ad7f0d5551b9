"""The photo drop's page in a real browser: drop, look, delete, leave."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from support.browser import needs_chromium
from support.files import files_below
from support.looks import check_looks, check_names
from support.processes import wait_until

pytestmark = needs_chromium


def png(width: int, height: int) -> bytes:
    """A picture in one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x20\x80\xc0" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def drop(page: Page, *names: str) -> None:
    files = [{"name": name, "mimeType": "image/png", "buffer": png(40, 30)} for name in names]
    page.set_input_files("#photo", files)
    page.get_by_role("button", name="Drop").click()


def test_a_visit(page: Page, photo_drop: str, tmp_path: Path) -> None:
    page.goto(photo_drop)
    expect(page.get_by_text("No photos yet.")).to_be_visible()
    assert page.context.cookies() == [] or {c["name"] for c in page.context.cookies()} == {"csrftoken"}
    check_looks(page)
    drop(page, "the sea.png", "Averylongnamethatnobodybreaks" * 3 + ".png")
    expect(page.get_by_role("img")).to_have_count(2)
    sea = page.get_by_role("img", name="the sea.png")
    assert sea.evaluate("async (img) => { await img.decode(); return img.naturalWidth; }") == 40
    check_looks(page)
    check_names(page)
    page.get_by_role("button", name="Delete the sea.png").click()
    expect(page.get_by_role("img")).to_have_count(1)
    page.get_by_role("img").evaluate("(img) => img.decode()")  # a download that the log-out cuts is told on the console
    page.get_by_role("button", name="Delete all and leave").click()
    expect(page.get_by_text("No photos yet.")).to_be_visible()
    expect(page.get_by_role("alertdialog")).to_have_count(0)
    wait_until(lambda: not files_below(tmp_path / "photos", ".png"), 20, "the photos' deletion")


def test_what_is_no_photo_is_said(photo_drop: str, browser: Browser) -> None:
    context = browser.new_context()  # its console may complain: a refused request is logged there
    page = context.new_page()
    page.goto(photo_drop)
    page.set_input_files("#photo", {"name": "<b>.png", "mimeType": "image/png", "buffer": b"<script>"})
    page.get_by_role("button", name="Drop").click()
    expect(page.get_by_role("alert")).to_have_text("<b>.png is no JPEG, PNG or GIF.")
    check_looks(page)
    page.goto(page.url)  # its address, asked for again
    expect(page.get_by_role("alert")).to_have_count(0)
    assert page.url == f"{photo_drop}/"
    context.close()
