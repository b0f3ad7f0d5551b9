"""Requests to a Django site: its middleware's own rules and ours, files, log-ins, round trips, over both stores."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from support import django_site

django_site.ready()

from django.conf import settings as django_settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.files.uploadedfile import SimpleUploadedFile  # noqa: E402
from django.test import AsyncClient, Client, override_settings  # noqa: E402

from sessionsweep import StoreUnavailableError  # noqa: E402
from sessionsweep.integrations.django import configured  # noqa: E402
from sessionsweep.store import operations as op  # noqa: E402
from support.django_deployment import Deployment  # noqa: E402

DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
TEXT = b"some bytes"
COOKIE = "sessionid"


@pytest.fixture(params=["memory", "redis"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    options: dict[str, Any] = {"volumes": f"one={tmp_path / 'one'}", **getattr(request.function, "options", {})}
    if request.param == "redis":
        options |= {"url": request.getfixturevalue("redis_url"), "namespace": request.getfixturevalue("namespace")}
    made = Deployment(**options)
    monkeypatch.setattr(configured, "_current", made.configured)
    yield made
    made.sessions.close()


def site(middleware: str, **settings: Any) -> Any:
    auth = "django.contrib.auth.middleware.AuthenticationMiddleware"
    return override_settings(ROOT_URLCONF="support.django_urls", MIDDLEWARE=[middleware, auth], **settings)


@pytest.fixture(params=[DJANGOS, django_site.MIDDLEWARE], ids=["djangos", "ours"])
def middleware(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[str]:
    with site(request.param):
        yield request.param


@pytest.fixture
def ours(deployment: Deployment) -> Iterator[None]:
    with site(django_site.MIDDLEWARE):
        yield


@pytest.fixture
def client(middleware: str) -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture
def users() -> Iterator[tuple[User, User]]:
    made = tuple(User.objects.create_user(name + secrets.token_hex(4)) for name in ("ana", "ben"))
    yield made
    for user in made:
        user.delete()


def key(client: Client | AsyncClient) -> str:
    return str(client.cookies[COOKIE].value)


def photo() -> dict[str, Any]:
    return {"photo": SimpleUploadedFile("x.txt", TEXT)}


# Django's middleware, as its documentation and its tests have it


def test_nothing_read_nothing_sent(client: Client, deployment: Deployment) -> None:
    answer = client.get("/untouched")
    assert COOKIE not in answer.cookies
    assert "Vary" not in answer
    assert deployment.count() == 0


def test_reading_sets_no_cookie_and_varies(client: Client, deployment: Deployment) -> None:
    answer = client.get("/read")
    assert answer.json() == {"data": {}, "id": None}
    assert COOKIE not in answer.cookies
    assert answer["Vary"] == "Cookie"
    assert deployment.count() == 0


def test_writing_sets_the_cookie_with_djangos_attributes(client: Client, deployment: Deployment) -> None:
    with override_settings(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_PATH="/"):
        answer = client.get("/write/a/b", secure=True)
    cookie = answer.cookies[COOKIE]
    assert cookie["secure"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert cookie["max-age"] == 1_209_600
    assert answer["Vary"] == "Cookie"
    assert deployment.of(key(client)).data == {"a": "b"}
    assert round(deployment.of(key(client)).expires_in) == 1_209_600, "the store and the cookie agree"


def test_the_cookies_age_and_the_stores_agree(client: Client, deployment: Deployment) -> None:
    answer = client.get("/expiry/300")
    assert answer.cookies[COOKIE]["max-age"] == round(deployment.of(key(client)).expires_in) == 300
    answer = client.get("/expiry/0")
    assert answer.cookies[COOKIE]["max-age"] == "", "ends with the browser"
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=True):
        assert Client().get("/write/a/b").cookies[COOKIE]["expires"] == ""


def test_a_500_saves_nothing(client: Client, deployment: Deployment) -> None:
    answer = client.get("/fail")
    assert answer.status_code == 500
    assert COOKIE not in answer.cookies
    assert deployment.count() == 0
    client.get("/write/a/b")
    client.get("/fail")
    assert deployment.of(key(client)).data == {"a": "b"}


def test_a_session_ended_during_the_request_is_a_400(client: Client, deployment: Deployment) -> None:
    client.get("/write/a/b")
    answer = client.get("/end-elsewhere")
    assert answer.status_code == 400
    assert COOKIE not in answer.cookies
    assert deployment.count() == 1


def test_the_cookie_goes_when_the_session_is_flushed(client: Client, deployment: Deployment) -> None:
    client.get("/write/a/b")
    before = key(client)
    answer = client.get("/flush")
    assert answer.cookies[COOKIE].value == ""
    assert answer.cookies[COOKIE]["max-age"] == 0
    assert answer["Vary"] == "Cookie"
    assert deployment.sessions.stats().active_sessions == 0
    client.cookies[COOKIE] = before
    assert client.get("/read").json()["data"] == {}


def test_flushing_what_is_not_there_sets_no_cookie(client: Client, deployment: Deployment) -> None:
    answer = client.get("/flush")
    assert COOKIE not in answer.cookies
    assert deployment.count() == 0


def test_clearing_keeps_the_session_and_empties_it(client: Client, deployment: Deployment) -> None:
    client.get("/write/a/b")
    assert client.get("/clear").cookies[COOKIE].value
    assert deployment.of(key(client)).data == {}


def test_a_cookie_that_opens_nothing_is_removed(client: Client, deployment: Deployment) -> None:
    client.cookies[COOKIE] = "a" * 20 + "." + "b" * 43
    answer = client.get("/read")
    assert answer.cookies[COOKIE].value == ""
    client.cookies[COOKIE] = "a" * 20 + "." + "b" * 43
    answer = client.get("/write/a/b")
    assert answer.cookies[COOKIE].value.partition(".")[0] != "a" * 20


def test_a_stream_is_saved_before_it_is_sent(client: Client, deployment: Deployment) -> None:
    assert b"".join(client.get("/stream").streaming_content) == b"ab"
    assert deployment.of(key(client)).data == {"streamed": True}


def test_save_every_request(client: Client, deployment: Deployment) -> None:
    client.get("/expiry/100")
    deployment.advance(60)
    client.get("/read")
    assert round(deployment.of(key(client)).expires_in) == 40, "reading is no activity"
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        assert client.get("/untouched").cookies[COOKIE]["max-age"] == 100
    assert round(deployment.of(key(client)).expires_in) == 100


def test_the_test_clients_own_session(client: Client, deployment: Deployment) -> None:
    session = client.session
    session["a"] = 1
    session.save()
    assert client.get("/read").json()["data"] == {"a": 1}


# nothing made by strangers


def test_a_thousand_anonymous_requests_and_a_thousand_made_up_cookies_leave_no_key(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Deployment(redis_url, namespace)
    monkeypatch.setattr(configured, "_current", made.configured)
    with site(django_site.MIDDLEWARE), redis.Redis.from_url(redis_url) as server:
        for _ in range(1000):
            assert COOKIE not in Client().get("/read").cookies
            stranger = Client()
            stranger.cookies[COOKIE] = f"{secrets.token_hex(10)}.{secrets.token_urlsafe(32)}"
            assert stranger.get("/read").json()["data"] == {}
        assert [k for k in server.scan_iter(f"{namespace}*") if b":test:" not in k] == []
        with override_settings(SESSION_SAVE_EVERY_REQUEST=True):  # even where the view never looks at its session
            stranger = Client()
            stranger.cookies[COOKIE] = f"{secrets.token_hex(10)}.{secrets.token_urlsafe(32)}"
            assert stranger.get("/untouched").cookies[COOKIE].value == "", "a cookie that opens nothing is removed"
            assert Client().get("/untouched").status_code == 200
        assert [k for k in server.scan_iter(f"{namespace}*") if b":test:" not in k] == []
    made.sessions.close()


# round trips


class Wire:
    """What the server's MONITOR saw: commands of clients; those of one pipeline came in one packet."""

    def __init__(self, url: str, deployment: Deployment) -> None:
        self._server, self._deployment = redis.Redis.from_url(url), deployment

    def commands(self, request: Callable[[], object]) -> int:
        sentinel = secrets.token_hex(8)
        with self._server.monitor() as monitor, redis.Redis.from_url(self._server_url()) as other:  # type: ignore[no-untyped-call]
            request()
            other.echo(sentinel)
            seen = 0
            while True:
                command = monitor.next_command()
                if sentinel in command["command"]:
                    return seen
                seen += command["client_type"] != "lua" and command["command"].startswith("EVAL")

    def _server_url(self) -> str:
        return str(self._deployment.store.url)

    def close(self) -> None:
        self._server.close()


def test_round_trips_none_without_a_cookie_one_to_read_two_to_change(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Deployment(redis_url, namespace)
    monkeypatch.setattr(configured, "_current", made.configured)
    trips = 0

    def counted(name: str) -> None:
        original = getattr(made.store, name)

        def call(*args: Any) -> Any:
            nonlocal trips
            trips += 1
            return original(*args)

        monkeypatch.setattr(made.store, name, call)

    counted("_exchange")
    counted("_exchange_many")
    wire, client = Wire(redis_url, made), Client()
    with site(django_site.MIDDLEWARE):
        client.get("/write/a/0")
        client.get("/write/a/1")  # connections and scripts are there

        def measured(request: Callable[[], Any]) -> tuple[int, int]:
            nonlocal trips
            trips = 0
            return wire.commands(request), trips

        assert measured(lambda: Client().get("/read")) == (0, 0)
        assert measured(lambda: client.get("/untouched")) == (0, 0)
        assert measured(lambda: client.get("/read")) == (1, 1)
        assert measured(lambda: client.get("/write/a/2")) == (2, 2), "data and age go together"
        assert measured(lambda: client.get("/write/a/2")) == (2, 2), "the same value: only the age"
        made.reclaim()
    wire.close()
    made.sessions.close()


def test_neither_log_nor_server_sees_a_key(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = Deployment(redis_url, namespace)
    monkeypatch.setattr(configured, "_current", made.configured)
    client, seen = Client(), []
    server, other = redis.Redis.from_url(redis_url), redis.Redis.from_url(redis_url)
    with site(django_site.MIDDLEWARE), server, other, server.monitor() as monitor, caplog.at_level(logging.DEBUG):  # type: ignore[no-untyped-call]
        client.get("/write/a/b")
        client.get("/read")
        client.get("/end-elsewhere")
        other.echo("over")
        while "over" not in (command := monitor.next_command()["command"]):
            seen.append(command)
    secret = key(client).partition(".")[2]
    assert seen
    assert secret not in "".join(seen) + caplog.text
    made.sessions.close()


# files


def test_the_first_file_makes_the_session_and_its_cookie(client: Client, deployment: Deployment) -> None:
    assert client.get("/files").json() == {"files": []}
    assert deployment.count() == 0, "looking makes none"
    answer = client.post("/upload", photo())
    rid = answer.json()["id"]
    assert answer.json()["size"] == len(TEXT)
    assert COOKIE in answer.cookies
    assert round(deployment.of(key(client)).expires_in) == 1_209_600
    assert client.get(f"/file/{rid}").content == TEXT
    assert client.get("/files").json() == {"files": [rid]}
    stranger = Client(raise_request_exception=False)
    assert stranger.get(f"/file/{rid}").status_code in (404, 500), "nobody else's"
    assert client.delete(f"/file/{rid}").content == b"ok"
    assert client.get("/files").json() == {"files": []}


def test_a_session_whose_cookie_was_never_sent_goes_within_the_hour(client: Client, deployment: Deployment) -> None:
    answer = client.post("/upload?fail", photo())
    assert answer.status_code == 500
    assert COOKIE not in answer.cookies
    folder = deployment.settings.volumes[0].path
    assert any(p.read_bytes() == TEXT for p in Path(folder).rglob("*.txt"))
    deployment.advance(3601)
    deployment.reclaim()
    assert not list(Path(folder).rglob("*.txt"))


def test_every_way_to_keep_and_give_up(deployment: Deployment, tmp_path: Path) -> None:
    from sessionsweep.integrations.django import SessionStore

    session = SessionStore()
    kept = tmp_path / "kept.txt"
    (tmp_path / "mine.txt").write_bytes(b"mine")
    adopted = session.resources.adopt_file(tmp_path / "mine.txt", purpose="mine")
    assert session.modified
    with session.resources.temp_file() as temp:
        temp.write(b"x")
    assert [one.id for one in session.resources.list()] == [adopted]
    with session.resources.pin(adopted) as f:
        assert f.read() == b"mine"
    assert session.resources.promote(adopted, kept) == kept
    assert kept.read_bytes() == b"mine"
    with session.resources.require().stream("sse", close=lambda reason: None):
        assert deployment.of(session).stream_count == 1


async def test_every_way_to_keep_and_give_up_awaited(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessionsweep.integrations.django import SessionStore

    made = Deployment(redis_url, namespace, volumes=f"one={tmp_path / 'one'}")
    monkeypatch.setattr(configured, "_current", made.configured)
    session = SessionStore()
    assert await session.resources.alist() == []
    (tmp_path / "mine.txt").write_bytes(b"mine")
    adopted = await session.resources.aadopt_file(tmp_path / "mine.txt", purpose="mine")
    async with session.resources.atemp_file() as temp:
        await temp.write(b"x")
    async with session.resources.anew_file(suffix=".txt") as f:
        await f.write(b"new")
    assert [one.id for one in await session.resources.alist()] == [adopted, f.id]
    with await session.resources.aopen_file(f.id) as opened:
        assert opened.read() == b"new"
    await session.resources.adelete(f.id)
    async with session.resources.apin(adopted) as opened:
        assert opened.read() == b"mine"
    assert (await session.resources.apromote(adopted, tmp_path / "kept.txt")).read_bytes() == b"mine"
    async with (await session.resources.arequire()).stream("sse"):
        assert made.of(session).stream_count == 1
    await made.configured.async_sessions.close()
    made.sessions.close()


# log-in


def test_a_log_in_takes_a_new_key_keeps_the_files_and_binds_the_user(
    client: Client, deployment: Deployment, users: tuple[User, User]
) -> None:
    rid = client.post("/upload", photo()).json()["id"]
    before = key(client)
    client.get(f"/login/{users[0].username}")
    assert key(client) != before
    assert client.get(f"/file/{rid}").content == TEXT
    thief = Client()
    thief.cookies[COOKIE] = before
    assert thief.get("/files").json() == {"files": []}
    assert deployment.of(key(client)).user == str(users[0].pk)
    assert client.get("/who").json() == {"user": users[0].username, "authenticated": True}
    assert deployment.sessions.end_user(str(users[0].pk)) == 1
    assert client.get("/who").json()["authenticated"] is False


def test_another_users_log_in_ends_the_session_before_with_its_files(
    client: Client, deployment: Deployment, users: tuple[User, User]
) -> None:
    client.get(f"/login/{users[0].username}")
    rid = client.post("/upload", photo()).json()["id"]
    first = deployment.of(key(client)).id
    client.get(f"/login/{users[1].username}")
    assert deployment.of(key(client)).id != first
    assert deployment.of(key(client)).user == str(users[1].pk)
    assert rid not in client.get("/files").json()["files"]
    deployment.reclaim()
    assert not list(Path(deployment.settings.volumes[0].path).rglob("*.txt"))


def test_a_log_out_ends_the_session_with_its_files(
    client: Client, deployment: Deployment, users: tuple[User, User]
) -> None:
    client.get(f"/login/{users[0].username}")
    client.post("/upload", photo())
    assert client.get("/logout").cookies[COOKIE].value == ""
    assert deployment.sessions.stats().ended_by_reason == {"logout": 1}
    deployment.reclaim()
    assert not list(Path(deployment.settings.volumes[0].path).rglob("*.txt"))


def test_force_login(client: Client, deployment: Deployment, users: tuple[User, User]) -> None:
    client.force_login(users[0])
    assert client.get("/who").json()["authenticated"] is True
    assert deployment.of(key(client)).user == str(users[0].pk)


def test_a_limit_per_user_ends_the_oldest(client: Client, deployment: Deployment, users: tuple[User, User]) -> None:
    for _ in range(3):
        Client().get(f"/login/{users[0].username}")
    client.get(f"/login/{users[0].username}")
    assert len(deployment.sessions.list(user=str(users[0].pk))[0]) == 2
    assert client.get("/who").json()["authenticated"] is True


test_a_limit_per_user_ends_the_oldest.options = {  # type: ignore[attr-defined]
    "max_sessions_per_user": 2,
    "on_user_limit": "end-oldest",
}


@pytest.mark.usefixtures("ours")
def test_a_limit_per_user_that_refuses_is_a_429(deployment: Deployment, users: tuple[User, User]) -> None:
    Client().get(f"/login/{users[0].username}")
    late = Client()
    answer = late.get(f"/login/{users[0].username}")
    assert answer.status_code == 429
    assert answer.json()["limit"] == "MAX_SESSIONS_PER_USER"
    assert COOKIE not in answer.cookies


test_a_limit_per_user_that_refuses_is_a_429.options = {"max_sessions_per_user": 1}  # type: ignore[attr-defined]


# our middleware


@pytest.mark.usefixtures("ours")
def test_caches(deployment: Deployment) -> None:
    client = Client()
    assert client.get("/write/a/b")["Cache-Control"] == "private, no-store", "over what the view said"
    assert client.get("/read")["Cache-Control"] == "private"
    assert "Cache-Control" not in client.get("/untouched")


@pytest.mark.usefixtures("ours")
def test_the_client_is_known(deployment: Deployment) -> None:
    client = Client()
    answer = client.get("/client", headers={"user-agent": "x" * 400, "x-forwarded-for": "192.0.2.1, 203.0.113.9"})
    assert answer.json() == {"ip": "203.0.113.9", "agent": "x" * 300}


test_the_client_is_known.options = {"trusted_proxies": "127.0.0.1"}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("ours")
def test_another_client_is_refused_and_ends_nothing(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    client, thief = Client(headers={"user-agent": "one"}), Client(headers={"user-agent": "two"})
    client.get("/write/a/b")
    thief.cookies[COOKIE] = key(client)
    assert thief.get("/read").json()["data"] == {}
    thief.cookies[COOKIE] = key(client)
    thief.get("/flush")
    thief.cookies[COOKIE] = key(client)
    assert thief.get("/clear").status_code == 400
    assert "another client" in caplog.text
    assert client.get("/read").json()["data"] == {"a": "b"}


test_another_client_is_refused_and_ends_nothing.options = {  # type: ignore[attr-defined]
    "client_binding": "strict",
    "trusted_proxies": "none",
}


@pytest.mark.usefixtures("ours")
def test_errors_are_answered(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    assert client.get("/file/0000000000000000.txt").status_code == 404
    client.get("/write/a/b")

    def down(*_: Any) -> None:
        raise StoreUnavailableError("no")

    answering = deployment.store.execute
    with monkeypatch.context() as saving:
        saving.setattr(deployment.store, "execute", lambda o: down() if isinstance(o, op.SaveData) else answering(o))
        answer = client.get("/write/a/c")  # in the middleware
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    monkeypatch.setattr(deployment.store, "execute", down)
    answer = client.get("/read")  # in the view
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert client.get("/untouched").status_code == 200


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("path", ["/poll", "/polling/all"])
def test_what_is_no_activity_is_not_saved_every_time(deployment: Deployment, path: str) -> None:
    client = Client()
    more = {"NO_ACTIVITY_PATHS": ["/polling/*"], "TIME_LEFT_HEADER": "Session-Time-Left"}
    here, configured._current = configured._current, None  # new settings close what they replace: not this one
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True, SESSIONSWEEP={**django_settings.SESSIONSWEEP, **more}):
        configured._current = here
        client.get("/expiry/100")
        deployment.advance(60)
        answer = client.get(path)
        assert COOKIE not in answer.cookies
        assert answer["Vary"] == "Cookie"
        assert answer["Session-Time-Left"] in ("39", "40")
        client.get("/read")
        assert round(deployment.of(key(client)).expires_in) == 100
        configured._current = None
    configured._current = here


@pytest.mark.usefixtures("ours")
def test_time_left_and_extend(deployment: Deployment) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.get("/sessionsweep/time-left").json() == {"seconds": None}
    assert client.post("/sessionsweep/extend").json() == {"seconds": None}
    assert deployment.count() == 0
    client.get("/expiry/100")
    deployment.advance(60)
    assert round(client.get("/sessionsweep/time-left").json()["seconds"]) == 40
    answer = client.post("/sessionsweep/extend", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    answer = client.post("/sessionsweep/extend", headers={"sec-fetch-site": "same-origin"})
    assert round(answer.json()["seconds"]) == 100
    assert answer.cookies[COOKIE]["max-age"] == 100
    assert client.get("/sessionsweep/extend").status_code == 405
    assert b"currentScript" in client.get("/sessionsweep/warning.js").content


# one's other sessions


@pytest.mark.usefixtures("ours")
def test_routes_to_ones_other_sessions(deployment: Deployment, users: tuple[User, User]) -> None:
    here, phone = Client(headers={"user-agent": "here"}), Client(headers={"user-agent": "phone"})
    assert here.get("/sessionsweep/others").json() == {"sessions": []}
    assert here.post("/sessionsweep/others/end").json() == {"ended": 0}
    assert deployment.count() == 0
    for client in (here, phone):
        client.get(f"/login/{users[0].username}")
    stranger = Client()
    stranger.get(f"/login/{users[1].username}")
    answer = here.get("/sessionsweep/others")
    assert "no-store" in answer["Cache-Control"]
    [one] = answer.json()["sessions"]
    assert (one["id"], one["device"]) == (deployment.of(key(phone)).id, "phone")
    assert set(one) == {"id", "device", "address", "created_at", "last_seen"}
    assert key(phone).partition(".")[2] not in answer.content.decode()
    assert stranger.post(f"/sessionsweep/others/{one['id']}/end").status_code == 404
    assert here.post("/sessionsweep/others/nothing/end").status_code == 404
    assert phone.get("/who").json()["authenticated"] is True
    assert here.post(f"/sessionsweep/others/{one['id']}/end").status_code == 204
    assert phone.get("/who").json()["authenticated"] is False
    phone.get(f"/login/{users[0].username}")
    assert here.post("/sessionsweep/others/end").json() == {"ended": 1}
    assert phone.get("/who").json()["authenticated"] is False
    assert here.get("/who").json()["authenticated"] is True
    assert stranger.get("/who").json()["authenticated"] is True


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("path", ["/sessionsweep/others/end", "/sessionsweep/others/{id}/end"])
def test_another_site_ends_no_session(deployment: Deployment, users: tuple[User, User], path: str) -> None:
    here, phone = Client(enforce_csrf_checks=True), Client()
    for client in (here, phone):
        client.get(f"/login/{users[0].username}")
    path = path.format(id=deployment.of(key(phone)).id)
    assert here.post(path).status_code == 403
    assert here.get(path).status_code == 405
    assert phone.get("/who").json()["authenticated"] is True


@pytest.mark.usefixtures("ours")
def test_who_has_a_session_from_before_the_new_password_ends_nobodys(
    deployment: Deployment, users: tuple[User, User]
) -> None:
    thief, owner = Client(), Client()
    thief.get(f"/login/{users[0].username}")
    users[0].set_password("new")
    users[0].save()
    owner.get(f"/login/{users[0].username}")
    own = deployment.of(key(owner)).id
    before = key(thief)
    for ask in (
        lambda: thief.get("/sessionsweep/others").json() == {"sessions": []},
        lambda: thief.post("/sessionsweep/others/end").json() == {"ended": 0},
        lambda: thief.post(f"/sessionsweep/others/{own}/end").status_code == 404,
    ):
        thief.cookies[COOKIE] = before
        assert ask()
    assert owner.get("/who").json()["authenticated"] is True


# asynchronous requests


@pytest.mark.parametrize("which", [DJANGOS, django_site.MIDDLEWARE], ids=["djangos", "ours"])
async def test_asynchronous_requests(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    made = Deployment(redis_url, namespace, volumes=f"one={tmp_path / 'one'}")
    monkeypatch.setattr(configured, "_current", made.configured)
    user = await User.objects.acreate_user("ana" + secrets.token_hex(4))
    with site(which):
        client = AsyncClient()
        await client.get("/awrite/a/b")
        assert (await client.get("/aread")).json() == {"data": {"a": "b"}}
        rid = (await client.post("/aupload", photo())).json()["id"]
        before = key(client)
        await client.get(f"/alogin/{user.username}")
        assert key(client) != before
        assert made.of(key(client)).user == str(user.pk)
        assert [one.id for one in made.of(key(client)).resources()] == [rid]
        clients = [AsyncClient() for _ in range(20)]
        await asyncio.gather(*(c.get(f"/awrite/number/{n}") for n, c in enumerate(clients)))
        answers = await asyncio.gather(*(c.get("/aread") for c in clients))
        assert [a.json()["data"]["number"] for a in answers] == [str(n) for n in range(20)]
    await user.adelete()
    await made.configured.async_sessions.close()
    made.sessions.close()
