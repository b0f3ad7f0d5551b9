"""The example over the real store: every address, on both nodes, for its owner only."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from flask.testing import FlaskClient
from web_nodes import WebNode

from sessionsweep import ConfigurationError
from sessionsweep.model.ids import is_resource_id, is_session_id
from sessionsweep_workers.devstack.server import EmbeddedServer
from voice_notes.nodes import elsewhere, origins, parse_nodes

MP3 = bytes(range(256)) * 4


@pytest.fixture
def a(nodes: list[WebNode]) -> FlaskClient:
    return nodes[0].app.test_client()


@pytest.fixture
def b(nodes: list[WebNode]) -> FlaskClient:
    return nodes[1].app.test_client()


def upload(client: FlaskClient, name: str = "talk.mp3", content: bytes = MP3) -> dict[str, Any]:
    answer = client.post("/files", data={"file": (io.BytesIO(content), name)})
    assert answer.status_code == 201, answer.text
    return dict(answer.json or {})


def same_client(one: FlaskClient, other: FlaskClient) -> None:
    """Gives `other` the cookie of `one`, as a browser does for all ports of a host."""
    cookie = one.get_cookie("session")
    assert cookie is not None
    other.set_cookie("session", cookie.value)


def listed(client: FlaskClient) -> list[dict[str, Any]]:
    return list((client.get("/files").json or {})["files"])


# making notes


def test_an_upload_answers_where_it_is(a: FlaskClient, nodes: list[WebNode]) -> None:
    answer = a.post("/files", data={"file": (io.BytesIO(MP3), "talk.mp3")})
    assert answer.status_code == 201
    body = answer.json or {}
    assert set(body) == {"session_id", "resource_id", "size"}
    assert is_session_id(body["session_id"])
    assert is_resource_id(body["resource_id"])
    assert body["size"] == len(MP3)
    assert answer.headers["Location"] == f"/files/{body['resource_id']}"
    (file,) = nodes[0].files()
    assert file.read_bytes() == MP3
    assert nodes[1].files() == []


@pytest.mark.parametrize("send", [{"json": {"text": "Hello."}}, {"data": {"text": "Hello."}}])
def test_speech_is_a_wav_file_of_the_session(a: FlaskClient, send: dict[str, Any]) -> None:
    answer = a.post("/speak", **send)
    assert answer.status_code == 201
    body = answer.json or {}
    assert set(body) == {"session_id", "resource_id", "size"}
    assert body["resource_id"].endswith(".wav")
    sound = a.get(f"/files/{body['resource_id']}").data
    assert sound[:4] + sound[8:12] == b"RIFFWAVE"
    assert int.from_bytes(sound[4:8], "little") == len(sound) - 8 == body["size"] - 8


@pytest.mark.parametrize(
    "send",
    [
        {"json": {"text": ""}},
        {"json": {"text": 7}},
        {"json": ["text"]},
        {"json": {}},
        {"data": {}},
        {"data": "{", "content_type": "application/json"},
        {"json": {"text": "x" * 281}},
    ],
)
def test_what_can_not_be_spoken_is_refused_and_makes_no_session(
    a: FlaskClient, nodes: list[WebNode], send: dict[str, Any]
) -> None:
    answer = a.post("/speak", **send)
    assert (answer.status_code, list(answer.json or {})) == (400, ["error"])
    assert a.get_cookie("session") is None
    assert nodes[0].files() == []


@pytest.mark.parametrize("data", [{}, {"file": "text"}, {"other": (io.BytesIO(b"x"), "x.wav")}])
def test_an_upload_without_a_file_is_refused_and_makes_no_session(a: FlaskClient, data: dict[str, Any]) -> None:
    answer = a.post("/files", data=data, content_type="multipart/form-data")
    assert (answer.status_code, list(answer.json or {})) == (400, ["error"])
    assert a.get_cookie("session") is None


@pytest.mark.parametrize(
    ("name", "suffix", "kind"),
    [
        ("a.wav", ".wav", "audio/wav"),
        ("a.MP3", ".mp3", "audio/mpeg"),
        ("../../etc/passwd.ogg", ".ogg", "audio/ogg"),
        ("a.html", "", "application/octet-stream"),
        ("a.svg", "", "application/octet-stream"),
        ("a.wav.exe", "", "application/octet-stream"),
        ("a.wav\u202egpj", "", "application/octet-stream"),
        (".wav", "", "application/octet-stream"),
        ("noname", "", "application/octet-stream"),
        ("x" * 200 + ".webm", ".webm", "audio/webm"),
    ],
)
def test_names_and_types_are_ours(
    a: FlaskClient, nodes: list[WebNode], tmp_path: Path, name: str, suffix: str, kind: str
) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    rid = upload(a, name)["resource_id"]
    assert rid[16:] == suffix
    answer = a.get(f"/files/{rid}", headers={"Accept": "text/html"})
    assert answer.mimetype == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    how = "inline" if suffix else "attachment"
    assert answer.headers["Content-Disposition"] == f'{how}; filename="{rid}"'
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    (made,) = (path for path in new if path.parent.name == listed_session(a))
    assert made.name == rid
    assert all(path.is_relative_to(nodes[0].volume) for path in new)


def listed_session(client: FlaskClient) -> str:
    return str((client.get("/session").json or {})["session_id"])


def test_an_upload_over_the_limit_answers_413_and_leaves_nothing(
    make_web_nodes: Callable[..., list[WebNode]],
) -> None:
    (node,) = make_web_nodes("node-a", max_bytes_per_session="10kB")
    client = node.app.test_client()
    assert upload(client, content=b"x" * 6000)["size"] == 6000
    for size in (10_001, 200_000):  # over the limit; over what is read at all
        answer = client.post("/files", data={"file": (io.BytesIO(b"y" * size), "a.wav")})
        assert (answer.status_code, "error" in (answer.json or {})) == (413, True)
    assert [path.read_bytes()[:1] for path in node.files()] == [b"x"]
    assert upload(client, content=b"z" * 4000)["size"] == 4000, "a refused upload takes no room"


def test_the_least_recently_used_notes_go_at_the_limit_with_their_titles(
    make_web_nodes: Callable[..., list[WebNode]],
) -> None:
    (node,) = make_web_nodes("node-a", max_resources_per_session=3)
    client = node.app.test_client()
    for number in range(6):
        upload(client, f"note {number}.mp3")
        node.advance(1)
    assert [file["title"] for file in listed(client)] == ["note 3.mp3", "note 4.mp3", "note 5.mp3"]
    session = node.sessions.attach(listed_session(client))
    assert len(session.data) <= 4, "titles of notes that were evicted pile up"


# listing and reading


def test_the_list_says_what_a_page_needs(a: FlaskClient) -> None:
    assert a.get("/files").json == {"session_id": None, "files": []}
    made = upload(a, "A talk with Ana.mp3")
    a.post("/speak", json={"text": " Hello,\n world. "})
    first, second = listed(a)
    assert {**first, "created": ""} == {
        "resource_id": made["resource_id"],
        "purpose": "upload",
        "title": "A talk with Ana.mp3",
        "size": len(MP3),
        "created": "",
        "url": f"/files/{made['resource_id']}",
        "node": "node-a",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", first["created"])
    assert (second["purpose"], second["title"]) == ("tts", "Hello, world.")


@pytest.mark.parametrize(
    ("wanted", "status", "part", "answered"),
    [
        ("bytes=0-9", 206, MP3[:10], "bytes 0-9/1024"),
        ("bytes=1000-", 206, MP3[1000:], "bytes 1000-1023/1024"),
        ("bytes=-4", 206, MP3[-4:], "bytes 1020-1023/1024"),
        ("bytes=1024-", 416, None, "bytes */1024"),
        (None, 200, MP3, None),
    ],
)
def test_a_player_gets_ranges(
    a: FlaskClient, wanted: str | None, status: int, part: bytes | None, answered: str | None
) -> None:
    url = f"/files/{upload(a)['resource_id']}"
    answer = a.get(url, headers={"Range": wanted} if wanted else {})
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, answered)
    if part is not None:
        assert answer.data == part
        assert answer.headers["Content-Length"] == str(len(part))
        assert answer.headers["Accept-Ranges"] == "bytes"


def test_an_unchanged_file_is_not_sent_again(a: FlaskClient) -> None:
    url = f"/files/{upload(a)['resource_id']}"
    tag = a.get(url).headers["ETag"]
    assert a.get(url, headers={"If-None-Match": tag}).status_code == 304
    assert a.get(url, headers={"Range": "bytes=0-1", "If-Range": tag}).status_code == 206
    assert a.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).data == MP3
    head = a.head(url)
    assert (head.status_code, head.headers["Content-Length"], head.data) == (200, str(len(MP3)), b"")


@pytest.mark.parametrize("rid", ["x", "0000000000000000.wav", "..%2f..%2fetc%2fpasswd", "A" * 3000, "%00", ".."])
def test_what_is_no_file_of_the_session_is_404(a: FlaskClient, rid: str) -> None:
    upload(a)
    assert a.get(f"/files/{rid}").status_code == 404
    assert a.delete(f"/files/{rid}").status_code in (404, 405)


def test_a_file_is_its_owners_only(a: FlaskClient, nodes: list[WebNode]) -> None:
    rid = upload(a)["resource_id"]
    stranger, other = (nodes[0].app.test_client() for _ in range(2))
    upload(other)
    for client in (stranger, other):
        assert client.get(f"/files/{rid}").status_code == 404
        assert client.delete(f"/files/{rid}").status_code == 404
    assert a.get(f"/files/{rid}").data == MP3


def test_a_deleted_note_is_gone_from_the_list_at_once(a: FlaskClient) -> None:
    rid, kept = (upload(a)["resource_id"] for _ in range(2))
    assert a.delete(f"/files/{rid}").status_code == 204
    assert a.get(f"/files/{rid}").status_code == 404
    assert a.delete(f"/files/{rid}").status_code == 204, "a repeat, as after a lost answer"
    assert [file["resource_id"] for file in listed(a)] == [kept]


# two nodes


def test_a_session_of_one_node_works_on_the_other(a: FlaskClient, b: FlaskClient) -> None:
    first = upload(a)
    same_client(a, b)
    second = upload(b)
    assert second["session_id"] == first["session_id"]
    for client in (a, b):
        assert [file["node"] for file in listed(client)] == ["node-a", "node-b"]


def test_a_file_of_the_other_nodes_disk_is_redirected_to_it(nodes: list[WebNode]) -> None:
    one, two = nodes
    with httpx.Client(timeout=30) as web:
        rid = web.post(f"{one.url}/files", files={"file": ("a.mp3", MP3)}).json()["resource_id"]
        answer = web.get(f"{two.url}/files/{rid}")
        assert answer.status_code == 307
        assert answer.headers["Location"] == f"{one.url}/files/{rid}?from=node-b"
        assert "no-store" in answer.headers["Cache-Control"]
        followed = web.get(f"{two.url}/files/{rid}", headers={"Range": "bytes=4-7"}, follow_redirects=True)
        assert (followed.status_code, followed.content) == (206, MP3[4:8])
        assert web.delete(f"{two.url}/files/{rid}").status_code == 204


def test_a_stranger_is_not_redirected(a: FlaskClient, b: FlaskClient) -> None:
    assert b.get(f"/files/{upload(a)['resource_id']}").status_code == 404


def test_nobody_is_sent_in_circles(a: FlaskClient, b: FlaskClient) -> None:
    rid = upload(a)["resource_id"]
    same_client(a, b)
    answer = b.get(f"/files/{rid}?from=node-c")
    assert (answer.status_code, (answer.json or {})["nodes"]) == (421, ["node-a"])


def test_a_node_without_a_known_address_is_named(a: FlaskClient, nodes: list[WebNode]) -> None:
    from voice_notes.app import create_app

    rid = upload(a)["resource_id"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VOICE_NOTES_NODES")
        alone = create_app(nodes[1].sessions.settings)
    alone.extensions["sessionsweep"].sessions.store = nodes[1].sessions.store
    client = alone.test_client()
    same_client(a, client)
    assert (client.get(f"/files/{rid}").json or {})["nodes"] == ["node-a"]


def test_addresses_are_urls_or_paths() -> None:
    nodes = parse_nodes("a=http://127.0.0.1:5001/, b=https://b.example.org,c=/at/c")
    assert nodes == {"a": "http://127.0.0.1:5001", "b": "https://b.example.org", "c": "/at/c"}
    assert origins(nodes) == ["http://127.0.0.1:5001", "https://b.example.org"]
    assert elsewhere(nodes, ["x", "b", "c"], here="b") == "/at/c"
    assert elsewhere(nodes, ["b"], here="b") is None
    assert parse_nodes("") == {}


@pytest.mark.parametrize(
    "text",
    ["a", "=http://x", "a=x", "a=javascript:alert(1)", "a=//evil", "a=http://u:p@x", "a=/\\evil", "a=http://x?y"],
)
def test_an_impossible_address_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="VOICE_NOTES_NODES"):
        parse_nodes(text)


# the session


def test_the_time_left_is_told_without_renewing(a: FlaskClient, nodes: list[WebNode]) -> None:
    nothing = a.get("/session").json or {}
    assert [nothing[name] for name in ("session_id", "user", "expires_in", "files", "bytes")] == [None] * 3 + [0, 0]
    made = upload(a)
    nodes[0].advance(600)
    for _ in range(3):
        told = a.get("/session").json or {}
        assert told["expires_in"] == pytest.approx(300, abs=5)
    assert (told["session_id"], told["files"], told["bytes"]) == (made["session_id"], 1, len(MP3))
    nodes[0].advance(301)
    assert (a.get("/session").json or {})["session_id"] is None
    assert a.get(f"/files/{made['resource_id']}").status_code == 404


def test_use_renews_on_either_node(a: FlaskClient, b: FlaskClient, nodes: list[WebNode]) -> None:
    session_id = upload(a)["session_id"]
    same_client(a, b)
    for client in (b, a, b):
        nodes[0].advance(600)
        assert (client.get("/files").json or {})["session_id"] == session_id


@pytest.mark.parametrize("how", ["json", "data"])
def test_a_log_in_keeps_notes_and_changes_the_token(a: FlaskClient, b: FlaskClient, how: str) -> None:
    rid = upload(a)["resource_id"]
    same_client(a, b)
    answer = a.post("/login", **{how: {"user": " ana "}})
    assert (answer.status_code, (answer.json or {})["user"]) == (200, "ana")
    assert [file["resource_id"] for file in listed(a)] == [rid]
    assert (a.get("/session").json or {})["user"] == "ana"
    assert listed(b) == [], "the old token is dead on every node"


@pytest.mark.parametrize("user", ["", "  ", "x" * 65, "a\nb", 7, None])
def test_a_senseless_name_is_refused(a: FlaskClient, user: object) -> None:
    assert a.post("/login", json={"user": user}).status_code == 400
    assert a.get_cookie("session") is None


def test_a_log_out_ends_it_everywhere(a: FlaskClient, b: FlaskClient, nodes: list[WebNode]) -> None:
    rid = upload(a)["resource_id"]
    same_client(a, b)
    answer = b.post("/logout")
    assert (answer.status_code, answer.data) == (204, b"")
    for client in (a, b):
        assert client.get(f"/files/{rid}").status_code == 404
        assert listed(client) == []
    assert nodes[0].sessions.stats().resources["owed"] == 1
    assert b.post("/logout").status_code == 204, "once more is harmless"


def test_health_makes_and_touches_nothing(a: FlaskClient, nodes: list[WebNode], redis_url: str, namespace: str) -> None:
    server = redis.Redis.from_url(redis_url)
    assert a.get("/healthz").json == {"status": "ok", "node": "node-a"}
    assert [k for k in server.scan_iter(f"{namespace}*") if b":test:" not in k] == []
    server.close()
    upload(a)
    nodes[0].advance(600)
    assert a.get("/healthz").status_code == 200
    assert (a.get("/session").json or {})["expires_in"] == pytest.approx(300, abs=5)


# what a browser must not be made to do


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another app on this host, another port
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "null"},
    ],
)
def test_another_site_can_change_nothing(a: FlaskClient, headers: dict[str, str]) -> None:
    rid = upload(a)["resource_id"]
    for method, url, send in (
        ("POST", "/logout", {}),
        ("POST", "/login", {"data": {"user": "eve"}}),
        ("POST", "/speak", {"data": '{"text": "x"}', "content_type": "text/plain"}),
        ("POST", "/files", {"data": {"file": (io.BytesIO(b"x"), "x.wav")}}),
        ("DELETE", f"/files/{rid}", {}),
    ):
        answer = a.open(url, method=method, headers=headers, **send)
        assert (answer.status_code, list(answer.json or {})) == (403, ["error"]), (method, url)
    assert [file["resource_id"] for file in listed(a)] == [rid]
    assert (a.get("/session").json or {})["user"] is None


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}],
)
def test_the_page_itself_and_programs_can(a: FlaskClient, headers: dict[str, str]) -> None:
    assert a.post("/login", data={"user": "ana"}, headers=headers).status_code == 200


def test_the_page_runs_no_script_but_its_own(a: FlaskClient, nodes: list[WebNode]) -> None:
    answer = a.get("/")
    policy = dict(part.partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["media-src"].split() == ["'self'", "blob:", *sorted(node.url for node in nodes)]
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", answer.text)
    assert "Set-Cookie" not in answer.headers
    assert nodes[1].url in answer.text


def test_every_error_is_json(a: FlaskClient) -> None:
    for method, url, status in (("GET", "/nothing", 404), ("PUT", "/files", 405), ("GET", "/files/x", 404)):
        answer = a.open(url, method=method)
        assert (answer.status_code, list(answer.json or {})) == (status, ["error"])
    assert "POST" in a.put("/files").headers["Allow"]


def test_the_page_and_health_stand_when_the_store_is_gone(
    own_server: Callable[..., EmbeddedServer], make_web_nodes: Callable[..., list[WebNode]]
) -> None:
    server = own_server()
    (node,) = make_web_nodes("node-a", clock=False, url=server.url)
    client = node.app.test_client()
    upload(client)
    server.stop()
    assert client.get("/").status_code == client.get("/healthz").status_code == 200
    for answer in (client.get("/session"), client.get("/files"), client.post("/logout")):
        assert (answer.status_code, list(answer.json or {})) == (503, ["error"])
    assert client.get_cookie("session") is not None, "an outage logs nobody out"
