"""The converter's page in a real browser: send, watch, fetch, leave."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable

from convert_site import Site, recording
from playwright.sync_api import Page, expect

from support.browser import needs_chromium
from support.looks import check_looks, check_names
from support.processes import wait_until

pytestmark = needs_chromium
MakeSite = Callable[..., Site]


def send(page: Page, sound: bytes) -> None:
    page.set_input_files("#file", {"name": "my talk.wav", "mimeType": "audio/wav", "buffer": sound})
    page.get_by_role("button", name="Convert", exact=True).click()


def test_a_visit(page: Page, make_site: MakeSite) -> None:
    site = make_site()
    page.goto(site.url)
    expect(page.get_by_text("None yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Delete all and leave")).to_be_hidden()
    check_looks(page)
    assert site.sessions.stats().total_sessions_created == 0, "looking makes no session"

    send(page, recording(60))  # 3 s of work
    expect(page.get_by_role("progressbar", name="Conversion of my talk.wav")).to_be_visible()
    expect(page.get_by_text("Converting: ")).to_be_visible()
    check_looks(page)
    check_names(page)
    expect(page.get_by_text("Converted", exact=True)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download my talk.wav").click()
    with wave.open(io.BytesIO(download.value.path().read_bytes())) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 60 * 8000)

    page.get_by_role("textbox", name="Or have a text whistled").fill("Hello.")
    page.get_by_role("button", name="Whistle and convert").click()
    expect(page.get_by_role("link", name="Download Hello.")).to_be_visible()
    page.reload()
    expect(page.get_by_role("listitem")).to_have_count(2)
    check_looks(page)
    check_names(page)

    page.get_by_role("button", name="Delete all and leave").click()
    expect(page.get_by_text("You have left, and your files are deleted.")).to_be_visible()
    expect(page.get_by_role("listitem")).to_have_count(0)
    expect(page.get_by_role("heading", name="Your files")).to_be_focused()
    expect(page.get_by_role("alertdialog")).to_have_count(0)
    wait_until(lambda: not site.left(), 20, "its files are deleted")


def test_it_warns_also_where_the_session_began_after_the_page(page: Page, make_site: MakeSite) -> None:
    site = make_site(idle_timeout="50")  # less than the minute before which it warns
    page.goto(site.url)
    send(page, recording(60))  # while the job works, it keeps the session for longer than that
    warning = page.get_by_role("alertdialog", name="Are you still there?")
    expect(warning).to_be_visible()
    check_looks(page)
    site.sessions.end(site.session().id)
    expect(page.get_by_text("Your session is over, and your files with it.").first).to_be_visible()
    expect(page.get_by_role("listitem")).to_have_count(0)


def test_a_log_out_elsewhere_stops_the_watching(page: Page, make_site: MakeSite) -> None:
    site = make_site()
    page.goto(site.url)
    send(page, recording(1000))
    expect(page.get_by_text("Converting: ")).to_be_visible()
    site.sessions.end(site.session().id)
    expect(page.get_by_text("Your session is over, and your files with it.")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_count(0)
    wait_until(lambda: not site.left(), 20, "its files are deleted")
