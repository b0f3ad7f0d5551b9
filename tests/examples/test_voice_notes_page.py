"""The page in a real browser (Debian's chromium): what a person does with it, on both nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from web_nodes import WebNode

from support.browser import chromium, needs_chromium
from support.looks import CONTRAST

OPTIONS = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
MakeNodes = Callable[..., list[WebNode]]

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(*OPTIONS) as started:
        yield started


def notes(page: Page) -> Locator:
    return page.get_by_role("list").get_by_role("listitem")


def say(page: Page, text: str) -> None:
    before = notes(page).count()
    page.get_by_role("textbox", name="Have it spoken").fill(text)
    page.get_by_role("button", name="Speak").click()
    expect(notes(page)).to_have_count(before + 1)


def plays(page: Page, title: str) -> float:
    """Starts a note's player; the seconds that the browser found in it."""
    player = page.get_by_label(f"Play {title}")
    return float(
        player.evaluate(
            """async (player) => {
                const failed = new Promise((_, no) => player.addEventListener("error", () => no(player.error.message)));
                player.muted = true;
                await Promise.race([player.play(), failed]);
                return player.duration;
            }"""
        )
    )


def test_a_visit_to_both_nodes(page: Page, nodes: list[WebNode]) -> None:
    one = nodes[0]
    page.goto(one.url)
    expect(page.get_by_text("No session yet.")).to_be_visible()
    say(page, "The train to Lisbon leaves at nine.")
    expect(page.get_by_role("timer")).to_have_text(re.compile(r"1[45]:\d\d"))
    expect(page.get_by_role("status")).to_have_text("Spoken and saved on node-a.")
    assert plays(page, "The train to Lisbon leaves at nine.") > 1

    page.get_by_role("link", name="open node-b").click()
    expect(notes(page)).to_have_count(1)
    assert plays(page, "The train to Lisbon leaves at nine.") > 1, "it lies on node-a, and this page is node-b's"
    page.set_input_files("#file", {"name": "a talk.txt", "mimeType": "text/plain", "buffer": b"x" * 2000})
    expect(notes(page)).to_have_count(2)
    expect(notes(page).first).to_contain_text("upload · 2 kB")
    expect(notes(page).first).to_contain_text("on node-b")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download a talk.txt").click()
    assert download.value.path().read_bytes() == b"x" * 2000

    page.get_by_role("textbox", name="Your name").fill("ana")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("ana", exact=True)).to_be_visible()
    expect(notes(page)).to_have_count(2)
    page.get_by_role("button", name="Delete a talk.txt").click()
    expect(notes(page)).to_have_count(1)
    expect(page.get_by_role("heading", name="Your notes")).to_be_focused()
    page.get_by_role("button", name="Log out").click()
    expect(notes(page)).to_have_count(0)
    expect(page.get_by_role("timer")).to_have_text("–")
    assert one.sessions.stats().active_sessions == 0


def test_a_recording_from_the_microphone(page: Page, nodes: list[WebNode]) -> None:
    page.goto(nodes[0].url)
    page.get_by_role("button", name="Record").click()
    stop = page.get_by_role("button", name="Stop and save")
    expect(stop).to_be_visible()
    page.wait_for_timeout(500)  # for so long a person speaks
    stop.click()
    expect(notes(page)).to_have_count(1)
    title = notes(page).get_by_role("heading").inner_text()
    assert re.fullmatch(r"Recording .*\.webm", title)
    plays(page, title)
    (file,) = nodes[0].files()
    assert file.suffix == ".webm"
    assert file.stat().st_size > 100


def test_the_clock_runs_out_without_renewing_and_the_notes_go(page: Page, make_web_nodes: MakeNodes) -> None:
    (node,) = make_web_nodes("node-a", clock=False, idle_timeout=3)
    page.goto(node.url)
    asked: list[str] = []
    say(page, "Short.")
    page.on("request", lambda request: asked.append(request.url.removeprefix(node.url)))
    expect(page.get_by_text("Your session is over, and its notes with it.")).to_be_visible()
    expect(notes(page)).to_have_count(0)
    assert set(asked) <= {"/session", "/sessionsweep/time-left"}, "what only lies open renews nothing"


def test_it_warns_before_the_end_and_a_click_keeps_the_notes(page: Page, make_web_nodes: MakeNodes) -> None:
    (node,) = make_web_nodes("node-a", clock=False, idle_timeout=12)
    page.goto(node.url)
    say(page, "Keep me.")  # its session begins after the page
    warning = page.get_by_role("alertdialog", name="Are you still there?")
    expect(warning).to_be_visible()  # in its last quarter
    expect(page.get_by_role("button", name="Keep my notes")).to_be_focused()
    assert page.evaluate(CONTRAST) == []
    page.keyboard.press("Enter")
    expect(warning).not_to_be_visible()
    expect(page.get_by_role("timer")).to_have_text(re.compile("0:1[012]"))
    expect(notes(page)).to_have_count(1)
    expect(warning).to_be_visible()  # and again
    node.sessions.end(node.sessions.list()[0][0].id)
    expect(page.get_by_text("Your session has ended.").first).to_be_visible()


def test_other_sessions_are_listed_and_ended(page: Page, nodes: list[WebNode], browser: Browser) -> None:
    def log_in(visit: Page, node: WebNode) -> None:
        visit.goto(node.url)
        visit.get_by_role("textbox", name="Your name").fill("ana")
        visit.get_by_role("button", name="Log in").click()
        expect(visit.get_by_text("ana", exact=True)).to_be_visible()

    contexts = [
        browser.new_context(user_agent=agent) for agent in ("X11; Linux Firefox/140", "curl/8", "iPhone Safari")
    ]
    for context in contexts:
        log_in(context.new_page(), nodes[1])
        context.close()
    log_in(page, nodes[0])
    others = page.get_by_role("region", name="Your other sessions")
    expect(others.get_by_role("listitem")).to_have_count(3)
    for name in ("Firefox on Linux, 127.0.0.1, last seen at", "curl, 127.0.0.1", "Safari on iPhone"):
        expect(others).to_contain_text(name)
    assert page.evaluate(CONTRAST) == []
    others.get_by_role("button", name="End the session in curl").click()
    expect(others.get_by_role("listitem")).to_have_count(2)
    expect(page.get_by_role("heading", name="Your other sessions")).to_be_focused()
    others.get_by_role("button", name="End all others").click()
    expect(others).not_to_be_visible()
    expect(page.get_by_text("ana", exact=True)).to_be_visible()
    assert nodes[0].sessions.stats().active_sessions == 1


def test_what_went_wrong_is_said(page: Page, make_web_nodes: MakeNodes, browser: Browser) -> None:
    (node,) = make_web_nodes("node-a", max_bytes_per_session="5kB")
    context = browser.new_context()  # its console may complain: a refused request is logged there
    page = context.new_page()
    with page.expect_response(f"{node.url}/session"):
        page.goto(node.url)
    page.set_input_files("#file", {"name": "big.wav", "mimeType": "audio/wav", "buffer": b"x" * 6000})
    expect(page.get_by_role("status")).to_have_text("That is 6 kB; a session may hold 5 kB.")
    page.get_by_role("textbox", name="Have it spoken").fill("This is far too long for five thousand bytes.")
    page.get_by_role("button", name="Speak").click()
    expect(page.get_by_role("status")).to_have_text("The limit MAX_BYTES_PER_SESSION is reached.")
    context.close()


def test_it_can_be_used_with_the_keyboard_alone(page: Page, nodes: list[WebNode]) -> None:
    page.goto(nodes[0].url)
    keys = page.keyboard
    page.get_by_role("textbox", name="Have it spoken").focus()
    keys.type("Keys only.")
    keys.press("Tab")
    expect(page.get_by_role("button", name="Speak")).to_be_focused()
    keys.press("Enter")
    expect(notes(page)).to_have_count(1)
    reached = set()
    page.locator("body").focus()
    for _ in range(25):
        keys.press("Tab")
        reached.add(
            page.evaluate(
                """() => {
                    const at = document.activeElement;
                    const style = getComputedStyle(at.matches("#file") ? document.querySelector("[for=file]") : at);
                    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
                    return `${at.id || at.className || at.tagName} ${at === document.body || seen}`;
                }"""
            )
        )
    assert {"user true", "record true", "file true", "text true", "plain remove true", "AUDIO true"} <= reached
    # A player's parts are the browser's own, and show their focus themselves.
    assert not {one for one in reached if one.endswith("false")} - {"AUDIO false"}, "a focus that can't be seen"


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_it_fits_every_width(page: Page, nodes: list[WebNode], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(nodes[0].url)
    say(page, "Averylongwordthatnobodybreaks" * 3)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page: Page, nodes: list[WebNode], scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(nodes[0].url)
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(245, 244, 239)",
            "dark": "rgb(20, 24, 26)",
        }[scheme]
    )
    say(page, "Read me.")
    assert page.evaluate(CONTRAST) == [], "less than 4.5:1 (WCAG 2.2, 1.4.3)"


def test_another_app_on_this_machine_can_not_act_for_the_visitor(page: Page, nodes: list[WebNode]) -> None:
    """Another port is the same site, so the cookie travels: what stops the request is our own check."""
    one, two = nodes
    page.goto(one.url)
    say(page, "Mine.")
    form = f'<form method="post" action="{one.url}/logout"><button>A prize</button></form>'
    two.app.view_functions["page"] = lambda: (form, {"Content-Security-Policy": "default-src *"})  # not our page
    attack = page.context.new_page()
    with attack.expect_response(f"{one.url}/logout") as answer:
        attack.goto(two.url)
        attack.evaluate("document.querySelector('form').submit()")
    sent = answer.value.request.all_headers()
    assert "session=" in sent.get("cookie", ""), "the browser sent no cookie; the test shows nothing"
    assert answer.value.status == 403
    page.reload()
    expect(notes(page)).to_have_count(1)
