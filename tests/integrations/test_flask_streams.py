"""Server-sent events in Flask: registered while they last, closed with a last event when their session ends."""

from __future__ import annotations

import contextlib
import gc
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from http.client import HTTPConnection
from typing import Any

import pytest
from flask import Flask, Response, jsonify, request
from flask.testing import FlaskClient
from flask_apps import Apps, Make, sessions_of
from werkzeug.serving import WSGIRequestHandler, make_server

from sessionsweep import Session
from sessionsweep.integrations.event_streams import EventStream
from sessionsweep.integrations.events import KEEP_ALIVE, ended, frame
from sessionsweep.integrations.flask import current_session, session_events
from support.processes import wait_until

LONG = 60.0


class Quiet(WSGIRequestHandler):
    def log_request(self, *args: Any, **kwargs: Any) -> None:
        """A passing test prints nothing."""


class Site:
    """An app whose generators say what the test tells them, and whether they were closed."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.items: queue.Queue[Any] = queue.Queue()
        self.closed = threading.Event()
        self.waiting = threading.Semaphore(0)  # long polls that wait

        @app.post("/login/<user>")
        def log_in(user: str) -> str:
            current_session.log_in(user)
            return str(current_session.id)

        @app.get("/events")
        def events() -> Response:
            keep_alive, linger = request.args.get("keep_alive", LONG, float), request.args.get("linger", 0, float)
            return current_session.events(self.generate(), "progress", keep_alive=keep_alive, linger=linger)

        @app.get("/count/<int:last>")
        @session_events("counting")
        def counting(last: int) -> Iterator[int]:
            yield from range(last)

        @app.get("/poll")
        def poll() -> Response:
            linger = request.args.get("linger", 0, float)
            with current_session.stream("poll", close=self.items.put, linger=linger):
                self.waiting.release()
                return jsonify(self.items.get())

        @app.get("/broken")
        def broken() -> Response:
            current_session.events(self.generate())
            raise ZeroDivisionError

        @app.get("/who")
        def who() -> Response:
            def tell() -> Iterator[Any]:
                yield f"{current_session.user} at {request.path}"

            return current_session.events(tell())

    def generate(self) -> Iterator[Any]:
        try:
            yield "hello"  # test client and server answer with the first event
            while (item := self.items.get()) is not StopIteration:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed.set()

    def log_in(self) -> tuple[FlaskClient, str]:
        client = self.app.test_client()
        return client, client.post("/login/ana").text

    def events(self, client: FlaskClient, url: str = "/events") -> tuple[Any, Iterator[bytes]]:
        """The response and the rest of its body."""
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        body = iter(answer.response)
        first = next(body)
        assert first in (b"data: hello\n\n", KEEP_ALIVE)
        return answer, body  # type: ignore[return-value]

    def session(self, session_id: str) -> Session:
        return sessions_of(self.app).attach(session_id)


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, namespace: str) -> Iterator[Make]:
    """Apps on either store."""
    apps = Apps("memory://" if request.param == "memory" else request.getfixturevalue("redis_url"), namespace)
    yield apps
    apps.close()


@pytest.fixture
def site(make: Make) -> Iterator[Site]:
    """One node."""
    made = Site(make(SESSIONSWEEP_MAX_STREAMS_PER_SESSION=2, SESSIONSWEEP_CLEANUP_INTERVAL=1))
    yield made
    for _ in range(5):
        made.items.put(StopIteration)


def test_events_go_out_as_they_come_and_the_stream_is_registered_meanwhile(site: Site) -> None:
    client, session_id = site.log_in()
    answer, body = site.events(client)
    for item in ("one\ntwo", None, {"event": "half", "data": {"done": 0.5}}, b"raw: yes\n\n"):
        site.items.put(item)
    assert next(body) == b"data: one\ndata: two\n\n"
    assert next(body) == b'event: half\ndata: {"done": 0.5}\n\n'
    assert next(body) == b"raw: yes\n\n"
    assert answer.mimetype == "text/event-stream"
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("private, no-store", "no")
    (one,) = sessions_of(site.app).connections("ana")
    assert (one.session_id, one.purpose) == (session_id, "progress")
    site.items.put(StopIteration)
    assert list(body) == []
    answer.close()
    assert site.session(session_id).stream_count == 0
    assert site.closed.wait(LONG)


def test_the_end_of_its_session_wakes_a_silent_stream_with_a_last_event(site: Site) -> None:
    client, session_id = site.log_in()
    answer, body = site.events(client)
    sessions_of(site.app).end(session_id, reason="admin")
    assert next(body) == b"event: session-ended\ndata: admin\n\n", "though the generator says nothing"
    assert list(body) == []
    answer.close()
    site.items.put("too late")
    assert site.closed.wait(LONG), "the generator is closed"
    wait_until(lambda: sessions_of(site.app).stats().resources["owed"] == 0, 20, "it is acknowledged")


def test_no_event_of_an_ended_session_goes_out(site: Site) -> None:
    client, session_id = site.log_in()
    answer, body = site.events(client)
    found = event_stream()
    site.items.put("secret")
    with contextlib.ExitStack() as stack:
        stack.callback(answer.close)
        sessions_of(site.app).end(session_id)
        wait_until(lambda: found._ready is not None and found._reason is not None, 20, "both are there")
        assert list(body) == [b"event: session-ended\ndata: admin\n\n"]


def event_stream() -> Any:
    """The stream behind the test client's wrappers."""
    import gc

    from sessionsweep.integrations.event_streams import EventStream

    (found,) = [one for one in gc.get_objects() if type(one) is EventStream and not one._closed.done()]
    return found


def test_keep_alives_come_while_it_is_silent_and_are_no_activity(site: Site) -> None:
    client, session_id = site.log_in()
    answer, body = site.events(client, "/events?keep_alive=0.01")
    before = site.session(session_id).last_activity
    next(body)  # the first event, where it was slower than the first comment
    assert [next(body) for _ in range(5)] == [KEEP_ALIVE] * 5
    assert site.session(session_id).last_activity == before
    answer.close()
    site.items.put(None)
    assert site.closed.wait(LONG)


def test_a_generators_error_ends_the_stream_and_gives_it_back(site: Site) -> None:
    client, session_id = site.log_in()
    answer, body = site.events(client)
    site.items.put(ZeroDivisionError("app"))
    with pytest.raises(ZeroDivisionError):
        list(body)
    answer.close()
    assert site.session(session_id).stream_count == 0


def test_who_may_not_have_a_stream_is_told_before_it_begins(site: Site) -> None:
    assert site.app.test_client().get("/events").status_code == 401
    client, session_id = site.log_in()
    answers = [site.events(client)[0] for _ in range(2)]
    refused = client.get("/events")
    assert (refused.status_code, (refused.json or {})["limit"]) == (429, "MAX_STREAMS_PER_SESSION")
    for answer in answers:
        answer.close()
        site.items.put(StopIteration)
    wait_until(lambda: site.session(session_id).stream_count == 0, 20, "each is given back")


def test_a_source_that_goes_on_after_its_client_left_keeps_its_place(site: Site) -> None:
    """Else clients that come and go would leave threads without a limit."""
    client, session_id = site.log_in()
    for _ in range(2):
        site.events(client)[0].close()
    assert [client.get("/events").status_code for _ in range(3)] == [429] * 3
    assert site.session(session_id).stream_count == 2
    for left in (1, 0):
        site.items.put(None)
        wait_until(lambda left=left: site.session(session_id).stream_count == left, 20, "its thread has ended")  # type: ignore[misc]
    answer, _ = site.events(client)
    site.items.put(StopIteration)
    answer.close()


def test_a_stream_without_a_thread_is_given_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session_id = site.log_in()
    body = EventStream(site.session(session_id), iter(()), "events", LONG, 0)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            next(body)
    body.close()
    assert site.session(session_id).stream_count == 0


def test_what_nobody_reads_holds_no_place(site: Site) -> None:
    client, session_id = site.log_in()
    head = client.head("/events")
    assert (head.status_code, head.mimetype) == (200, "text/event-stream")
    for _ in range(3):
        assert client.get("/broken").status_code == 500
        gc.collect()  # the traceback of the error held the view's frame
        wait_until(lambda: site.session(session_id).stream_count == 0)


def test_a_stream_that_is_collected_waits_for_no_lock_of_the_thread_that_it_is_collected_in(site: Site) -> None:
    _, session_id = site.log_in()
    session = site.session(session_id)

    def drop_while_locked() -> None:
        dropped: dict[str, Any] = {"body": EventStream(session, iter(()), "events", LONG, 0)}
        dropped["itself"] = dropped
        del dropped
        with sessions_of(site.app).streams._lock:
            gc.collect()

    thread = threading.Thread(target=drop_while_locked, daemon=True)
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive(), "it waits for its own lock"
    wait_until(lambda: site.session(session_id).stream_count == 0)


def test_the_generator_sees_the_request(site: Site) -> None:
    client, _ = site.log_in()
    assert client.get("/who").data == b"data: ana at /who\n\n"


def test_a_decorated_generator_view_is_a_stream(site: Site) -> None:
    assert site.app.test_client().get("/count/2").status_code == 401
    client, session_id = site.log_in()
    answer = client.get("/count/2")
    assert [one.purpose for one in sessions_of(site.app).connections("ana")] == ["counting"]
    assert answer.data == b"data: 0\n\ndata: 1\n\n"
    answer.close()
    assert site.session(session_id).stream_count == 0


def polling(site: Site, client: FlaskClient, url: str = "/poll") -> Future[Any]:
    """A long poll in a thread of its own, once it is under way: its answer, to wait for."""
    answer: Future[Any] = Future()
    threading.Thread(target=lambda: answer.set_result(client.get(url)), daemon=True).start()
    wait_until(lambda: site.waiting.acquire(blocking=False) or answer.done(), 20, "it waits")
    return answer


def test_a_long_poll_is_woken_by_news_or_by_the_end_of_its_session(site: Site) -> None:
    assert site.app.test_client().get("/poll").status_code == 401
    client, session_id = site.log_in()
    answer = polling(site, client)
    site.items.put("news")
    assert answer.result(20).json == "news"
    assert site.session(session_id).stream_count == 0, "it is given back"
    answer = polling(site, client)
    (one,) = sessions_of(site.app).connections("ana")
    assert (one.session_id, one.purpose) == (session_id, "poll")
    sessions_of(site.app).end(session_id, reason="user")
    assert answer.result(20).json == "user"
    wait_until(lambda: sessions_of(site.app).stats().resources["owed"] == 0, 20, "it is acknowledged")


@pytest.mark.parametrize("url", ["/events?linger=60", "/poll?linger=60"])
def test_a_client_that_comes_right_back_finds_its_place(make: Make, url: str) -> None:
    site = Site(make(SESSIONSWEEP_MAX_STREAMS_PER_SESSION=1))
    client, session_id = site.log_in()

    def visit() -> str:
        """Comes, and leaves at once; the place that it had."""
        answer = polling(site, client, url) if "poll" in url else site.events(client, url)[0]
        (one,) = sessions_of(site.app).connections("ana")
        site.items.put(StopIteration if "events" in url else "over")
        (answer.result(20) if "poll" in url else answer).close()
        wait_until(lambda: sessions_of(site.app).streams.mine() == [], 20, "its generator has ended")
        return one.id

    place = visit()
    refused = client.get("/count/2")
    assert (refused.status_code, (refused.json or {})["limit"]) == (429, "MAX_STREAMS_PER_SESSION"), "it is kept"
    assert visit() == place
    sessions_of(site.app).end(session_id)
    wait_until(lambda: sessions_of(site.app).stats().resources["owed"] == 0, 20, "and ends with its session")


def test_a_real_server_closes_it_from_another_node_and_notices_who_left(make: Make) -> None:
    """The generators say nothing: only the end of the session, and a keep-alive that fails, can wake the server."""
    site, other = Site(make(SESSIONSWEEP_CLEANUP_INTERVAL=1)), make(SESSIONSWEEP_NODE="node-b")
    server = make_server("127.0.0.1", 0, site.app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        client, session_id = site.log_in()
        cookie = client.get_cookie("session")
        assert cookie is not None

        def connect(keep_alive: float) -> tuple[HTTPConnection, Any]:
            connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            headers = {"Cookie": f"session={cookie.value}", "User-Agent": client.environ_base["HTTP_USER_AGENT"]}
            connection.request("GET", f"/events?keep_alive={keep_alive}", headers=headers)
            return connection, connection.getresponse()

        leaving, answer = connect(0.02)
        assert answer.read(13) == b"data: hello\n\n"
        assert answer.read(len(KEEP_ALIVE)) == KEEP_ALIVE
        staying, last = connect(LONG)
        assert last.read(13) == b"data: hello\n\n"
        assert site.session(session_id).stream_count == 2
        answer.close()
        leaving.close()

        def given_back() -> bool:
            site.items.put(None)  # to either generator; it goes out to nobody
            return site.session(session_id).stream_count == 1

        wait_until(given_back, 20, "who left is noticed")
        sessions_of(other).end(session_id, reason="logout")
        assert last.read() == b"event: session-ended\ndata: logout\n\n"
        last.close()
        staying.close()
        wait_until(lambda: sessions_of(other).stats().resources["owed"] == 0, 20, "acknowledged")
    finally:
        for _ in range(2):
            site.items.put(StopIteration)
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_event_cant_be_forged() -> None:
    assert frame("a\r\nb\rc") == b"data: a\ndata: b\ndata: c\n\n"
    assert frame({"data": "x", "event": "e", "id": 7}) == b"event: e\nid: 7\ndata: x\n\n"
    assert frame({"event": "ping"}) == b"event: ping\ndata:\n\n", "without a line of data, browsers don't dispatch it"
    assert frame({"retry": 5}) == b"retry: 5\n\n", "no event"
    assert frame("half \ud83d of it") == b"data: half ? of it\n\n"
    assert ended("idle") == b"event: session-ended\ndata: idle\n\n"
    for item in ({"event": "a\ndata: forged", "data": ""}, {"id": "1\r2"}, {"nonsense": 1}):
        with pytest.raises(ValueError, match="event"):
            frame(item)
