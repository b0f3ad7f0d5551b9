"""The chat's page in a real browser, on two nodes: heard on both, over in silence, back after a lost connection."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from sessionsweep import Sessions, Settings
from support.browser import needs_chromium
from support.looks import check_looks, check_names
from support.nodes import KEY
from support.processes import LocalProcess

pytestmark = needs_chromium
RUNNING = re.compile(r"running on (http://\S+)")
Nodes = tuple[LocalProcess, LocalProcess]


def join(page: Page, node: LocalProcess, user: str) -> None:
    page.goto(node.wait_for_log(RUNNING)[1])
    page.get_by_role("textbox", name="Your name").fill(user)
    page.get_by_role("button", name="Join").click()
    expect(page.get_by_role("status")).to_have_text("You are connected.")


def online(page: Page, user: str, *nodes: str) -> None:
    listed = page.get_by_role("region", name=f"Where {user} is online").get_by_role("listitem")
    expect(listed).to_have_text([re.compile(rf"^on {node}, since ") for node in nodes])


def test_a_talk_over_two_nodes(page: Page, chat_nodes: Nodes, redis_url: str, namespace: str) -> None:
    page.goto(chat_nodes[0].wait_for_log(RUNNING)[1])
    check_looks(page)
    join(page, chat_nodes[0], "ana")
    other = page.context.new_page()
    join(other, chat_nodes[1], "ana")
    for one in (page, other):
        online(one, "ana", "a", "b")
    page.get_by_role("textbox", name="Your message").fill("<b>hello</b> " + "x" * 200)
    page.keyboard.press("Enter")
    for one in (page, other):
        expect(one.get_by_role("log")).to_have_text("ana <b>hello</b> " + "x" * 200)
    check_looks(page)
    check_names(page)
    other.get_by_role("button", name="Leave").click()
    expect(other.get_by_role("status")).to_have_text("You have left.")
    online(page, "ana", "a")

    sessions = Sessions(Settings(redis_url=redis_url, namespace=namespace, secret_key=KEY))
    sessions.end_user("ana", reason="idle")
    sessions.close()
    expect(page.get_by_role("status")).to_have_text("Your session is over: you were silent for too long.")
    expect(page.get_by_role("textbox", name="Your name")).to_be_focused()


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_it_comes_back_after_its_node_did(chat_nodes: Nodes, browser: Browser, how: str) -> None:
    context = browser.new_context()  # its console may complain of the connections that fail
    page = context.new_page()
    node = chat_nodes[0]
    join(page, node, "bo")
    port = node.wait_for_log(RUNNING)[1].rpartition(":")[2]
    node.argv[node.argv.index("--port") + 1] = port
    if how == "kill":
        node.kill()
    else:
        node.stop()
    expect(page.get_by_role("status")).to_contain_text("trying again…")
    node.start()
    expect(page.get_by_role("status")).to_have_text("You are connected.")
    page.get_by_role("textbox", name="Your message").fill("back")
    page.keyboard.press("Enter")
    expect(page.get_by_role("log")).to_have_text("bo back")
    context.close()
