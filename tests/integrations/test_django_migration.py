"""Coming from Django's own engines: who was logged in stays so, once, sync and async; and the way back."""

from __future__ import annotations

import secrets
import sys
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from support import django_site

django_site.ready()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.models import Session as Row  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.checks import run_checks  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import AsyncClient, Client, override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from sessionsweep.integrations.django import SessionStore, configured  # noqa: E402
from sessionsweep.integrations.django.way_back import back_to  # noqa: E402
from sessionsweep.integrations.migration import GRACE, is_old  # noqa: E402
from support.django_deployment import Deployment  # noqa: E402

DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
BACKENDS = "django.contrib.sessions.backends"
COOKIE = "sessionid"
AGE = 1_209_600


@pytest.fixture(params=["memory", "redis"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    options: dict[str, Any] = {"volumes": f"one={tmp_path / 'one'}"}
    if request.param == "redis":
        options |= {"url": request.getfixturevalue("redis_url"), "namespace": request.getfixturevalue("namespace")}
    made = Deployment(**options)
    monkeypatch.setattr(configured, "_current", made.configured)
    monkeypatch.setattr(configured, "_forget", lambda **_: None)
    yield made
    made.sessions.close()


@pytest.fixture(params=["db", "cached_db", "cache", "signed_cookies"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    yield f"{BACKENDS}.{request.param}"
    Row.objects.all().delete()
    cache.clear()


@pytest.fixture(params=[DJANGOS, django_site.MIDDLEWARE], ids=["djangos", "ours"])
def site(request: pytest.FixtureRequest, deployment: Deployment, engine: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(configured, "_said", lambda: {"migrate_from": engine})
    with override_settings(ROOT_URLCONF="support.django_urls", MIDDLEWARE=[request.param, AUTH]):
        yield deployment


@pytest.fixture
def user() -> Iterator[User]:
    made = User.objects.create_user("ana" + secrets.token_hex(4))
    yield made
    made.delete()


def before(engine: str, *addresses: str) -> str:
    """The cookie of a browser that visited the site while it had the old engine."""
    with override_settings(SESSION_ENGINE=engine):
        browser = Client()
        for address in addresses:
            assert browser.get(address).status_code == 200
        return str(browser.cookies[COOKIE].value)


def brings(key: str) -> Client:
    browser = Client(raise_request_exception=False)
    browser.cookies[COOKIE] = key
    return browser


def key(browser: Client | AsyncClient) -> str:
    return str(browser.cookies[COOKIE].value)


def old_store(engine: str, key: str) -> Any:
    return import_module(engine).SessionStore(key)


def test_who_was_logged_in_stays_so(site: Deployment, engine: str, user: User) -> None:
    old = before(engine, f"/login/{user.username}", "/write/cart/full")
    browser = brings(old)
    answer = browser.get("/who")
    assert answer.json() == {"user": user.username, "authenticated": True}
    assert not is_old(key(browser)), "a key of ours"
    assert site.of(key(browser)).user == str(user.pk)
    for _ in range(2):
        assert browser.get("/who").json()["authenticated"]
        assert browser.get("/read").json()["data"]["cart"] == "full"
    assert site.count() == 1
    if not engine.endswith("signed_cookies"):
        assert old_store(engine, old).load() == {}, "the old record is gone"


async def test_asynchronously(site: Deployment, engine: str) -> None:
    store = old_store(engine, "")
    await store.aset("cart", "full")
    await store.asave()
    old = str(store.session_key)
    browser = AsyncClient()
    browser.cookies[COOKIE] = old
    assert (await browser.get("/aread")).json() == {"data": {"cart": "full"}}
    assert not is_old(key(browser))
    await browser.get("/awrite/more/1")
    assert (await browser.get("/aread")).json() == {"data": {"cart": "full", "more": "1"}}
    assert site.count() == 1
    if not engine.endswith("signed_cookies"):
        assert await old_store(engine, old).aload() == {}
    await configured.current().async_sessions.close()


def test_requests_of_one_page_share_one_session(site: Deployment, engine: str) -> None:
    old = before(engine, "/write/cart/full")

    def ask(at: int) -> tuple[Any, str]:
        browser = brings(old)
        try:
            return browser.get("/read").json()["data"], key(browser)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))
    assert [data for data, _ in answers] == [{"cart": "full"}] * 8
    assert len({token for _, token in answers}) == 1, "one session under one key"
    assert site.count() == 1


def test_after_a_while_the_old_key_leads_nowhere(site: Deployment, engine: str) -> None:
    old = before(engine, "/write/cart/full")
    browser = brings(old)
    browser.get("/read")
    site.advance(GRACE / 1000 - 1)
    assert brings(old).get("/read").json()["data"] == {"cart": "full"}
    site.advance(2)
    assert brings(old).get("/read").json()["data"] == {}
    assert browser.get("/read").json()["data"] == {"cart": "full"}
    assert site.count() == 1, "imported once"


def test_after_a_log_in_the_old_key_leads_nowhere(site: Deployment, engine: str, user: User) -> None:
    old = before(engine, "/write/cart/full")
    browser = brings(old)
    assert browser.get(f"/login/{user.username}").status_code == 200
    assert browser.get("/read").json()["data"]["cart"] == "full"
    assert not brings(old).get("/who").json()["authenticated"]


def test_after_a_log_out_a_record_is_not_taken_over_again(site: Deployment, engine: str, user: User) -> None:
    old = before(engine, f"/login/{user.username}")
    brings(old).get("/who")
    assert brings(old).get("/flush").status_code == 200, "by a request that had the old key still"
    assert site.sessions.stats().active_sessions == 0
    assert brings(old).get("/who").json()["authenticated"] is False
    site.advance(61)
    # What has no record can't be deleted: but for the minute after it, a signed cookie is good until it is too old, as
    # with Django's own engine.
    assert brings(old).get("/who").json()["authenticated"] is engine.endswith("signed_cookies")


def test_how_long_it_lasts_is_kept(site: Deployment, engine: str) -> None:
    for seconds in (300, 5):
        browser = brings(before(engine, f"/expiry/{seconds}"))
        answer = browser.get("/read")
        assert answer.cookies[COOKIE]["max-age"] == seconds
        assert site.of(key(browser)).expires_in == pytest.approx(seconds, abs=2)
    browser = brings(before(engine, "/write/a/b"))
    browser.get("/read")
    assert site.of(key(browser)).expires_in == pytest.approx(AGE, abs=2)


def test_a_date_of_its_end_is_kept(site: Deployment, engine: str) -> None:
    store = old_store(engine, "")
    store["a"] = "b"
    store.set_expiry(timezone.now() + timedelta(seconds=500))
    store.save()
    browser = brings(str(store.session_key))
    browser.get("/read")
    ours = site.of(key(browser))
    with ours.keep_alive(3600):
        assert site.of(key(browser)).expires_in == pytest.approx(500, abs=2), "no background job defers it"


def test_a_write_without_a_look_keeps_its_meaning(site: Deployment, engine: str) -> None:
    browser = brings(before(engine, "/write/a/b"))
    assert browser.get("/clear").status_code == 200
    assert browser.get("/read").json()["data"] == {}
    assert brings("m" * 32).get("/clear").status_code == 400, "as where a key of ours opens nothing"
    assert site.count() == 1


def test_saving_every_request_takes_over_without_a_look(site: Deployment, engine: str) -> None:
    browser = brings(before(engine, "/write/a/b"))
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        assert browser.get("/untouched").status_code == 200
    assert browser.get("/read").json()["data"] == {"a": "b"}


def test_a_failed_request_loses_nothing(site: Deployment, engine: str) -> None:
    browser = brings(before(engine, "/write/a/b", "/expiry/300"))
    assert browser.get("/fail").status_code == 500
    [made] = site.sessions.list()[0]
    assert made.expires_in == pytest.approx(300, abs=2), "its age, though nothing saved it"
    assert is_old(key(browser)), "Django sends no cookie with a 500"
    assert browser.get("/read").json()["data"]["a"] == "b"


def test_made_up_keys_make_nothing_anywhere(site: Deployment, engine: str) -> None:
    for made_up in ("m" * 32, "short", "../../etc/passwd", "a" * 20 + "." + "b" * 43, "x:y:z" * 500):
        assert brings(made_up).get("/read").json()["data"] == {}
    assert (site.count(), Row.objects.count()) == (0, 0)


async def test_saved_unread_by_hand(site: Deployment, engine: str) -> None:
    store = old_store(engine, "")
    await store.aset("a", "b")
    await store.asave()
    ours = SessionStore(str(store.session_key))
    await ours.asave()
    assert site.of(ours).data == {"a": "b"}
    again = SessionStore(str(store.session_key))
    await again.adelete()
    assert site.sessions.stats().active_sessions == 0, "the session that the key became is ended with it"
    await configured.current().async_sessions.close()


def test_an_engine_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("shop.nowhere", "json", 5):
        with override_settings(SESSIONSWEEP={"REDIS_URL": "memory://", "MIGRATE_FROM": wrong}):
            [found] = [one for one in run_checks() if one.id == "sessionsweep.E001"]
            assert "MIGRATE_FROM" in found.msg
    with override_settings(SESSIONSWEEP={"REDIS_URL": "memory://", "MIGRATE_FROM": f"{BACKENDS}.db"}):
        assert configured.old_engine() is import_module(f"{BACKENDS}.db").SessionStore


def test_the_way_back(site: Deployment, engine: str, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Client()
    browser.get(f"/login/{user.username}")
    browser.get("/write/cart/full")
    token = key(browser)
    module = types.ModuleType("shop_sessions")
    module.SessionStore = back_to(engine)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_sessions", module)

    with override_settings(SESSION_ENGINE="shop_sessions", MIDDLEWARE=[DJANGOS, AUTH]):
        returned = brings(token)
        assert returned.get("/who").json()["authenticated"]
        assert is_old(key(returned)), "its own key, by reading alone"
        assert returned.get("/write/more/1").status_code == 200
        assert brings(token).get("/who").json()["authenticated"], "another request of that page"
        fresh = Client()
        fresh.get(f"/login/{user.username}")
        assert fresh.get("/who").json()["authenticated"]
        stranger = brings("a" * 20 + "." + "b" * 43)
        assert not stranger.get("/who").json()["authenticated"]
    with override_settings(SESSION_ENGINE=engine, MIDDLEWARE=[DJANGOS, AUTH]):
        assert is_old(key(returned))
        assert brings(key(returned)).get("/who").json()["authenticated"], "without us"
        store = old_store(engine, key(returned)).load()
        assert (store["cart"], store["more"]) == ("full", "1")


async def test_the_way_back_asynchronously(site: Deployment, engine: str) -> None:
    ours = SessionStore()
    await ours.aset("cart", "full")
    await ours.asave()
    returned = back_to(engine)(ours.session_key)
    assert await returned.aget("cart") == "full"
    await returned.asave()
    assert await old_store(engine, str(returned.session_key)).aget("cart") == "full"
    await configured.current().async_sessions.close()
