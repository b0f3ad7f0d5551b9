"""The dashboard in a real browser (Debian's chromium): what whoever is on call sees and does on each page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from admin_client import READ, WRITE, Admin
from dashboard_visitor import log_in, renew, tile
from playwright.sync_api import Browser, Page, expect

from sessionsweep import Client
from sessionsweep.admin.pages import sessions as pages_of_sessions
from sessionsweep.model.holds import ALL, Hold
from sessionsweep.store import operations as op
from support.browser import needs_chromium
from support.looks import CONTRAST, FOCUS, NAMELESS

pytestmark = needs_chromium


@pytest.fixture
def admin(make_admin: Callable[..., Admin]) -> Admin:
    """Sessions that nothing ends while a slow browser looks at them."""
    return make_admin(idle_timeout=600, max_duration=6000)


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


def test_how_old_an_open_page_is_that_cannot_be_renewed_is_said_in_utc(browser: Browser, admin: Admin) -> None:
    context = browser.new_context(timezone_id="America/New_York", locale="en-US")  # whose console may complain
    page = context.new_page()
    log_in(page, admin)
    page.clock.set_fixed_time("2026-11-21T16:29:35Z")
    page.reload()
    page.route("**/admin/", lambda route: route.abort())
    renew(page)
    told = "The admin side can't be reached. What you see is of 16:29:35 UTC."
    expect(page.locator("#stale")).to_have_text(told)
    context.close()


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
    admin = make_admin(reclaim_tries=1, idle_timeout=600)
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
    expect(health).to_contain_text("1 dead letter: failed too often")
    node.advance(120)
    renew(page)
    expect(health).to_contain_text("a is silent for 2m")
    expect(health).to_contain_text("the last sweep ran 2m")
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
    expect(page.locator(".tiles")).to_be_visible()
    page.close()


# sessions


def test_sessions_are_searched_and_paged(page: Page, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    node = admin.node
    mine, _, _ = node.session_with_file(5000, user="ana")
    for number in range(5):
        node.sessions.create(Client(f"192.0.2.{number}"), user="bo")
    monkeypatch.setattr(pages_of_sessions, "MOST", 4)
    log_in(page, admin, READ, "/ui/sessions")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(4)
    seen = set(page.locator("tbody th").all_inner_texts())
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("link", name="First page")).to_be_visible()
    assert len(seen | set(page.locator("tbody th").all_inner_texts())) == 6
    page.get_by_label("User", exact=True).fill("ana")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("5 kB")
    page.get_by_role("link", name="Clear").click()
    page.get_by_label("Holds more than").fill("1kB")
    page.get_by_label("Address").fill("203.0.113.1")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No live session fits.")).to_be_visible()
    page.get_by_label("Or its id").fill(mine.id)
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name=mine.id)).to_be_visible()
    expect(page.get_by_role("link", name="End it")).to_have_count(0)  # a reader's page offers nothing


def test_a_session_is_ended_after_a_question_and_leaves_its_receipt(page: Page, admin: Admin) -> None:
    session, rid, path = admin.node.session_with_file(5000, user="ana")
    log_in(page, admin, WRITE, f"/ui/sessions/{session.id}")
    expect(page.get_by_role("row", name=f"{rid} live")).to_be_visible()
    page.get_by_role("link", name="End it").click()
    page.get_by_role("link", name="Cancel").click()
    assert admin.get(f"/sessions/{session.id}")["state"] == "live"
    page.goto(f"{admin.http.base_url}/admin/ui/sessions/{session.id}")
    page.get_by_role("link", name="End it").click()
    page.get_by_role("button", name="End", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("It has been ended")
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    admin.node.reclaim.run_once()
    page.reload()
    expect(page.get_by_text("1 resource, 5 kB")).to_have_count(2)  # what it owned, and what was deleted here
    assert not path.exists()


def test_the_selected_and_all_of_a_users_are_ended(page: Page, admin: Admin) -> None:
    chosen = [admin.node.sessions.create(user="bo")[0].id for _ in range(2)]
    for _ in range(3):
        admin.node.sessions.create(user="ana & co/ü")
    log_in(page, admin, WRITE, "/ui/sessions")
    for one in chosen:
        page.get_by_label(f"Select {one}").check()
    page.get_by_role("button", name="End the selected").click()
    expect(page.get_by_role("heading", name="End 2 sessions?")).to_be_visible()
    page.get_by_role("button", name="End", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("2 sessions ended.")
    page.get_by_role("link", name="ana & co/ü").first.click()
    page.get_by_role("link", name="End all of this user").click()
    expect(page.get_by_role("heading", name="End all sessions of ana & co/ü?")).to_be_visible()
    page.get_by_role("button", name="End", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("3 sessions ended.")
    expect(page.get_by_text("No live sessions.")).to_be_visible()


def test_names_from_strangers_are_only_text(page: Page, admin: Admin) -> None:
    """No script of theirs runs (`page` would hear the console of one that is refused), nothing turns a line around."""
    hostile = '<img src=x onerror=alert(1)>"><script>document.title = "taken"</script>'
    session, _ = admin.node.sessions.create(Client("192.0.2.1", hostile), user=hostile)
    admin.node.sessions.create(user="evil\u202egnp.exe")
    log_in(page, admin, WRITE, "/ui/sessions")
    expect(page.get_by_text(hostile)).to_be_visible()
    expect(page.get_by_text(r"evil\u202egnp.exe")).to_be_visible()
    page.get_by_role("link", name=session.id).click()
    expect(page.get_by_text(hostile)).to_have_count(2)
    assert "taken" not in page.title()


# what is owed, held and dead


def test_dead_letters_are_retried_and_forgotten(page: Page, make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(reclaim_tries=1, idle_timeout=600)
    rids = []
    for _ in range(2):
        session, rid, path = admin.node.session_with_file(9)
        path.unlink()
        path.mkdir()
        session.end()
        rids.append(rid)
    log_in(page, admin, WRITE, "/ui/owed")
    expect(page.get_by_role("row", name=f"{rids[0]} due")).to_be_visible()
    page.get_by_role("button", name="Try all that failed now").click()
    expect(page.get_by_role("status")).to_have_text("0 resources due now: the workers try at once.")
    admin.node.advance(5)
    admin.node.reclaim.run_once()
    page.get_by_role("link", name="Dead letters").click()
    expect(page.get_by_text("no regular file stands where ours should be")).to_have_count(2)
    page.get_by_role("button", name=f"Retry {rids[0]}").click()
    expect(page.get_by_role("status")).to_have_text("Owed again: a worker tries at once.")
    page.get_by_role("link", name=f"Forget {rids[1]}").click()
    page.get_by_role("button", name="Forget it").click()
    expect(page.get_by_role("status")).to_have_text("Forgotten; its bytes stay where they are.")
    assert admin.get("/dead-letters") == {"dead_letters": []}
    assert [one["resource_id"] for one in admin.get("/owed")["owed"]] == rids[:1]


def test_all_dead_letters_are_retried_after_a_question(page: Page, make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(reclaim_tries=1, idle_timeout=600)
    rids = set()
    for _ in range(3):
        session, rid, path = admin.node.session_with_file(9)
        path.unlink()
        path.mkdir()
        session.end()
        rids.add(rid)
    admin.node.advance(5)
    admin.node.reclaim.run_once()
    log_in(page, admin, READ, "/ui/dead-letters")
    expect(page.get_by_text("no regular file stands where ours should be")).to_have_count(3)
    expect(page.get_by_role("link", name="Retry all")).to_have_count(0)
    page.get_by_role("button", name="Log out").click()
    log_in(page, admin, WRITE, "/ui/dead-letters")
    page.get_by_role("link", name="Retry all").click()
    expect(page.get_by_role("heading")).to_have_text("Retry 3 dead letters?")
    page.get_by_role("link", name="Cancel").click()
    assert len(admin.get("/dead-letters")["dead_letters"]) == 3
    page.get_by_role("link", name="Retry all").click()
    page.get_by_role("button", name="Retry all").click()
    expect(page.get_by_role("status")).to_have_text("3 resources owed again: the workers try at once.")
    assert admin.get("/dead-letters") == {"dead_letters": []}
    assert {one["resource_id"] for one in admin.get("/owed")["owed"]} == rids


def test_a_hold_says_what_to_do_and_is_lifted(page: Page, admin: Admin) -> None:
    admin.node.upkeep.run_once()
    now = admin.node.store.execute(op.Facts()).now
    hold = Hold(ALL, "rolled-back", "an old snapshot was loaded", now, "a")
    admin.node.store.execute(op.TablePut("holds", ALL, hold.encode()))
    log_in(page, admin, WRITE)
    page.get_by_role("link", name="What to do").click()
    expect(page.get_by_text("sessionsweep users end --all")).to_be_visible()
    page.get_by_role("link", name="Lift the hold on all").click()
    page.get_by_role("button", name="Lift it").click()
    expect(page.get_by_role("status")).to_have_text("Lifted: deleting goes on.")
    expect(page.get_by_text("None: nothing stops deleting.")).to_be_visible()


def test_volumes_and_nodes_say_who_is_silent(page: Page, admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(700)
    admin.node.upkeep.run_once()
    session.end()
    log_in(page, admin, READ, "/ui/volumes")
    volume = page.get_by_role("region", name="a", exact=True)
    expect(volume).to_contain_text("1 resources of 1 session, 700 B")
    admin.node.advance(300)
    renew(page)
    expect(volume).to_contain_text("its worker is silent for 5m")
    page.get_by_role("link", name="Nodes").click()
    expect(page.get_by_role("row", name="a silent")).to_contain_text(re.compile("5m.* ago"))


def test_a_full_disk_is_one_thing_to_look_at_and_seen_on_its_volume(page: Page, admin: Admin) -> None:
    node = admin.node
    node.session_with_file(700)
    node.sweep.run_once()
    node.upkeep.run_once()
    log_in(page, admin, READ)
    expect(page.get_by_role("heading", name="All is well")).to_be_visible()
    (volume,) = node.core.mounts.here()
    told = json.loads(node.store.execute(op.Table("n"))["a"])
    told |= {"space": {volume.id: {"used": 97_000, "free": 3000}}, "unwritable": {volume.id: "ENOSPC"}}
    node.store.execute(op.TablePut("n", "a", json.dumps(told)))
    renew(page)
    expect(page.get_by_role("region", name="Health")).to_contain_text("1 thing to look at")
    expect(page.get_by_role("region", name="Volumes")).to_contain_text("look")
    page.get_by_role("link", name="See").click()
    seen = page.get_by_role("region", name="a", exact=True)
    expect(seen.locator(".state").first).to_have_text("look")
    expect(seen).to_contain_text("its disk on a is 97% full, 3 kB free: soon uploads to it are refused")
    expect(seen.locator("dt:text-is('Disk') + dd")).to_have_text("97% full on a, 3 kB free")


def test_without_workers_to_order_the_page_of_sweeps_says_so(page: Page, admin: Admin) -> None:
    log_in(page, admin, WRITE, "/ui/sweeps")
    expect(page.get_by_text("each web process sweeps by itself")).to_be_visible()
    expect(page.get_by_role("button", name="Sweep idle now")).to_have_count(0)


# how it looks, and by which means


def test_it_works_without_a_script(browser: Browser, admin: Admin) -> None:
    session, _ = admin.node.sessions.create(user="ana")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, admin)
    expect(page.get_by_role("heading", name="Ended, by reason")).to_be_visible()
    expect(page.locator("#charts")).not_to_be_visible()
    page.get_by_role("link", name="Sessions", exact=True).click()
    page.get_by_label(f"Select {session.id}").check()
    page.get_by_role("button", name="End the selected").click()
    page.get_by_role("button", name="End", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("1 session ended.")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Admin token")).to_be_visible()
    context.close()


def test_it_can_be_used_with_the_keyboard_alone(page: Page, admin: Admin) -> None:
    session, _ = admin.node.sessions.create()
    page.goto(f"{admin.http.base_url}/admin/ui/sessions/{session.id}/end")
    expect(page.get_by_label("Admin token")).to_be_focused()
    page.keyboard.type(WRITE)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="End this session?")).to_be_visible()
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        name, is_seen = page.evaluate(FOCUS)
        assert is_seen, f"a focus that can't be seen: {name}"
        reached.append(name)
        if name == "End":
            break
    assert reached[0] == "Skip to the content"
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("1 session ended.")


PAGES = [
    "/",
    *(
        f"/ui/{name}"
        for name in ("sessions", "volumes", "owed", "dead-letters", "holds", "nodes", "sweeps", "events", "trends")
    ),
]


def test_every_page_can_be_read_on_a_phone_and_a_desk(page: Page, make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(reclaim_tries=1, idle_timeout=600)
    node = admin.node
    ended, _, path = node.session_with_file(9, user="Averylongwordthatnobodybreaks" * 8)
    live, _, _ = node.session_with_file(9, user="Averylongwordthatnobodybreaks" * 8)
    node.upkeep.run_once()
    path.unlink()
    path.mkdir()
    ended.end()
    node.advance(5)
    node.reclaim.run_once()
    now = node.store.execute(op.Facts()).now
    node.store.execute(op.TablePut("holds", ALL, Hold(ALL, "rolled-back", "x" * 200, now, "a").encode()))
    log_in(page, admin)
    asked = [f"/ui/sessions/{live.id}", f"/ui/sessions/{ended.id}", f"/ui/sessions/{live.id}/end"]
    for one in [*PAGES, *asked]:
        page.goto(f"{admin.http.base_url}/admin{one}")
        for width in (320, 390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{one} scrolls sideways"
        assert page.evaluate(NAMELESS) == [], f"{one}: something without a name"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert page.evaluate(CONTRAST) == [], f"{one}, {scheme}: less than 4.5:1 (WCAG 2.2, 1.4.3)"
