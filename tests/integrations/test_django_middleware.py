"""What Django documents of a request's session and its cookie: its middleware and ours, both stores, WSGI and ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import django_site

django_site.ready()

from django.conf import settings  # noqa: E402
from django.contrib.sessions import middleware as djangos  # noqa: E402
from django.contrib.sessions.exceptions import SessionInterrupted  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import RequestFactory, override_settings  # noqa: E402

from sessionsweep.integrations.django import SessionStore, configured  # noqa: E402
from sessionsweep.integrations.django.checks import check_deployment, check_settings  # noqa: E402
from sessionsweep.integrations.django.middleware import SessionMiddleware  # noqa: E402
from support.django_deployment import Deployment  # noqa: E402

View = Callable[[HttpRequest], HttpResponse]
Send = Callable[..., HttpResponse]


@pytest.fixture(params=["memory", "redis"])
def deployment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    options: dict[str, Any] = {}
    if request.param == "redis":
        options = {"url": request.getfixturevalue("redis_url"), "namespace": request.getfixturevalue("namespace")}
    made = Deployment(**options)
    monkeypatch.setattr(configured, "_current", made.configured)
    yield made
    made.sessions.close()


@pytest.fixture(params=[djangos.SessionMiddleware, SessionMiddleware], ids=["djangos", "ours"])
def middleware(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["wsgi", "asgi"])
def send(request: pytest.FixtureRequest, middleware: Any, deployment: Deployment) -> Send:
    """Sends a request, with a cookie if given, through the middleware to a view."""

    def sent(view: View, cookie: str | None = None) -> HttpResponse:
        made = RequestFactory().get("/")
        if cookie is not None:
            made.COOKIES[settings.SESSION_COOKIE_NAME] = cookie
        if request.param == "wsgi":
            return middleware(view)(made)

        async def served(one: HttpRequest) -> HttpResponse:
            return await asyncio.to_thread(view, one)

        async def main() -> HttpResponse:
            return await middleware(served)(made)

        return asyncio.run(main())

    return sent


def write(request: HttpRequest) -> HttpResponse:
    request.session["hello"] = "world"
    return HttpResponse("written")


def flush(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return HttpResponse("flushed")


def look_away(request: HttpRequest) -> HttpResponse:
    return HttpResponse("nothing read")


def cookie_of(answer: HttpResponse) -> Any:
    return answer.cookies[settings.SESSION_COOKIE_NAME]


# when it is saved


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_answer_of_500_and_more_saves_nothing_and_sends_no_cookie(
    send: Send, deployment: Deployment, status: int
) -> None:
    def broken(request: HttpRequest) -> HttpResponse:
        write(request)
        return HttpResponse("no", status=status)

    answer = send(broken)
    assert not answer.cookies
    assert answer["Vary"] == "Cookie"
    assert deployment.count() == 0


@pytest.mark.parametrize("status", [302, 404])
def test_an_answer_below_500_saves(send: Send, deployment: Deployment, status: int) -> None:
    def elsewhere(request: HttpRequest) -> HttpResponse:
        write(request)
        return HttpResponse("other", status=status)

    assert deployment.of(cookie_of(send(elsewhere)).value).data == {"hello": "world"}


def test_a_change_inside_a_value_is_saved_where_the_view_says_so(send: Send, deployment: Deployment) -> None:
    def nest(request: HttpRequest) -> HttpResponse:
        request.session["foo"] = {}
        return HttpResponse()

    def quietly(request: HttpRequest) -> HttpResponse:
        request.session["foo"]["bar"] = "baz"
        return HttpResponse()

    def aloud(request: HttpRequest) -> HttpResponse:
        quietly(request)
        request.session.modified = True
        return HttpResponse()

    key = cookie_of(send(nest)).value
    assert not send(quietly, key).cookies
    assert deployment.of(key).data == {"foo": {}}
    assert cookie_of(send(aloud, key)).value == key
    assert deployment.of(key).data == {"foo": {"bar": "baz"}}


def test_one_that_is_emptied_key_by_key_stays(send: Send, deployment: Deployment) -> None:
    def empty(request: HttpRequest) -> HttpResponse:
        del request.session["hello"]
        return HttpResponse()

    key = cookie_of(send(write)).value
    answer = send(empty, key)
    assert cookie_of(answer).value == key
    assert answer["Vary"] == "Cookie"
    assert deployment.of(key).data == {}


@override_settings(SESSION_SAVE_EVERY_REQUEST=True)
def test_where_each_request_saves_the_cookie_is_sent_each_time(send: Send, deployment: Deployment) -> None:
    key = cookie_of(send(write)).value
    deployment.advance(60)
    answer = send(look_away, key)
    assert cookie_of(answer).value == key
    assert cookie_of(answer)["max-age"] == 1_209_600
    assert answer["Vary"] == "Cookie"
    assert round(deployment.of(key).expires_in) == 1_209_600
    assert not send(look_away).cookies, "and none where there is no session"


def test_one_that_ended_meanwhile_interrupts_the_request(send: Send, deployment: Deployment) -> None:
    def over(request: HttpRequest) -> HttpResponse:
        request.session.save(must_create=True)
        request.session.delete()
        return HttpResponse()

    with pytest.raises(SessionInterrupted, match="deleted before the request completed"):
        send(over)
    assert deployment.sessions.stats().active_sessions == 0


def test_one_that_got_a_new_key_meanwhile_interrupts_and_is_left_as_it_is(send: Send, deployment: Deployment) -> None:
    taken: list[str] = []

    def overtaken(request: HttpRequest) -> HttpResponse:
        request.session["hello"] = "late"
        beside = SessionStore(request.session.session_key)
        beside.cycle_key()
        taken.append(str(beside.session_key))
        return HttpResponse()

    key = cookie_of(send(write)).value
    with pytest.raises(SessionInterrupted):
        send(overtaken, key)
    assert deployment.of(taken[0]).data == {"hello": "world"}


# its cookie goes


@pytest.mark.parametrize(
    "where",
    [{}, {"SESSION_COOKIE_DOMAIN": ".example.local", "SESSION_COOKIE_PATH": "/example/"}],
    ids=["", "elsewhere"],
)
@pytest.mark.parametrize("alive", [True, False])
def test_it_is_removed_where_it_was_set(send: Send, where: dict[str, str], alive: bool) -> None:
    with override_settings(**where):
        key = cookie_of(send(write)).value if alive else "abc"
        answer = send(flush, key)
        removed, path = cookie_of(answer), where.get("SESSION_COOKIE_PATH", "/")
    assert (removed.value, removed["max-age"], removed["expires"]) == ("", 0, "Thu, 01 Jan 1970 00:00:00 GMT")
    assert (removed["path"], removed["domain"]) == (path, where.get("SESSION_COOKIE_DOMAIN", ""))
    assert removed["samesite"] == "Lax"
    assert answer["Vary"] == "Cookie"


def test_it_is_not_removed_where_there_was_none(send: Send, deployment: Deployment) -> None:
    answer = send(flush)
    assert not answer.cookies
    assert answer["Vary"] == "Cookie"
    assert deployment.count() == 0


# OWASP ASVS 5.0, 3.3


def test_the_cookie_of_a_project_that_sets_nothing_is_httponly_and_lax(send: Send) -> None:
    cookie = cookie_of(send(write))
    assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Lax", "")
    assert (cookie["path"], cookie["domain"]) == ("/", "")


@pytest.mark.parametrize(
    ("setting", "attribute", "value"),
    [
        ("SESSION_COOKIE_SECURE", "secure", True),
        ("SESSION_COOKIE_SAMESITE", "samesite", "Strict"),
        ("SESSION_COOKIE_HTTPONLY", "httponly", True),
        ("SESSION_COOKIE_HTTPONLY", "httponly", False),
        ("SESSION_COOKIE_DOMAIN", "domain", "example.org"),
        ("SESSION_COOKIE_PATH", "path", "/shop/"),
    ],
)
def test_djangos_settings_of_the_cookie_hold(send: Send, setting: str, attribute: str, value: Any) -> None:
    with override_settings(**{setting: value}):
        assert cookie_of(send(write))[attribute] == (value or "")


def test_it_may_belong_to_this_host_alone(send: Send, deployment: Deployment) -> None:
    with override_settings(SESSION_COOKIE_NAME="__Host-sessionid", SESSION_COOKIE_SECURE=True):
        first = cookie_of(send(write))
        gone = cookie_of(send(flush, first.value))
    for cookie in (first, gone):
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
    assert deployment.sessions.stats().active_sessions == 0


def test_it_is_small_and_says_nothing_of_its_session(send: Send, deployment: Deployment) -> None:
    def large(request: HttpRequest) -> HttpResponse:
        request.session["_auth_user_id"] = "7"
        request.session["secret"] = "x" * 100_000
        return HttpResponse()

    cookie = cookie_of(send(large))
    assert len(cookie.OutputString()) < 4096
    assert len(cookie.value) == 64


NO_DJANGOS = {"INSTALLED_APPS": [django_site.ENGINE], "MIDDLEWARE": [django_site.MIDDLEWARE]}
REDIS = {"SESSIONSWEEP": {"REDIS_URL": "redis://localhost:6379/0"}}


@pytest.mark.parametrize(
    ("found", "more"),
    [
        (["W007"], {}),
        ([], {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_NAME": "__Host-sessionid"}),
        (["W007", "W008"], {"SESSION_COOKIE_HTTPONLY": False}),
        (["W007", "W009"], {"SESSION_COOKIE_SAMESITE": None}),
        (["W007", "W009"], {"SESSION_COOKIE_SAMESITE": False}),
        (["W007", "W009"], {"SESSION_COOKIE_SAMESITE": "None"}),
        (["W007"], {"SESSION_COOKIE_SAMESITE": "Strict"}),
        (["I001"], {"SESSION_COOKIE_SECURE": True}),
        (["I001"], {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_NAME": "__Secure-id"}),
        ([], {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_DOMAIN": "example.org"}),
        ([], {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_PATH": "/shop/"}),
        ([], {"MIDDLEWARE": [f"{djangos.__name__}.SessionMiddleware"], "SESSION_COOKIE_HTTPONLY": False}),
        ([], {"INSTALLED_APPS": ["django.contrib.sessions"], "SESSION_COOKIE_HTTPONLY": False}),
        ([], {"SESSION_ENGINE": "django.contrib.sessions.backends.db"}),
    ],
)
def test_a_deployment_is_told_what_its_cookie_lacks(found: list[str], more: dict[str, Any]) -> None:
    with override_settings(**{**NO_DJANGOS, **REDIS, **more}):
        assert [message.id for message in check_deployment()] == [f"sessionsweep.{one}" for one in found]


@pytest.mark.parametrize(
    ("refused", "more"),
    [
        (True, {"SESSION_COOKIE_NAME": "__Host-id"}),
        (True, {"SESSION_COOKIE_NAME": "__host-id", "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_PATH": "/shop/"}),
        (True, {"SESSION_COOKIE_NAME": "__Host-id", "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_DOMAIN": "a.org"}),
        (True, {"SESSION_COOKIE_NAME": "__Secure-id"}),
        (False, {"SESSION_COOKIE_NAME": "__Host-id", "SESSION_COOKIE_SECURE": True}),
        (
            False,
            {"SESSION_COOKIE_NAME": "__Secure-id", "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_DOMAIN": "a.org"},
        ),
    ],
)
def test_a_name_under_which_browsers_refuse_the_cookie_is_an_error(refused: bool, more: dict[str, Any]) -> None:
    with override_settings(**{**REDIS, **more}):
        assert [message.id for message in check_settings()] == ["sessionsweep.E005"] * refused


@pytest.mark.parametrize("blank", ["\u2000", "\xa0", "\x0b", "\x85"], ids=ascii)
@pytest.mark.parametrize("field", ["__Host-sessionid={own}; {blank}__Host-sessionid={evil}",
                                   "{blank}__Host-sessionid={evil}; \t__Host-sessionid={own} ; a=b"])  # fmt: skip
@override_settings(SESSION_COOKIE_NAME="__Host-sessionid")
def test_no_other_name_stands_in_for_a_host_cookie_in_django(deployment: Deployment, field: str, blank: str) -> None:
    """Browsers see no `__Host-` prefix behind such a blank, so that any subdomain may set it."""
    made = []
    for whose in ("own", "evil"):
        store = SessionStore()
        store["whose"] = whose
        store.save()
        made.append(store.session_key)
    raw = field.format(own=made[0], evil=made[1], blank=blank).encode().decode("latin-1")

    def whose_is_it(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.session.get("whose", "nobody"))

    def ask(raw: str) -> bytes:
        content: bytes = SessionMiddleware(whose_is_it)(RequestFactory(HTTP_COOKIE=raw).get("/")).content
        return content

    assert ask(raw) == b"own"
    assert ask(raw.replace(str(made[0]), "")) == b"nobody"
