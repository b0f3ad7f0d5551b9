"""`GET /admin/events`: pages, filters, forged cursors; and server-sent events that resume, end, and hold nobody up."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from urllib.parse import urlsplit

import httpx
import pytest
from admin_client import READ, WRITE, Admin

from sessionsweep.admin import create_admin, feed
from sessionsweep.admin import desk as desks
from sessionsweep.admin.desk import Desk
from sessionsweep.admin.pages.events import SHOWN
from sessionsweep.model.events import Event, EventName
from sessionsweep.operator import timeline
from sessionsweep.operator.timeline import Cursors, Page, Wanted
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node
from support.processes import wait_until
from support.serving import serving

OURS = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
STREAM = {"X-Admin-Token": READ, "Accept": "text/event-stream"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL", 0.05)


def ids(found: dict[str, Any]) -> list[str]:
    return [one["id"] for one in found["events"]]


class Reader:
    """Server-sent events as a client reads them: fields of each block that has data."""

    def __init__(self, answer: httpx.Response) -> None:
        self.last_id = ""
        self._lines = answer.iter_lines()

    def next(self) -> dict[str, Any]:
        """The next event. Raises StopIteration: it ended."""
        data = ""
        for line in self._lines:
            if line.startswith("id: "):
                self.last_id = line[4:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line and data:
                found: dict[str, Any] = json.loads(data)
                return found
        raise StopIteration

    def until_comment(self) -> None:
        """Reads on to what keeps the connection open."""
        next(line for line in self._lines if line.startswith(":"))

    def until_id(self) -> str:
        """Reads on to the first place of the stream: from there on it is live."""
        for line in self._lines:
            if line.startswith("id: "):
                self.last_id = line[4:]
                return self.last_id
        raise StopIteration


@contextmanager
def following(admin: Admin, headers: dict[str, str] | None = None, **params: Any) -> Iterator[Reader]:
    with streaming(admin.http, "/admin/events", {**STREAM, **(headers or {})}, params) as reader:
        yield reader


@contextmanager
def streaming(http: httpx.Client, path: str, headers: dict[str, str], params: dict[str, Any]) -> Iterator[Reader]:
    with http.stream("GET", path, params=params, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "private, no-store"
        yield Reader(answer)


# pages


def test_a_page_tells_what_happened_the_oldest_first(admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(1234)
    admin.node.store.execute(op.Emit(EventName.HOLD_LIFTED, fields={"scope": "all"}))
    session.end()
    found = admin.get("/events", session=session.id)["events"]
    assert (found[0]["name"], found[-1]["name"]) == ("session_created", "session_ended")
    assert set(found[0]) == {"id", "at", "name", "session_id", "resource_id", "fields", "told"}
    assert (found[0]["session_id"], found[0]["told"]) == (session.id, "began")
    assert datetime.fromisoformat(found[0]["at"]).tzinfo is not None
    everything = admin.get("/events")
    assert "hold_lifted" in [one["name"] for one in everything["events"]]
    assert [one["at"] for one in everything["events"]] == sorted(one["at"] for one in everything["events"])


def test_pages_hold_each_event_once_and_go_on_later(admin: Admin) -> None:
    for number in range(7):
        admin.node.sessions.create()
        admin.node.store.execute(op.Emit(EventName.HOLD_LIFTED, fields={"scope": str(number)}))
    seen: list[str] = []
    page = admin.get("/events", limit=3)
    while page["next_cursor"]:
        assert 0 < len(page["events"]) <= 3
        seen += ids(page)
        page = admin.get("/events", limit=3, cursor=page["next_cursor"])
    seen += ids(page)
    assert sorted(seen) == sorted(ids(admin.get("/events")))
    assert len(seen) == len(set(seen)) == 14
    assert ids(admin.get("/events", cursor=page["cursor"])) == []
    session, _ = admin.node.sessions.create()
    [new] = admin.get("/events", cursor=page["cursor"])["events"]
    assert new["session_id"] == session.id


def test_filters(admin: Admin) -> None:
    one, _ = admin.node.sessions.create()
    other, _ = admin.node.sessions.create()
    other.end()
    created = admin.get("/events", name="session_created")["events"]
    assert [event["session_id"] for event in created] == [one.id, other.id]
    both = admin.get("/events", name=["session_created", "session_ended"])["events"]
    assert len(both) == 3
    assert {event["session_id"] for event in admin.get("/events", session=other.id)["events"]} == {other.id}
    assert len(admin.get("/events", since="1h")["events"]) >= 3
    assert admin.get("/events", since="0")["events"] == []


def test_a_filter_looks_at_a_bounded_number_and_finds_what_is_behind(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "LOOKED_AT", 40)
    monkeypatch.setattr(timeline, "_FEWEST", 5)
    for _ in range(100):
        admin.node.sessions.create()
    last, _ = admin.node.sessions.create()
    page, pages = admin.get("/events", session=last.id), 1
    while not page["events"]:
        assert page["next_cursor"] is not None
        page, pages = admin.get("/events", session=last.id, cursor=page["next_cursor"]), pages + 1
    assert pages > 2
    assert [one["session_id"] for one in page["events"]] == [last.id]


def test_no_stream_runs_ahead_of_one_that_is_longer(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "LOOKED_AT", 40)
    for _ in range(60):
        admin.node.sessions.create()
    admin.node.store.execute(op.Emit(EventName.HOLD_LIFTED, fields={"scope": "all"}))
    names = ["session_created", "hold_lifted"]
    page = admin.get("/events", name=names)
    seen = list(page["events"])
    while page["next_cursor"]:
        page = admin.get("/events", name=names, cursor=page["next_cursor"])
        seen += page["events"]
    assert len(seen) == 61
    assert seen[-1]["name"] == "hold_lifted"


def test_quiet_streams_hold_no_page_back_and_their_places_are_taken_back(make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(partitions=256)
    made = sorted(admin.node.sessions.create()[0].id for _ in range(300))
    page = first = admin.get("/events", since="1h", limit=40)
    seen: list[str] = []
    while page["next_cursor"]:
        assert len(page["next_cursor"]) < 6000, "servers take addresses of 8 kB"
        assert len(page["events"]) == 40
        seen += [one["session_id"] for one in page["events"]]
        page = admin.get("/events", limit=40, cursor=page["next_cursor"])
    seen += [one["session_id"] for one in page["events"]]
    assert sorted(seen) == made
    with following(admin, {"Last-Event-ID": first["cursor"]}) as reader:
        assert [reader.next()["session_id"] for _ in seen[40:]] == seen[40:]
    with visitor(admin) as http:
        for asked in ({"cursor": first["cursor"]}, {"last-event-id": first["cursor"]}):
            headers = {name: value for name, value in asked.items() if name != "cursor"}
            with streaming(http, "/admin/ui/events/stream", headers, {} if headers else asked) as reader:
                assert [reader.next()["session_id"] for _ in seen[40:]] == seen[40:]


def test_the_longest_cursor_there_can_be_is_taken(admin: Admin) -> None:
    longest = Cursors({name: f"{name}:{10**14}-{2**63 - 2}" for name in [*(f"{n:02x}" for n in range(256)), "g"]})
    assert len(str(longest)) > 9000
    admin.get("/events", cursor=str(longest))
    with following(admin, {"Last-Event-ID": str(longest)}) as reader:
        assert reader.next()["name"] == "events_lost", "it is ahead of a stream that was set back"


def test_what_was_dropped_is_told_of(admin: Admin, redis_url: str, namespace: str) -> None:
    import redis

    admin.node.sessions.create()
    page = admin.get("/events")
    for _ in range(4):
        admin.node.sessions.create()
    with redis.Redis.from_url(redis_url) as client:
        client.xtrim(f"{namespace}:{{00}}:ev", maxlen=2, approximate=False)
    for limit in (1, 100):
        found = admin.get("/events", cursor=page["cursor"], limit=limit)
        names = [one["name"] for one in found["events"]]
        assert names[:2] == ["events_lost", "session_created"]
        assert found["events"][0]["id"] not in [*ids(page), *ids(found)[1:]]
        assert found["events"][0]["fields"] == {}
        again = admin.get("/events", cursor=found["cursor"])
        assert "events_lost" not in [one["name"] for one in again["events"]]


FORGED = [
    "x", ":", "00", "00:", "00:$", "00:1", "00:1-", "00:-1-1", "00:1-1-1", "00:1-99999999999999999999", "zz:1-1",
    "00:9999999999999999-1", "00:1-1,00:1-1", "00:1-1,", ",00:1-1", "00:*", "00:1-1\n", "g:1-1;DEL", "00:１-1",
    "00:1-1," * 2000, "\x00", "%00", "../00:1-1", "G:1-1", "00:0x1-1",
    "~", "00:~", "00:1~1", "00:1-1~", "00:~1",
]  # fmt: skip


def test_forged_cursors_are_refused(admin: Admin) -> None:
    for cursor in FORGED:
        answer = admin.http.get("/admin/events", params={"cursor": cursor}, headers={"X-Admin-Token": READ})
        assert answer.status_code == 422, (cursor[:60], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        if len(cursor) < 8000 and cursor.isprintable() and cursor.isascii():
            streamed = admin.http.get("/admin/events", headers={**STREAM, "Last-Event-ID": cursor})
            assert streamed.status_code == 422, cursor


IMPOSSIBLE: list[dict[str, Any]] = [
    {"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"since": "soon"}, {"since": "-1"}, {"name": "no_such_event"},
    {"session": "*"}, {"session": "a" * 20 + "." + "b" * 43}, {"since": "1h", "cursor": "00:1-1"},
    {"name": ["session_created"] * 51}, {"session": "../etc/passwd"}, {"since": "9" * 40},
]  # fmt: skip


def test_impossible_values_are_refused(admin: Admin) -> None:
    for params in IMPOSSIBLE:
        answer = admin.http.get("/admin/events", params=params, headers={"X-Admin-Token": READ})
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), params
        assert "b" * 43 not in answer.text


def test_events_need_a_token_that_may_read(admin: Admin) -> None:
    for headers in ({}, {"Accept": "text/event-stream"}, {"X-Admin-Token": "wrong"}):
        assert admin.http.get("/admin/events", headers=headers).status_code == 401
    assert admin.http.get("/admin/events", headers={"X-Admin-Token": WRITE}).status_code == 200
    assert admin.http.post("/admin/events", headers={"X-Admin-Token": WRITE}).status_code == 405


def test_it_is_described(admin: Admin) -> None:
    about = admin.http.get("/admin/openapi.json").json()["paths"]["/admin/events"]["get"]
    assert set(about["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {one["name"] for one in about["parameters"]} == {
        "limit", "cursor", "since", "session", "name", "last-event-id",
    }  # fmt: skip


# the dashboard's page


def shown(http: httpx.Client, **asked: str) -> tuple[list[str], str, str]:
    """What the page shows: sessions from the top, where its script goes on, and what it says of the time."""
    answer = http.get("/admin/ui/events", params=asked)
    assert answer.status_code == 200
    rows = re.findall(r'sessions/(\w{20})/timeline"', answer.text)
    said = [re.search(pattern, answer.text) for pattern in (r'data-cursor="(.*?)"', r"What happened (.*?),")]
    return rows, *(found[1] for found in said if found is not None)  # type: ignore[return-value]


def begun(admin: Admin, number: int) -> list[str]:
    return [admin.node.sessions.create()[0].id for _ in range(number)]


def test_the_page_shows_the_latest_however_many_there_are(
    make_admin: Callable[..., Admin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "LOOKED_AT", 60)
    admin = make_admin(partitions=3, idle_timeout=600, max_duration=6000)
    with visitor(admin) as http:
        assert shown(http)[::2] == ([], "in the last 15 minutes")
        few = begun(admin, 3)
        rows, _, said = shown(http)
        assert (sorted(rows), said) == (sorted(few), "in the last 15 minutes")
        begun(admin, 400)
        rows, cursor, said = shown(http)
        at = {one.session_id: one.at for name in ("00", "01", "02") for one in kept(admin, name)}
        times = [at[one] for one in rows]
        assert times == sorted(at.values(), reverse=True)[:SHOWN], "those of one millisecond stand in any order"
        assert said.startswith("since ")
        with streaming(http, "/admin/ui/events/stream", {}, {"cursor": cursor}) as reader:
            [new] = begun(admin, 1)
            assert reader.next()["session_id"] == new, "the script goes on behind the newest"


def kept(admin: Admin, partition: str) -> tuple[Event, ...]:
    return admin.node.store.execute(op.Events(partition)).events


def test_the_page_of_one_session_looks_nowhere_else(make_admin: Callable[..., Admin]) -> None:
    admin = make_admin(partitions=4)
    first, *_ = begun(admin, 40)
    with visitor(admin) as http:
        rows, cursor, _ = shown(http, session=first)
        assert rows == [first]
        now = Cursors.of([*(f"{n:02x}" for n in range(4)), "g"], now=True)
        assert Cursors.decode(cursor).reach(timeline.page(admin.node.store, now, 1).cursors), "in every stream"


def test_the_page_says_how_far_back_it_looked(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "LOOKED_BACK", 100)
    monkeypatch.setattr(timeline, "LOOKED_AT", 40)
    [old] = begun(admin, 1)
    admin.node.store.execute(op.EndSession(old, "logout"))
    with visitor(admin) as http:
        assert shown(http, name="session_ended")[::2] == ([old], "in the last 15 minutes")
        begun(admin, 300)
        rows, _, said = shown(http, name="session_ended")
        assert (rows, said[:6]) == ([], "since ")
        monkeypatch.setattr(timeline, "LOOKED_BACK", 10_000)
        assert shown(http, name="session_ended")[::2] == ([old], "in the last 15 minutes")
        monkeypatch.setattr(timeline, "CAP", 300)
        assert shown(http, name="session_ended")[2][:6] == "since ", "what a full stream dropped nobody knows"


# server-sent events


def test_what_happens_comes_at_once(admin: Admin) -> None:
    admin.node.sessions.create()
    with following(admin) as reader:
        reader.until_id()
        session, _ = admin.node.sessions.create()
        event = reader.next()
        assert (event["name"], event["session_id"]) == ("session_created", session.id)
        assert event["id"] in reader.last_id
    [same] = admin.get("/events", session=session.id)["events"]
    assert same["id"] == event["id"]


def test_a_client_that_was_cut_off_goes_on_where_it_was(admin: Admin) -> None:
    with following(admin) as reader:
        reader.until_id()
        admin.node.sessions.create()
        reader.next()
        place = reader.last_id
    missed = [admin.node.sessions.create()[0].id for _ in range(5)]
    with following(admin, {"Last-Event-ID": place}) as reader:
        assert [reader.next()["session_id"] for _ in missed] == missed
        live, _ = admin.node.sessions.create()
        assert reader.next()["session_id"] == live.id


def test_catching_up_leaves_no_gap_and_tells_nothing_twice(admin: Admin) -> None:
    """Sessions begin while clients join, each from the beginning: all of them see all, in order."""
    over = threading.Event()
    made: list[str] = []

    def busy() -> None:
        while not over.is_set():
            made.append(admin.node.sessions.create()[0].id)

    worker = threading.Thread(target=busy)
    worker.start()
    try:
        for _ in range(3):
            with following(admin, since="1h") as reader:
                seen = [reader.next()["session_id"] for _ in range(len(made) + 200)]
            assert seen == made[: len(seen)]
    finally:
        over.set()
        worker.join()


def test_a_stream_has_the_filters_too(admin: Admin) -> None:
    with following(admin, name="session_ended") as reader:
        reader.until_id()
        session, _ = admin.node.sessions.create()
        session.end()
        assert reader.next()["name"] == "session_ended"


def test_a_quiet_stream_is_kept_alive_and_moves_on(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SILENCE", 0.05)
    with following(admin, name="session_ended") as reader:
        begun = reader.until_id()
        admin.node.sessions.create()
        while reader.until_id() == begun:  # what doesn't fit moves the place all the same
            pass
        reader.until_comment()
        admin.node.sessions.create()[0].end()
        assert reader.next()["name"] == "session_ended"


def test_all_followers_share_one_poller_and_leave_it_alone(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    feed_of = _feed(admin)
    pages: list[str] = []
    real = timeline.page

    def counted(*args: Any) -> Any:
        pages.append(threading.current_thread().name)
        return real(*args)

    monkeypatch.setattr(feed.timeline, "page", counted)
    with following(admin) as one, following(admin) as two, following(admin) as three:
        for reader in (one, two, three):
            reader.until_id()
        assert feed_of.count == 3
        session, _ = admin.node.sessions.create()
        assert {reader.next()["session_id"] for reader in (one, two, three)} == {session.id}
    assert [name for name in pages if name != "sessionsweep-feed"] == [pages[0]], (
        "the first alone looked where it begins"
    )
    wait_until(lambda: feed_of.count == 0, what="nobody follows")
    wait_until(lambda: not _pollers(), what="nobody polls")


def test_a_burst_is_told_whole_at_one_look(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poller may rest only where the streams hold no more."""
    monkeypatch.setattr(feed, "SILENCE", 3600.0)  # a client that waits in vain times out
    may_look = threading.Semaphore(0)
    over = _feed(admin)._over

    def rest(seconds: float) -> bool:
        while seconds and not over.is_set() and not may_look.acquire(timeout=0.05):
            pass
        return over.is_set()

    monkeypatch.setattr(over, "wait", rest)
    with following(admin) as reader:
        reader.until_id()
        burst(admin, 5000)
        may_look.release()
        assert [reader.next()["fields"]["scope"] for _ in range(5000)] == [str(number) for number in range(5000)]
        may_look.release()
    may_look.release(100)


@pytest.mark.parametrize("waiting", [0, 3 * feed.BATCH])
def test_who_falls_behind_is_told_everything_all_the_same(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    monkeypatch.setattr(feed, "WAITING", waiting)
    with following(admin) as reader, following(admin, name="session_ended") as other:
        reader.until_id()
        other.until_id()
        for begun in range(0, 6000, 2000):
            burst(admin, 2000, begun)
        assert [reader.next()["fields"]["scope"] for _ in range(6000)] == [str(number) for number in range(6000)]
        session, _ = admin.node.sessions.create()
        assert reader.next()["session_id"] == session.id
        session.end()
        assert other.next()["name"] == "session_ended"
        assert reader.next()["name"] == "session_ended"


def burst(admin: Admin, number: int, begun: int = 0) -> None:
    told = [op.Emit(EventName.HOLD_LIFTED, fields={"scope": str(one)}) for one in range(begun, begun + number)]
    assert all(answer is True for answer in admin.node.store.execute_many(told))


def test_the_number_of_followers_is_bounded(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "FOLLOWERS", 1)
    with following(admin) as reader:
        reader.until_id()
        refused = admin.http.get("/admin/events", headers=STREAM)
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert refused.headers["retry-after"]
        assert admin.get("/events")["events"] == []
    wait_until(lambda: _feed(admin).count == 0, what="it left")
    with following(admin) as reader:
        reader.until_id()


def test_one_token_does_not_take_all_places(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "OF_ONE_TOKEN", 1)
    with following(admin) as reader:
        reader.until_id()
        assert admin.http.get("/admin/events", headers=STREAM).status_code == 503
        with following(admin, {"X-Admin-Token": WRITE}) as other:
            other.until_id()


def test_many_long_pages_at_once_wait_for_one_another_or_come_again(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "PATIENCE", 0.01)
    with ExitStack() as others:
        for _ in range(desks.READERS):
            others.enter_context(_feed(admin)._here.one_of_few())  # type: ignore[attr-defined]
        refused = admin.http.get("/admin/events", headers={"X-Admin-Token": READ})
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert refused.headers["retry-after"]
        assert admin.get("/sessions")["sessions"] == []
    assert admin.get("/events")["events"] == []


def test_below_wsgi_nobody_follows_for_a_stream_would_hold_a_thread(admin: Admin) -> None:
    from a2wsgi import ASGIMiddleware
    from werkzeug.test import Client

    web = Client(ASGIMiddleware(create_admin(sessions=admin.node.sessions)))
    refused = web.get("/admin/events", headers=STREAM)
    assert (refused.status_code, refused.content_type) == (503, "application/problem+json")
    assert "poll the JSON pages" in refused.text
    assert web.get("/admin/events", headers={"X-Admin-Token": READ}).json == {
        "events": [], "next_cursor": None, "cursor": ANY
    }  # fmt: skip
    assert web.post("/admin/ui/login", data={"token": READ, "next": ""}, headers=OURS).status_code == 303
    page = web.get("/admin/ui/events")
    assert page.status_code == 200
    assert "/events/stream" not in page.text
    assert "Not live" in page.text


def test_a_follower_hears_that_the_store_is_away_and_back(
    own_server: Callable[..., EmbeddedServer], make_admin: Callable[..., Admin], tmp_path: Path
) -> None:
    server = own_server(data_dir=tmp_path / "server")
    admin = make_admin(url=server.url)
    with admin.http.stream("GET", "/admin/events", headers=STREAM) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if line.startswith("id: "))
        server.kill()
        assert next(line for line in lines if line.startswith("event: ")) == "event: away"
        server.restart()
        assert next(line for line in lines if line.startswith("event: ")) == "event: back"
        session, _ = admin.node.sessions.create()
        assert session.id in next(line for line in lines if "session_created" in line)


def test_a_stalled_client_holds_nobody_up_and_is_let_go(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "STALLED", 0.5)
    stalled = _stalled(admin)
    wait_until(lambda: _feed(admin).count == 1, what="it follows")
    text = "x" * 200
    with following(admin) as reader:
        reader.until_id()
        deadline = time.monotonic() + 60
        number = 0
        while _feed(admin).count > 1:  # until what the kernel keeps for the stalled one is full
            assert time.monotonic() < deadline, "it was never let go"
            admin.node.store.execute_many(
                [op.Emit(EventName.HOLD_SET, fields={"scope": str(number), "text": text}) for _ in range(200)]
            )
            number += 200
            for _ in range(200):
                assert reader.next()["name"] == "hold_set"
    stalled.close()


def test_what_waits_is_added_up_right_while_it_is_being_read(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poller offers a page at the very moment when the client takes others: that isn't counted as waiting."""
    monkeypatch.setattr(feed, "WAITING", 3)
    monkeypatch.setattr(feed, "POLL", 3600.0)  # the test alone offers
    follower = feed.Feed(Desk(admin.node.sessions, "/admin")).follow(Wanted())
    frames, loop = follower.frames(), asyncio.new_event_loop()

    taken: list[bytes] = []

    def take() -> None:
        taken.append(loop.run_until_complete(asyncio.wait_for(anext(frames), 30)))

    class Meanwhile(tuple[Event, ...]):
        def __len__(self) -> int:  # asked for amid the adding up
            if follower._pages:
                take()
            return super().__len__()

    def offer(kind: type[tuple[Event, ...]]) -> None:
        told = kind([Event("g:1-1", 1, EventName.HOLD_LIFTED, fields={"scope": "all"})])
        follower.offer(Page(told, Cursors({"g": "g:1-1"}), False))

    try:
        take()
        take()
        assert [one.partition(b":")[0] for one in taken] == [b"retry", b"id"]
        for _ in range(5):
            offer(tuple)
            offer(tuple)
            offer(Meanwhile)
            while follower._pages:
                take()
        assert sum(b"hold_lifted" in one for one in taken) == 15
    finally:
        loop.run_until_complete(frames.aclose())
        loop.close()
        follower._feed.close()


def test_it_ends_when_the_token_does(make_node: Callable[..., Node]) -> None:
    until = datetime.now(UTC) + timedelta(seconds=1.5)
    node = make_node("a", admin_token=f"{WRITE}\nread {READ} {until.isoformat()}", sweeper="in-process")
    with serving(create_admin(sessions=node.sessions)) as url, httpx.Client(base_url=url, timeout=30) as http:
        admin = Admin(node, http)
        with following(admin) as reader, pytest.raises(StopIteration):
            reader.next()
        assert datetime.now(UTC) >= until
        assert http.get("/admin/events", headers=STREAM).status_code == 401


def test_what_came_before_it_joins_again_is_told_once(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poller brings a page and falls out with the follower before that one has looked."""
    monkeypatch.setattr(feed, "POLL", 3600.0)  # the test alone offers
    burst(admin, 3)
    polled = feed.Feed(Desk(admin.node.sessions, "/admin"))
    follower = polled.follow(Wanted(), Cursors({}))
    follower.offer(polled.read(Cursors({})))
    polled.rejoin(follower)

    async def told() -> list[bytes]:
        frames, found = follower.frames(), list[bytes]()
        while len(found) < 4:
            one = await asyncio.wait_for(anext(frames), 30)
            found += [one] if b"data: " in one else []
            if len(found) == 3:
                burst(admin, 1, 3)
                follower.offer(polled.read(follower._joined))
        await frames.aclose()
        return found

    try:
        found = asyncio.run(told())
        assert [json.loads(one.partition(b"data: ")[2])["fields"]["scope"] for one in found] == ["0", "1", "2", "3"]
    finally:
        polled.close()


@contextmanager
def visitor(admin: Admin) -> Iterator[httpx.Client]:
    """A browser that is logged in to the dashboard."""
    with httpx.Client(base_url=admin.http.base_url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=30) as http:
        assert http.post("/admin/ui/login", data={"token": READ}).status_code == 303
        yield http


def log_out(http: httpx.Client) -> None:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', http.get("/admin/").text)
    assert found is not None
    assert http.post("/admin/ui/logout", data={"form_token": found[1]}).status_code == 303


def test_a_log_out_ends_the_streams_of_its_visit_and_no_others(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SILENCE", 3600.0)  # out of patience, they would end as well
    with visitor(admin) as one, visitor(admin) as other:
        streams = [streaming(http, "/admin/ui/events/stream", {}, {}) for http in (one, other)]
        with streams[0] as ended, streams[1] as going_on:
            for reader in (ended, going_on):
                reader.until_id()
            log_out(one)
            with pytest.raises(StopIteration):
                ended.next()
            session, _ = admin.node.sessions.create()
            assert going_on.next()["session_id"] == session.id


def test_nothing_is_told_to_a_visit_that_was_logged_out_of(admin: Admin) -> None:
    with visitor(admin) as http, streaming(http, "/admin/ui/events/stream", {}, {}) as reader:
        reader.until_id()
        log_out(http)
        admin.node.sessions.create()
        with pytest.raises(StopIteration):
            reader.next()


def test_it_ends_when_the_feed_does(admin: Admin) -> None:
    with following(admin) as reader:
        reader.until_id()
        _feed(admin).close()
        with pytest.raises(StopIteration):
            reader.next()
    assert admin.http.get("/admin/events", headers=STREAM).status_code == 503


def _feed(admin: Admin) -> feed.Feed:
    [found] = [one for one in _feeds if one._here.sessions is admin.node.sessions]
    return found


_feeds: list[feed.Feed] = []


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = feed.Feed.__init__

    def made(self: feed.Feed, here: Any) -> None:
        real(self, here)
        _feeds.append(self)

    monkeypatch.setattr(feed.Feed, "__init__", made)
    yield
    _feeds.clear()


def _pollers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "sessionsweep-feed"]


def _stalled(admin: Admin) -> socket.socket:
    """A client that asks for the stream and never reads."""
    where = urlsplit(str(admin.http.base_url))
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect((where.hostname, where.port))
    lines = [f"{name}: {value}" for name, value in {**STREAM, "Host": where.netloc}.items()]
    client.sendall("\r\n".join(["GET /admin/events HTTP/1.1", *lines, "", ""]).encode())
    return client
