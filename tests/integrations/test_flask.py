"""Flask's side of a session: when it is opened, made and renewed, what the cookie looks like, what errors answer."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask, Response, jsonify, request
from flask.testing import FlaskClient
from werkzeug.middleware.proxy_fix import ProxyFix

from sessionsweep import ConfigurationError, Settings, StoreError
from sessionsweep.integrations.flask import SessionSweep, current_session
from support.nodes import KEY, Node

TEXT = b"some bytes"


def make_app(node: Node, **config: Any) -> Flask:
    """An app that does one thing per address."""
    app = Flask("app")
    app.config.update(config)
    SessionSweep(app, sessions=node.sessions)

    @app.get("/untouched")
    def untouched() -> str:
        return "nothing read"

    @app.get("/read")
    def read() -> Response:
        return jsonify(
            there=bool(current_session),
            id=current_session.id,
            user=current_session.user,
            data=current_session.data,
            left=current_session.expires_in,
            files=[r.id for r in current_session.resources()],
            count=current_session.resource_count,
            bytes=current_session.bytes_used,
        )

    @app.get("/peek")
    def peek() -> Response:
        return jsonify(left=current_session.time_left())

    @app.post("/data")
    def data() -> str:
        current_session.data.update(request.get_json())
        return "ok"

    @app.post("/file")
    def file() -> Response:
        with current_session.new_file(purpose="upload", suffix=".txt") as f:
            request.files["file"].save(f)  # type: ignore[arg-type]
        return jsonify(id=f.id, size=f.size)

    @app.get("/file/<rid>")
    def get_file(rid: str) -> bytes:
        with current_session.open_file(rid) as f:
            return f.read()

    @app.delete("/file/<rid>")
    def delete(rid: str) -> str:
        current_session.delete(rid)
        return "ok"

    @app.post("/login/<user>")
    def log_in(user: str) -> Response:
        current_session.log_in(user)
        return jsonify(id=current_session.id, user=current_session.user)

    @app.post("/logout")
    def log_out() -> Response:
        current_session.log_out()
        return jsonify(there=bool(current_session))

    @app.post("/ip")
    def ip() -> Response:
        return jsonify(ip=current_session.require().ip, agent=current_session.require().user_agent)

    @app.post("/public")
    def public() -> tuple[str, dict[str, str]]:
        current_session.require()
        return "ok", {"Cache-Control": "public, max-age=600"}

    @app.get("/stream")
    def stream() -> Response:
        def late() -> Iterator[str]:
            try:
                current_session.require()
            except RuntimeError as error:
                yield str(error)

        from flask import stream_with_context

        bool(current_session)
        return Response(stream_with_context(late()))

    return app


@pytest.fixture
def client(node: Node) -> FlaskClient:
    return make_app(node).test_client()


@pytest.fixture
def keys(redis_url: str, namespace: str) -> Iterator[Callable[[], set[bytes]]]:
    """The namespace's keys, without those that move the test's clock."""
    server = redis.Redis.from_url(redis_url)
    yield lambda: {k for k in server.scan_iter(f"{namespace}*") if b":test:" not in k}
    server.close()


def upload(client: FlaskClient, content: bytes = TEXT) -> str:
    answer = client.post("/file", data={"file": (io.BytesIO(content), "x.txt")})
    assert answer.status_code == 200, answer.text
    return str(answer.json["id"])  # type: ignore[index]


def token(client: FlaskClient, name: str = "session") -> str:
    cookie = client.get_cookie(name)
    assert cookie is not None
    return cookie.value


# reading never creates, never renews

READING: dict[str, object] = {
    "there": False,
    "id": None,
    "user": None,
    "data": {},
    "left": None,
    "files": [],
    "count": 0,
    "bytes": 0,
}


def test_a_thousand_anonymous_requests_leave_no_key(client: FlaskClient, keys: Callable[[], set[bytes]]) -> None:
    for _ in range(500):
        answer = client.get("/read")
        assert answer.json == READING
        assert "Set-Cookie" not in answer.headers
        assert client.get("/file/0000000000000000.txt").status_code == 404
    assert keys() == set()


def test_a_thousand_made_up_tokens_leave_no_key(client: FlaskClient, keys: Callable[[], set[bytes]]) -> None:
    for number in range(1000):
        client.set_cookie("session", f"00{number:018d}.{'A' * 43}")
        assert client.get("/read").json == READING
    assert keys() == set()


@pytest.mark.parametrize("value", ["", ".", "x", "../../etc", "a" * 4000, "00" + "0" * 18 + "." + "é" * 43])
def test_a_senseless_cookie_is_an_anonymous_client(client: FlaskClient, value: str) -> None:
    client.set_cookie("session", value)
    assert client.get("/read").json == READING


def test_a_request_that_uses_no_session_touches_nothing(client: FlaskClient, node: Node) -> None:
    upload(client)
    node.advance(6)
    answer = client.get("/untouched")
    assert "Vary" not in answer.headers
    node.advance(6)  # 12 s after the last use, of 10 s
    assert client.get("/read").json == READING


def test_using_the_session_renews_it_once_for_each_request(client: FlaskClient, node: Node) -> None:
    upload(client)
    session_id = client.get("/read").json["id"]  # type: ignore[index]
    for _ in range(3):
        node.advance(6)
        assert client.get("/read").json["id"] == session_id  # type: ignore[index]
    assert node.sessions.attach(session_id).request_count == 5, "the upload made it, and four requests used it"


def test_peeking_tells_the_time_left_and_renews_nothing(client: FlaskClient, node: Node) -> None:
    assert client.get("/peek").json == {"left": None}
    upload(client)
    node.advance(4)
    for _ in range(3):
        assert client.get("/peek").json["left"] == pytest.approx(6, abs=0.5)  # type: ignore[index]
    node.advance(6)
    assert client.get("/peek").json == {"left": None}


def test_peeking_first_and_using_then_does_renew(node: Node) -> None:
    app = make_app(node)

    @app.get("/both")
    def both() -> Response:
        before = current_session.time_left()
        return jsonify(before=before, id=current_session.id, after=current_session.time_left())

    client = app.test_client()
    upload(client)
    node.advance(4)
    answer = client.get("/both").json
    assert answer is not None
    assert answer["before"] == pytest.approx(6, abs=0.5)
    assert answer["after"] == pytest.approx(10, abs=0.5)


# keeping creates


def test_a_file_makes_a_session_that_owns_it(client: FlaskClient) -> None:
    rid = upload(client)
    answer = client.get("/read").json
    assert answer is not None
    assert answer["files"] == [rid]
    assert answer["bytes"] == len(TEXT)
    assert client.get(f"/file/{rid}").data == TEXT
    assert client.delete(f"/file/{rid}").status_code == 200
    assert client.get(f"/file/{rid}").status_code == 404


def test_data_makes_a_session_and_only_what_changed_is_sent(client: FlaskClient, node: Node) -> None:
    assert client.post("/data", json={}).status_code == 200
    assert client.get_cookie("session") is None
    client.post("/data", json={"theme": "dark", "size": 1})
    first = token(client)
    assert client.get("/read").json["data"] == {"theme": "dark", "size": 1}  # type: ignore[index]
    other = make_app(node).test_client()
    other.set_cookie("session", first)
    other.post("/data", json={"size": 2})
    client.post("/data", json={"theme": "light"})
    assert client.get("/read").json["data"] == {"theme": "light", "size": 2}  # type: ignore[index]
    assert token(client) == first


def test_data_in_a_response_that_failed_is_kept_as_flask_keeps_its_own(node: Node) -> None:
    app = make_app(node)

    @app.post("/fail")
    def fail() -> str:
        current_session.data["seen"] = True
        raise ZeroDivisionError

    client = app.test_client()
    assert client.post("/fail").status_code == 500
    assert client.get("/read").json["data"] == {"seen": True}  # type: ignore[index]


def test_data_that_is_not_json_is_the_apps_error(node: Node) -> None:
    app = make_app(node)

    @app.post("/bad")
    def bad() -> str:
        current_session.data["x"] = object()
        return "ok"

    assert app.test_client().post("/bad").status_code == 500
    app.testing = True
    with pytest.raises(TypeError, match="'x' must be JSON"):
        app.test_client().post("/bad")


def test_requests_inside_one_app_context_do_not_share_a_session(node: Node) -> None:
    app = make_app(node)
    with app.app_context():
        ana, bob = app.test_client(), app.test_client()
        upload(ana)
        assert ana.get("/read").json["there"] is True  # type: ignore[index]
        assert bob.get("/read").json == READING


def test_two_apps_can_share_one_extension(make_node: Callable[..., Node]) -> None:
    node = make_node()
    sweep = SessionSweep(sessions=node.sessions)
    one, two = Flask("one"), Flask("two")
    for app in (one, two):
        sweep.init_app(app)
        app.add_url_rule("/id", "id", lambda: str(current_session.require().id), methods=["POST"])
    client = one.test_client()
    first = client.post("/id").text
    other = two.test_client()
    other.set_cookie("session", token(client))
    assert other.post("/id").text == first
    with one.app_context():
        assert sweep.sessions is node.sessions
    with pytest.raises(ConfigurationError, match="once"):
        sweep.init_app(one)


def test_without_the_extension_the_fix_is_named() -> None:
    app = Flask("bare")
    with app.test_request_context(), pytest.raises(ConfigurationError, match=r"SessionSweep\(app\)"):
        bool(current_session)


# log-in and log-out


def test_a_log_in_gives_a_new_token_and_kills_the_old_one(client: FlaskClient, node: Node) -> None:
    rid = upload(client)
    old, session_id = token(client), client.get("/read").json["id"]  # type: ignore[index]
    assert client.post("/login/ana").json == {"id": session_id, "user": "ana"}
    assert token(client) != old
    assert client.get("/read").json["files"] == [rid]  # type: ignore[index]
    thief = make_app(node).test_client()
    thief.set_cookie("session", old)
    assert thief.get("/read").json == READING


def test_an_anonymous_log_in_makes_a_session(client: FlaskClient) -> None:
    assert client.post("/login/ana").json["user"] == "ana"  # type: ignore[index]
    assert client.get("/read").json["user"] == "ana"  # type: ignore[index]


def test_a_token_that_an_attacker_planted_is_worth_nothing_after_the_log_in(node: Node) -> None:
    attacker, victim = (make_app(node).test_client() for _ in range(2))
    attacker.post("/data", json={"x": 1})
    victim.set_cookie("session", token(attacker))
    victim.post("/login/ana")
    assert attacker.get("/read").json == READING


def test_another_users_log_in_does_not_inherit_files(client: FlaskClient) -> None:
    client.post("/login/ana")
    rid, first = upload(client), client.get("/read").json["id"]  # type: ignore[index]
    answer = client.post("/login/bob").json
    assert answer is not None
    assert (answer["user"], answer["id"] == first) == ("bob", False)
    assert client.get("/read").json["files"] == []  # type: ignore[index]
    assert client.get(f"/file/{rid}").status_code == 404


def test_logging_in_again_keeps_session_and_files(client: FlaskClient) -> None:
    client.post("/login/ana")
    rid, old = upload(client), token(client)
    client.post("/login/ana")
    assert token(client) != old
    assert client.get("/read").json["files"] == [rid]  # type: ignore[index]


def test_a_log_out_ends_the_session_and_removes_the_cookie(client: FlaskClient, node: Node) -> None:
    upload(client)
    old = token(client)
    answer = client.post("/logout")
    assert answer.json == {"there": False}
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert client.get_cookie("session") is None
    client.set_cookie("session", old)
    assert client.get("/read").json == READING
    assert node.sessions.stats().resources["owed"] == 1


def test_an_invalid_token_does_not_remove_the_cookie_of_a_log_in_meanwhile(client: FlaskClient) -> None:
    client.set_cookie("session", "00" + "0" * 18 + "." + "A" * 43)
    assert "Set-Cookie" not in client.get("/read").headers


def test_a_session_that_ends_while_it_is_used_answers_401(node: Node) -> None:
    app = make_app(node)

    @app.post("/ended")
    def ended() -> str:
        current_session.data["x"] = 1
        assert current_session.id is not None
        node.sessions.end(current_session.id)
        return "ok"

    client = app.test_client()
    upload(client)
    answer = client.post("/ended")
    assert (answer.status_code, list(answer.json or {})) == (401, ["error"])


# the cookie


def set_cookie(response: Any) -> tuple[str, set[str]]:
    name, *parts = response.headers["Set-Cookie"].split("; ")
    return name.partition("=")[0], set(parts)


def test_the_cookie_is_httponly_and_lax_and_of_the_browsers_run(client: FlaskClient) -> None:
    assert set_cookie(client.post("/data", json={"x": 1})) == ("session", {"HttpOnly", "Path=/", "SameSite=Lax"})


@pytest.mark.parametrize(
    ("config", "name", "parts"),
    [
        ({"SESSION_COOKIE_SECURE": True}, "session", {"Secure", "Path=/", "SameSite=Lax"}),
        (
            {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_NAME": "__Host-s"},
            "__Host-s",
            {"Secure", "Path=/", "SameSite=Lax"},
        ),
        ({"SESSION_COOKIE_PATH": "/app"}, "session", {"Path=/app", "SameSite=Lax"}),
        ({"APPLICATION_ROOT": "/root"}, "session", {"Path=/root", "SameSite=Lax"}),
        ({"SESSION_COOKIE_DOMAIN": "example.org"}, "session", {"Path=/", "SameSite=Lax", "Domain=example.org"}),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, "session", {"Path=/", "SameSite=Strict"}),
        ({"SESSION_COOKIE_HTTPONLY": False}, "session", {"Path=/", "SameSite=Lax"}),
        ({"SESSION_COOKIE_NAME": "sid"}, "sid", {"Path=/", "SameSite=Lax"}),
    ],
)
def test_flasks_own_cookie_settings_hold(node: Node, config: dict[str, Any], name: str, parts: set[str]) -> None:
    app = make_app(node, **config)
    client = app.test_client()
    url = "https://example.org" if config.get("SESSION_COOKIE_SECURE") else "http://localhost"
    answer = client.post("/data", json={"x": 1}, base_url=url)
    assert set_cookie(answer) == (name, parts | {"HttpOnly"})
    removed = client.post("/logout", base_url=url)
    gone, attributes = set_cookie(removed)
    assert gone == name
    assert parts | {"HttpOnly", "Max-Age=0"} <= attributes, "a browser removes only what has the same attributes"


def test_a_response_with_a_cookie_is_never_cached_whatever_the_view_says(client: FlaskClient) -> None:
    answer = client.post("/public")
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "Cookie" in answer.headers["Vary"]
    again = client.post("/public")  # no new cookie: the view's own word stands
    assert again.headers["Cache-Control"] == "public, max-age=600"


def test_a_response_that_read_the_session_is_private_and_varies(client: FlaskClient) -> None:
    answer = client.get("/read")
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Cookie", "private")


def test_a_session_made_too_late_for_its_cookie_is_refused(client: FlaskClient, keys: Callable[[], set[bytes]]) -> None:
    assert "before it is streamed" in client.get("/stream").text
    assert keys() == set()


def test_no_header_or_log_line_holds_the_secret(
    client: FlaskClient, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    upload(client)
    secret = token(client).split(".")[1]
    for answer in (client.get("/read"), client.post("/login/ana"), client.get("/file/x")):
        assert secret not in answer.text
    assert secret not in caplog.text
    with client.application.test_request_context(headers={"Cookie": f"session={token(client)}"}):
        bool(current_session)
        assert token(client).split(".")[1] not in repr(current_session)


# the client's address


def test_the_address_is_taken_from_listed_proxies_only(make_node: Callable[..., Node]) -> None:
    direct = make_app(make_node("a", trusted_proxies="none")).test_client()
    behind = make_app(make_node("b", trusted_proxies="10.0.0.0/8")).test_client()
    headers = {"X-Forwarded-For": "8.8.8.8, 198.51.100.9", "User-Agent": "U" * 999}
    for client, peer, seen in (
        (direct, "10.0.0.1", "10.0.0.1"),
        (behind, "10.0.0.1", "198.51.100.9"),
        (behind, "203.0.113.5", "203.0.113.5"),
    ):
        client.delete_cookie("session")
        answer = client.post("/ip", headers=headers, environ_overrides={"REMOTE_ADDR": peer})
        assert answer.json == {"ip": seen, "agent": "U" * 300}


def test_it_agrees_with_werkzeugs_proxy_fix(make_node: Callable[..., Node]) -> None:
    app = make_app(make_node(trusted_proxies="10.0.0.0/8"))
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    answer = app.test_client().post(
        "/ip", headers={"X-Forwarded-For": "8.8.8.8, 198.51.100.9"}, environ_overrides={"REMOTE_ADDR": "10.0.0.1"}
    )
    assert answer.json is not None
    assert answer.json["ip"] == "198.51.100.9"


def test_a_stolen_cookie_is_anonymous_elsewhere_and_does_not_end_the_victims(make_node: Callable[..., Node]) -> None:
    app = make_app(make_node(client_binding="strict", trusted_proxies="none"))
    victim, thief = app.test_client(), app.test_client()
    home, away = ({"REMOTE_ADDR": address} for address in ("203.0.113.5", "198.51.100.9"))
    victim.post("/data", json={"x": 1}, environ_overrides=home)
    thief.set_cookie("session", token(victim))
    assert thief.get("/read", environ_overrides=away).json == READING
    assert victim.get("/read", environ_overrides=home).json["data"] == {"x": 1}  # type: ignore[index]


# errors


def test_a_server_that_is_gone_answers_503_and_no_trace(own_server: Callable[..., Any], tmp_path: Any) -> None:
    server = own_server()
    node = Node(server.url, "t", tmp_path, socket_timeout=1)
    app = make_app(node)
    client = app.test_client()
    upload(client)
    server.stop()
    for answer in (client.get("/read"), client.post("/data", json={"x": 1}), client.post("/login/ana")):
        assert answer.status_code == 503
        assert list(answer.json or {}) == ["error"]
        assert answer.headers["Retry-After"]
        assert str(server.port) not in answer.text
        assert "Set-Cookie" not in answer.headers
    assert client.get("/untouched").status_code == 200
    node.close()


def test_limits_are_told_apart(make_node: Callable[..., Node]) -> None:
    node = make_node(max_bytes_per_session=100, max_sessions_per_user=1)
    app = make_app(node)
    big, second = app.test_client(), app.test_client()
    answer = big.post("/file", data={"file": (io.BytesIO(b"x" * 101), "x")})
    assert (answer.status_code, (answer.json or {})["limit"]) == (413, "MAX_BYTES_PER_SESSION")
    big.post("/login/ana")
    answer = second.post("/login/ana")
    assert (answer.status_code, (answer.json or {})["limit"]) == (429, "MAX_SESSIONS_PER_USER")


def test_strangers_at_max_sessions_are_refused_and_the_others_go_on(make_node: Callable[..., Node]) -> None:
    node = make_node(max_sessions=2)
    app = make_app(node)
    inside, also_inside, outside = (app.test_client() for _ in range(3))
    rid = upload(inside)
    upload(also_inside)
    answer = outside.post("/file", data={"file": (io.BytesIO(b"x"), "x")})
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert "Set-Cookie" not in answer.headers
    assert inside.get(f"/file/{rid}", buffered=True).status_code == 200
    node.advance(node.settings.idle_timeout)
    assert upload(outside), "what is due makes room, swept or not"


def test_a_failed_upload_leaves_no_more_than_an_empty_session(make_node: Callable[..., Node]) -> None:
    node = make_node(max_bytes_per_session=100)
    client = make_app(node).test_client()
    answer = client.post("/file", data={"file": (io.BytesIO(b"x" * 101), "x")})
    assert (answer.status_code, (answer.json or {})["limit"]) == (413, "MAX_BYTES_PER_SESSION")
    (session,), _ = node.sessions.list()
    assert (session.resource_count, session.bytes_used, session.resources()) == (0, 0, [])
    upload(client)
    assert len(node.sessions.list()[0]) == 1, "the next upload goes on in it"
    node.advance(node.settings.idle_timeout + node.core.width / 1000)  # the sweep looks once a slot
    node.sweep.run_once()
    assert node.sessions.stats().active_sessions == 0


def test_a_file_of_another_nodes_volume_names_the_node(make_node: Callable[..., Node]) -> None:
    a, b = (make_app(make_node(name)).test_client() for name in "ab")
    rid = upload(a)
    b.set_cookie("session", token(a))
    answer = b.get(f"/file/{rid}")
    assert (answer.status_code, (answer.json or {})["nodes"]) == (421, ["a"])


@pytest.mark.parametrize("before", [True, False])
def test_the_apps_own_handler_wins(node: Node, before: bool) -> None:
    app = Flask("app")
    from sessionsweep import SessionSweepError

    def own(error: SessionSweepError) -> tuple[str, int]:
        return "mine", 418

    if before:
        app.register_error_handler(SessionSweepError, own)
    SessionSweep(app, sessions=node.sessions)
    if not before:
        app.register_error_handler(StoreError, own)
        app.register_error_handler(SessionSweepError, own)
    app.add_url_rule("/", view_func=lambda: current_session.open_file("nothing"))
    assert app.test_client().get("/").text == "mine"


# settings


def test_settings_come_from_flasks_configuration_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("SESSIONSWEEP_IDLE_TIMEOUT", "5m")
    monkeypatch.setenv("SESSIONSWEEP_MAX_DURATION", "2h")
    app = Flask("app")
    app.config.update(SESSIONSWEEP_REDIS_URL=redis_url, SESSIONSWEEP_SECRET_KEY=KEY, SESSIONSWEEP_IDLE_TIMEOUT="7m")
    sweep = SessionSweep(app)
    with app.app_context():
        settings: Settings = sweep.sessions.settings
    assert (settings.idle_timeout, settings.max_duration) == (420, 7200)


def test_a_wrong_setting_stops_the_app_before_it_serves(redis_url: str) -> None:
    app = Flask("app")
    app.config.update(SESSIONSWEEP_REDIS_URL=redis_url, SESSIONSWEEP_SECRET_KEY=KEY, SESSIONSWEEP_IDLE_TIMEOUT="soon")
    with pytest.raises(ConfigurationError, match="IDLE_TIMEOUT"):
        SessionSweep(app)


def test_nothing_connects_before_the_first_use() -> None:
    app = Flask("app")
    SessionSweep(app, Settings(redis_url="redis://127.0.0.1:1/0", secret_key=KEY))
    app.add_url_rule("/", view_func=lambda: "ok")
    assert app.test_client().get("/").text == "ok"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("SESSIONSWEEP_IDLE_TIMOUT", "did you mean SESSIONSWEEP_IDLE_TIMEOUT?"),
        ("SESSIONSWEEP_NO_ACTIVITY_PATH", "did you mean SESSIONSWEEP_NO_ACTIVITY_PATHS?"),
        ("SESSIONSWEEP_QWXZ", "remove it"),
    ],
)
def test_a_misspelt_setting_is_told_as_the_app_wrote_it(key: str, told: str) -> None:
    app = Flask("app")
    app.config.update({"SESSIONSWEEP_REDIS_URL": "memory://", "SESSIONSWEEP_SECRET_KEY": KEY, key: "secret"})
    with pytest.raises(ConfigurationError) as wrong:
        SessionSweep(app)
    assert str(wrong.value).startswith(f"{key} is not a setting; {told}")
    assert "secret" not in str(wrong.value)
