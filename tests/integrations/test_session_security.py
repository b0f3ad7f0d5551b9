"""What OWASP's ASVS asks of sessions and cookies, asked of Flask, ASGI and Django alike, over both stores."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from session_sites import FAULT, PEER, SITES, Site

from sessionsweep import InvalidTokenError, Settings
from sessionsweep.store import operations as op
from support.nodes import KEY

MakeSite = Callable[..., Site]
ANONYMOUS = {"data": {}, "user": None, "id": None}


@pytest.fixture(params=SITES)
def framework(request: pytest.FixtureRequest) -> str:
    """Each framework's name."""
    return str(request.param)


@pytest.fixture
def make_site(framework: str, namespace: str, tmp_path: Path) -> Iterator[MakeSite]:
    """Makes the framework's site, on the server of a URL."""
    made: list[Site] = []

    def make(url: str, **settings: Any) -> Site:
        options = {"secret_key": KEY, "node": "a", "volumes": f"a={tmp_path / 'a'}", **settings}
        made.append(SITES[framework](Settings(redis_url=url, namespace=namespace, **options)))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """Each store's URL."""
    return "memory://" if request.param == "memory" else str(request.getfixturevalue("redis_url"))


@pytest.fixture
def site(make_site: MakeSite, url: str) -> Site:
    """The framework's site, on either store."""
    return make_site(url)


def set_cookie(answer: httpx.Response) -> tuple[str, str, set[str]]:
    """Name, value and attributes of the only cookie that a response sets."""
    (field,) = answer.headers.get_list("Set-Cookie")
    pair, *attributes = field.strip().split("; ")
    name, _, value = pair.partition("=")
    return name, value, set(attributes)


def read(browser: httpx.Client) -> Any:
    answer = browser.get("/read")
    assert answer.status_code == 200, answer.text
    return answer.json()


# the cookie: 3.3.1 to 3.3.5


def test_over_https_no_script_no_subdomain_and_no_plain_connection_gets_the_cookie(site: Site) -> None:
    browser = site.browser()
    name, _, attributes = set_cookie(browser.post("/set", json={"x": 1}))
    attributes = {one for one in attributes if not one.lower().startswith(("max-age", "expires"))}
    assert name.startswith("__Host-"), "a browser takes that name only from this very host, with Secure, for path /"
    assert attributes == {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"}, "no Domain"
    assert read(browser)["data"] == {"x": 1}
    for address in ("/elevate", f"/login/{site.user('ana')}"):
        changed, _, others = set_cookie(browser.post(address))
        assert changed == name
        assert attributes <= others, address
    name, value, attributes = set_cookie(browser.post("/logout"))
    assert (name, value.strip('"')) == (site.cookie, "")
    assert "Path=/" in attributes, "a browser removes only what has the same path"
    assert name not in browser.cookies


def test_the_cookie_stays_small_whatever_the_session_holds(site: Site) -> None:
    browser = site.browser()
    name, value, _ = set_cookie(browser.post("/set", json={"much": "x" * 100_000}))
    assert len(name) + len(value) < 100, "browsers drop cookies over 4,096 bytes"
    assert len(read(browser)["data"]["much"]) == 100_000


# tokens: 7.2, 14.2.1


def test_whatever_is_wrong_with_a_token_the_client_is_told_the_same(site: Site) -> None:
    browser = site.browser()
    browser.post("/set", json={"x": 1})
    token = site.token(browser)
    head, _, secret = token.partition(".")
    ended = site.browser()
    ended.post("/set", json={"x": 1})
    over = site.token(ended)
    ended.post("/logout")
    wrong = [
        f"{head}.{'A' * 43}",
        f"{head[:2]}{'a' * 18}.{secret}",
        f"{head}.{secret[:-1]}",
        f"{token}x",
        over,
        head,
        secret,
    ]
    said = {_told(site.browser(token=one).get("/read")) for one in wrong}
    assert len(said) == 1
    assert read(site.browser(token=wrong[0])) == ANONYMOUS
    assert read(browser)["data"] == {"x": 1}, "and the session of which somebody knows the half goes on"


def _told(answer: httpx.Response) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    return answer.status_code, answer.text, tuple(sorted(answer.headers.items()))


def test_a_log_in_gives_a_new_token_and_the_old_one_is_dead_at_that_moment(site: Site) -> None:
    browser = site.browser()
    browser.post("/set", json={"x": 1})
    rid = browser.post("/file", content=b"mine").json()["id"]
    seen = [site.token(browser)]
    for address in (f"/login/{site.user('ana')}", "/elevate"):
        assert browser.post(address).status_code == 200
        assert site.token(browser) not in seen
        assert read(browser)["data"] == {"x": 1}, address
        assert browser.get(f"/file/{rid}").content == b"mine"
        for old in seen:
            assert read(site.browser(token=old)) == ANONYMOUS
            assert site.browser(token=old).get(f"/file/{rid}").status_code == 404
        seen.append(site.token(browser))


def test_a_token_that_an_attacker_planted_is_nothing_after_the_log_in(site: Site) -> None:
    """Passport's CVE-2022-25896."""
    attacker = site.browser()
    attacker.post("/set", json={"planted": True})
    planted = site.token(attacker)
    victim = site.browser()
    victim.cookies.set(site.cookie, planted, domain="shop.example")
    assert victim.post(f"/login/{site.user('ana')}").status_code == 200
    assert read(site.browser(token=planted)) == ANONYMOUS
    made_up = f"00{'a' * 18}.{'b' * 43}"
    victim = site.browser(token=made_up)
    _, value, _ = set_cookie(victim.post("/set", json={"x": 1}))
    assert made_up not in value, "no session takes the token that a client brought"
    assert read(site.browser(token=made_up)) == ANONYMOUS


def test_a_token_anywhere_but_in_its_cookie_is_nothing(site: Site) -> None:
    browser = site.browser()
    browser.post(f"/login/{site.user('ana')}")
    token = site.token(browser)
    names = (site.cookie, site.cookie.removeprefix("__Host-"), "token", "session", "sid")
    ways = [{"url": "/read", "params": {name: token}} for name in names]
    ways += [
        {"url": "/read", "headers": headers} for headers in ({"Authorization": f"Bearer {token}"}, {"X-Session": token})
    ]
    ways += [{"url": "/read", "headers": {"Cookie": f"{name}={token}"}} for name in names[1:]]
    for way in ways:
        answer = site.browser().get(**way)
        assert answer.json() == ANONYMOUS, way
        assert token not in answer.headers.get("Set-Cookie", "")
    assert site.browser().post(f"/set?{site.cookie}={token}", json={"x": 1}).status_code == 200
    assert read(browser)["data"] == {}, "nor is anything written by it"


def test_no_address_and_no_page_that_is_sent_holds_the_token(site: Site) -> None:
    browser = site.browser()
    answer = browser.get(f"/in-and-away/{site.user('ana')}")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/read"
    other = site.browser()
    other.post(f"/login/{site.user('ana')}")
    secrets = [site.token(one).partition(".")[2] for one in (browser, other)]
    pages = [browser.get("/read").text, browser.get("/others").text, browser.get("/file/x").text]
    assert other_id(browser) in pages[1]
    assert not any(secret in page for secret in secrets for page in pages)


def other_id(browser: httpx.Client) -> str:
    (one,) = browser.get("/others").json()
    return str(one["id"])


# ended is over: 7.4, and one's own sessions: 7.5.2


def test_after_a_log_out_the_token_opens_nothing_on_any_node(site: Site) -> None:
    browser = site.browser()
    browser.post(f"/login/{site.user('ana')}")
    rid = browser.post("/file", content=b"mine").json()["id"]
    token = site.token(browser)
    site.operator.open(token, touch=False)
    browser.post("/logout")
    assert site.cookie not in browser.cookies
    replayed = site.browser(token=token)
    assert read(replayed) == ANONYMOUS
    assert replayed.get(f"/file/{rid}").status_code == 404
    with pytest.raises(InvalidTokenError):
        site.operator.open(token)
    replayed.post("/set", json={"x": 1})
    assert read(site.browser(token=token)) == ANONYMOUS, "nor does it come back"


def test_whom_an_operator_ends_is_out_at_the_next_request(site: Site) -> None:
    browsers = [site.browser() for _ in range(4)]
    for browser, user in zip(browsers, ("ana", "ana", "ana", "ben"), strict=True):
        browser.post(f"/login/{site.user(user)}")
    assert site.operator.end(read(browsers[0])["id"], reason="admin")
    assert [read(one)["user"] for one in browsers] == [None, *[site.user("ana")] * 2, site.user("ben")]
    assert site.operator.end_user(site.user("ana")) == 2
    assert [read(one)["user"] for one in browsers] == [None] * 3 + [site.user("ben")]
    for one in site.operator.list()[0]:
        one.end("admin")
    assert read(browsers[3])["user"] is None


def test_all_of_my_sessions_but_this_one_can_be_ended(site: Site) -> None:
    here, there, elsewhere, stranger = (site.browser() for _ in range(4))
    for browser, user in ((here, "ana"), (there, "ana"), (elsewhere, "ana"), (stranger, "ben")):
        browser.post(f"/login/{site.user(user)}")
    assert here.post("/others/end").json() == {"ended": 2}
    assert [read(one)["user"] for one in (here, there, elsewhere, stranger)] == [
        site.user("ana"), None, None, site.user("ben"),
    ]  # fmt: skip
    assert site.browser().post("/others/end").json() == {"ended": 0}


def test_my_sessions_are_shown_and_ended_by_a_public_id_that_opens_nothing(site: Site) -> None:
    here, phone, stranger = site.browser(), site.browser("198.51.100.7"), site.browser()
    for browser, user in ((here, "ana"), (phone, "ana"), (stranger, "ben")):
        browser.post(f"/login/{site.user(user)}")
    (listed,) = here.get("/others").json()
    assert listed == {"id": read(phone)["id"], "address": "198.51.100.7"}
    assert read(site.browser(token=listed["id"])) == ANONYMOUS, "knowing the id allows nothing"
    assert stranger.post(f"/others/{listed['id']}/end").json() == {"ended": False}
    assert site.browser().post(f"/others/{listed['id']}/end").json() == {"ended": False}
    assert read(phone)["user"] == site.user("ana")
    assert here.post(f"/others/{listed['id']}/end").json() == {"ended": True}
    assert read(phone) == ANONYMOUS
    assert here.get("/others").json() == []


# who asks: 4.1.3


def test_a_forwarded_address_is_believed_of_listed_proxies_only(make_site: MakeSite, url: str) -> None:
    site = make_site(url, trusted_proxies="10.0.0.0/8")
    said = {"X-Forwarded-For": "8.8.8.8, 198.51.100.9"}
    for peer, seen in (("10.0.0.1", "198.51.100.9"), (PEER, PEER)):
        browser = site.browser(peer, **said)
        browser.post("/set", json={"x": 1})
        found = site.operator.get(read(browser)["id"])
        assert found is not None
        assert found.ip == seen


# what nobody else sees: 16.2.5, 11.2.4, 16.5


def test_neither_log_nor_server_nor_what_it_stores_ever_holds_the_secret(
    make_site: MakeSite, own_server: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Spring Session's CVE-2023-20866; and what the server never has it can't compare."""
    caplog.set_level(logging.DEBUG)
    server = own_server()
    site = make_site(server.url)
    browser, secrets = site.browser(), []
    seen: list[str] = []
    with redis.Redis.from_url(server.url) as client, redis.Redis.from_url(server.url) as other:
        client.config_set("slowlog-log-slower-than", 0)
        with other.monitor() as monitor:  # type: ignore[no-untyped-call]
            for address in ("/set", f"/login/{site.user('ana')}", "/elevate"):
                browser.post(address, json={"x": 1})
                secrets.append(site.token(browser).partition(".")[2])
                read(browser)
            site.browser(token=site.token(browser)[:-1] + "A").get("/read")
            stored = b"".join(client.dump(key) or b"" for key in client.scan_iter(count=1000))
            browser.post("/logout")
            client.echo("over")
            while "ECHO over" not in seen:
                seen.append(str(monitor.next_command()["command"]))
        slow = repr(client.slowlog_get(1000))
    assert "EVALSHA" in slow
    assert any("EVALSHA" in command for command in seen)
    for secret in secrets:
        assert len(secret) == 43
        for place in (caplog.text, "".join(seen), slow, repr(stored)):
            assert secret[:12] not in place, "not even a part of it"


def test_a_bug_tells_the_client_neither_its_words_nor_where(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    browser = site.browser()
    browser.post("/set", json={"x": 1})
    answer = browser.get("/fail")
    assert answer.status_code == 500
    for word in (FAULT, "ZeroDivision", "Traceback", "session_sites", "sessionsweep.", site.token(browser)):
        assert word not in answer.text
    assert site.token(browser).partition(".")[2] not in caplog.text
    assert read(browser)["data"] == {"x": 1}


def test_who_cannot_be_checked_is_not_let_in(make_site: MakeSite, own_server: Callable[..., Any]) -> None:
    server = own_server()
    site = make_site(server.url, socket_timeout=1)
    browser = site.browser()
    browser.post(f"/login/{site.user('ana')}")
    server.stop()
    for answer in (browser.get("/read"), browser.post("/set", json={"x": 1}), browser.post("/logout")):
        assert (answer.status_code, list(answer.json())) == (503, ["error"])
        assert answer.headers["Retry-After"]
        assert "Set-Cookie" not in answer.headers, "the token may be good"
        for word in (str(server.port), "Traceback", "redis", "127.0.0.1"):
            assert word not in answer.text
    assert browser.get("/untouched").status_code == 200


# 1.5.2


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._path), "w")


def test_what_somebody_wrote_into_the_store_is_never_unpickled(site: Site, tmp_path: Path) -> None:
    """Flask-Caching's CVE-2021-33026."""
    browser = site.browser()
    browser.post("/set", json={"x": 1})
    target = tmp_path / "unpickled"
    site.operator.store.execute(op.SaveData(read(browser)["id"], {"x": pickle.dumps(Bomb(target))}))
    answers = [browser.get("/read"), browser.post("/set", json={"y": 1})]
    assert not target.exists()
    assert all(answer.status_code in (200, 500, 503) for answer in answers)
    pickle.loads(pickle.dumps(Bomb(target))).close()
    assert target.exists(), "it would have shown"
