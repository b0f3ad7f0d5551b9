"""`events` and `sessions replay`: what happened, what happens, and that no stranger's text steers a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import redis
from command_line import ADMIN, Deployment

from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.model.events import CAP, EventName
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.ports import free_port
from support.processes import LocalProcess, wait_until

MAIN = ("-c", "from sessionsweep.cli.main import main; main()")
HOSTILE = "\x1b[31mana\u202e\n00:1-1 forged"


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_tell_what_is_kept_the_oldest_first(cli: Deployment) -> None:
    first, _ = cli.with_file()
    second, _ = cli.sessions.create()
    first.end()
    told = lines(cli("events", "--json").out)
    assert (told[0]["name"], told[0]["session_id"]) == ("session_created", first.id)
    assert [one["at"] for one in told] == sorted(str(one["at"]) for one in told)
    assert {one["session_id"] for one in lines(cli("events", "--session", second.id, "--json").out)} == {second.id}
    named = lines(cli("events", "--name", "session_ended", "--name", "session_created", "--json").out)
    assert [one["name"] for one in named] == ["session_created", "session_created", "session_ended"]
    assert len(lines(cli("events", "--since", "1h", "--json").out)) == len(told)
    assert "ended: logged out; owes 1 resource" in cli("events").out


def test_replay_is_one_sessions_life_and_how_it_stands(cli: Deployment) -> None:
    session, _ = cli.with_file(user="ana")
    cli.sessions.create()
    session.log_in("ben")
    live = cli("sessions", "replay", session.id)
    assert "Now: live; it owns 1 resource" in live.out
    session.end()
    Reclaim(cli.sessions.core, cli.sessions.store).run_once()
    shown = cli("sessions", "replay", session.id)
    for words in (
        "began",
        "ben logged in",
        "deleted 1 resource (100 B) on a",
        "owes nothing more",
        "Now: ended (logout)",
    ):
        assert words in shown.out, words
    told = cli("sessions", "replay", session.id, "--json").json()
    assert (told["complete"], told["now"]["state"]) == (True, "ended")
    assert {one["session_id"] for one in told["events"]} == {session.id}


def test_replay_says_what_is_no_longer_kept(cli: Deployment) -> None:
    cli("sessions", "replay", new_session_id("00"), status=1)
    session, _ = cli.sessions.create()
    with redis.Redis.from_url(cli.settings.redis_url) as client:
        client.delete(f"{cli.settings.namespace}:{{00}}:ev")
    shown = cli("sessions", "replay", session.id)
    assert shown.status == 0
    assert "no longer kept" in shown.err
    assert not cli("sessions", "replay", session.id, "--json").json()["complete"]


def test_replay_goes_to_the_end_of_a_life_that_fills_its_stream(cli: Deployment) -> None:
    session, _ = cli.sessions.create()
    resources = [new_resource_id() for _ in range(CAP // 2 - 100)]
    begun = [op.Register(session.id, resource, "f", "v:none", 1, max_resources=CAP) for resource in resources]
    cli.sessions.store.execute_many([*begun, *(op.Release(session.id, resource) for resource in resources)])
    session.end()
    told = cli("sessions", "replay", session.id, "--json").json()
    assert told["complete"]
    assert told["events"][-1]["name"] == "session_ended"
    assert len({one["id"] for one in told["events"]}) == len(told["events"]) == 2 * len(resources) + 2


def test_wrong_usage(cli: Deployment) -> None:
    token = "a" * 20 + "." + "b" * 43
    for words in (["events", "--name", "x"], ["events", "--since", "soon"], ["events", "--session", token]):
        assert "b" * 43 not in cli(*words, status=2).err
    cli("sessions", "replay", token, status=2)


def test_no_text_of_a_stranger_steers_a_terminal(cli: Deployment) -> None:
    session, _ = cli.sessions.create()
    for name in (EventName.HOLD_SET, EventName.LIMIT_REACHED):
        told = {"scope": HOSTILE, "text": HOSTILE, "user": HOSTILE, "limit": HOSTILE}
        cli.store.execute(op.Emit(name, session.id, told))
    for words in (["events"], ["sessions", "replay", session.id]):
        shown = cli(*words).out
        assert "forged" in shown
        assert "\x1b[31m" not in shown
        assert "\u202e" not in shown
        assert not any(line.startswith("00:1-1 forged") for line in shown.splitlines())


def test_follow_goes_on_until_ctrl_c(cli: Deployment) -> None:
    cli.sessions.create()
    program = subprocess.Popen(
        [sys.executable, *MAIN, "events", "--follow", "--json"],
        env={**os.environ, **cli.environ}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    try:
        new: set[str] = set()
        found: list[str] = []

        def seen() -> bool:
            new.add(cli.sessions.create()[0].id)  # until it follows, nobody is told
            return bool(found)

        threading.Thread(target=lambda: found.append(program.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
        wait_until(seen, 20, "it tells what happens")
        assert json.loads(found[0])["session_id"] in new
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == 0
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def test_the_admin_server_stops_although_somebody_follows(cli: Deployment, tmp_path: Path) -> None:
    port = free_port()
    server = LocalProcess(
        "admin", ["python", *MAIN, "admin", "--port", str(port)], tmp_path,
        env=cli.environ, ready_when="Application startup complete",
    )  # fmt: skip
    headers = {"X-Admin-Token": ADMIN, "Accept": "text/event-stream"}
    with server, httpx.stream("GET", f"http://127.0.0.1:{port}/admin/events", headers=headers, timeout=30) as answer:
        feed = answer.iter_lines()
        next(feed)
        server.send_signal(signal.SIGTERM)
        assert [line for line in feed if line.startswith("data")] == []  # it ends
        server.wait(20)
