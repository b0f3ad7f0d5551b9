"""`sessions`, `users` and `stats`: what they show, what they end, what they answer to nonsense."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from command_line import Deployment

from sessionsweep import Client, OutcomeUnknownError, Session
from sessionsweep.model.holds import Hold
from sessionsweep.model.ids import new_session_id
from sessionsweep.operator.endings import end_all
from sessionsweep.store import operations as op
from support.proxy import FaultyProxy


def test_list_shows_each_live_session_with_the_fields_of_the_admin_side(cli: Deployment) -> None:
    session, _ = cli.with_file(client=Client("192.0.2.7", "browser"), user="ana")
    page = cli("sessions", "list", "--json").json()
    assert page["next_cursor"] is None
    (row,) = page["sessions"]
    assert set(row) >= {
        "session_id", "user_id", "ip_address", "created_at", "last_activity", "duration_seconds", "idle_seconds",
        "request_count", "resource_count", "total_bytes_used",
    }  # fmt: skip
    assert (row["session_id"], row["user_id"], row["ip_address"]) == (session.id, "ana", "192.0.2.7")
    assert (row["resource_count"], row["total_bytes_used"]) == (1, 100)
    assert session.id in cli("sessions", "list").out


def test_list_pages_with_a_cursor_until_the_end(cli: Deployment) -> None:
    made = {cli.sessions.create()[0].id for _ in range(7)}
    seen: set[str] = set()
    cursor: list[str] = []
    for _ in range(10):
        page = cli("sessions", "list", "--limit", "3", *cursor, "--json").json()
        seen.update(row["session_id"] for row in page["sessions"])
        if page["next_cursor"] is None:
            break
        cursor = ["--cursor", page["next_cursor"]]
    assert page["next_cursor"] is None
    assert seen == made


def test_list_of_one_user(cli: Deployment) -> None:
    mine, _ = cli.sessions.create(user="ana")
    cli.sessions.create(user="bob")
    rows = cli("sessions", "list", "--user", "ana", "--json").json()["sessions"]
    assert [row["session_id"] for row in rows] == [mine.id]


@pytest.mark.parametrize("extra", [[], ["--user", "ana"]])
def test_a_wrong_cursor_is_wrong_usage(cli: Deployment, extra: list[str]) -> None:
    assert "no cursor" in cli("sessions", "list", "--cursor", "1.x", *extra, status=2).err


def test_reading_renews_nothing(cli: Deployment) -> None:
    session, _ = cli.sessions.create(user="ana")
    for words in (["sessions", "list"], ["sessions", "show", session.id], ["stats"]):
        cli(*words)
    again = cli.sessions.attach(session.id)
    assert (again.last_activity, again.request_count) == (session.last_activity, session.request_count)


def test_show_tells_live_due_and_ended_apart(cli: Deployment) -> None:
    session, path = cli.with_file(user="ana")
    live = cli("sessions", "show", session.id, "--json").json()
    assert (live["state"], live["resources"][0]["size"]) == ("live", 100)
    cli.due(session)
    assert cli("sessions", "show", session.id, "--json").json()["state"] == "due"
    cli.sessions.end(session.id)
    ended = cli("sessions", "show", session.id, "--json").json()
    assert (ended["state"], ended["reason"], ended["owed"], ended["user_id"]) == ("ended", "admin", 1, "ana")
    assert path.name in cli("sessions", "show", session.id).out


def test_show_of_nothing_fails(cli: Deployment) -> None:
    assert "There is no session" in cli("sessions", "show", new_session_id("00"), status=1).err


def test_end_ends_and_says_so_again(cli: Deployment) -> None:
    session, _ = cli.with_file()
    assert "1 resource owed" in cli("sessions", "end", session.id, "--yes").out
    assert not cli.alive(session)
    assert "had ended already (admin)" in cli("sessions", "end", session.id, "--yes").out


def test_end_of_nothing_fails(cli: Deployment) -> None:
    assert "There is no live session" in cli("sessions", "end", new_session_id("00"), "--yes", status=1).err


def test_end_by_the_apps_own_key_never_repeats_it(cli: Deployment) -> None:
    key = f"django:{secrets.token_hex(16)}"
    session = cli.sessions.track(key)
    assert cli("sessions", "end", "--key", key, "--yes").out == "Ended.\n"
    assert not cli.alive(session)
    again = cli("sessions", "end", "--key", key, "--yes", status=1)
    assert key not in again.out + again.err


@pytest.mark.parametrize(
    "words",
    [
        ["sessions", "end"],
        ["sessions", "end", new_session_id("00"), "--key", "k"],
        ["sessions", "end", "--key", ""],
        ["sessions", "show", "../../etc/passwd"],
        ["sessions", "list", "--limit", "0"],
        ["sessions", "frobnicate"],
        ["users", "end"],
        ["users", "end", "ana", "--all"],
        ["users", "end", "--all", "--yes", "--except", new_session_id("00")],
        ["users", "end", "--all"],
    ],
)
def test_wrong_usage_is_status_2_and_does_nothing(cli: Deployment, words: list[str]) -> None:
    session, _ = cli.sessions.create(user="ana")
    assert cli(*words, status=2).err
    assert cli.alive(session)


def test_a_token_in_place_of_an_id_is_not_repeated(cli: Deployment) -> None:
    _, token = cli.sessions.create()
    refused = cli("sessions", "end", token, status=2)
    assert "token is secret" in refused.err
    assert token.partition(".")[2] not in refused.out + refused.err


def test_users_end_spares_the_one_named(cli: Deployment) -> None:
    kept, gone = cli.sessions.create(user="ana")[0], cli.sessions.create(user="ana")[0]
    other, _ = cli.sessions.create(user="bob")
    assert "Ended 1 session." in cli("users", "end", "ana", "--except", kept.id, "--yes").out
    assert (cli.alive(kept), cli.alive(gone), cli.alive(other)) == (True, False, True)


def test_users_end_all_ends_everybody_also_whom_no_slot_names(cli: Deployment) -> None:
    everybody = [cli.sessions.create(user=user)[0] for user in ("ana", "bob", None) for _ in range(20)]
    lost, _ = cli.sessions.create()
    with redis.Redis.from_url(cli.settings.redis_url) as server:  # what a lost write can leave
        for slot in server.scan_iter(f"{cli.settings.namespace}:{{00}}:w*"):
            server.delete(slot)
    assert "Ended 61 sessions" in cli("users", "end", "--all", "--yes").out
    assert not any(cli.alive(session) for session in [*everybody, lost])
    assert cli("stats", "--json").json()["active_sessions"] == 0


def test_one_record_that_cannot_be_read_keeps_nobody_else_from_ending(cli: Deployment) -> None:
    everybody = [cli.sessions.create(user="ana")[0] for _ in range(60)]
    for session, write in zip(everybody, ("short", "newer", "list"), strict=False):
        spoil(cli, session, write)
    broken = everybody[:3]
    for ended in (57, 0):
        answer = cli("users", "end", "--all", "--yes", status=1)
        assert f"Ended {ended} sessions" in answer.out
        assert "3 records can't be read" in answer.err
        assert all(session.id in answer.err for session in broken)
    assert not any(cli.alive(session) for session in everybody[3:])
    with redis.Redis.from_url(cli.settings.redis_url) as server:
        assert all(server.exists(cli.sessions.store.keys.session(one.id)) for one in broken), "left as they are"
    passed = json.loads(cli("sweep", "idle", "--idle-for", "1ms", "--yes", "--json", status=1).out)
    assert (passed["ended"], passed["unreadable"]) == (0, 3)
    assert set(passed["unreadable_ids"]) == {session.id for session in broken}
    assert cli("sweep", "idle", "--idle-for", "1ms", "--dry-run", "--json").json()["unreadable"] == 3


def test_the_list_of_what_cannot_be_read_is_bounded(cli: Deployment) -> None:
    for _ in range(23):
        spoil(cli, cli.sessions.create()[0], "short")
    told = cli("users", "end", "--all", "--yes", status=1).err
    assert "23 records can't be read" in told
    assert "and 3 more" in told


def spoil(cli: Deployment, session: Session, how: str) -> None:
    """Puts what no release of ours reads where the session's record stood."""
    key = cli.sessions.store.keys.session(session.id)
    with redis.Redis.from_url(cli.settings.redis_url) as server:
        if how == "newer":
            server.setrange(key, 0, b"\x02")
            return
        server.delete(key)
        if how == "short":
            server.set(key, b"\x01short")
        else:
            server.rpush(key, "x")


def test_a_lost_answer_does_not_stop_the_end_of_all(
    cli: Deployment, make_cli: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = [cli.sessions.create()[0] for _ in range(30)]
    with FaultyProxy(cli.settings.redis_url, "end all") as proxy:
        store = make_cli(proxy.url).store
        really, lost = store.execute_many, list[bool]()

        def losing(operations: Sequence[op.Operation[Any]]) -> list[Any]:
            ends = any(isinstance(operation, op.EndSession) for operation in operations)
            proxy.lose_reply = 1.0 if ends and not lost else 0.0  # also of the second sending
            answers = really(operations)
            proxy.behave()
            if any(isinstance(answer, OutcomeUnknownError) for answer in answers):
                lost.append(True)
            return answers

        monkeypatch.setattr(store, "execute_many", losing)
        done = end_all(cli.sessions.core, store)
    assert (len(lost), done.unreadable) == (1, 0)
    assert not any(cli.alive(session) for session in everybody)


def test_stats_are_the_books(cli: Deployment) -> None:
    session, _ = cli.with_file()
    cli.sessions.create()
    cli.sessions.end(session.id)
    shown = cli("stats", "--json").json()
    assert (shown["total_sessions_created"], shown["total_sessions_cleaned"], shown["active_sessions"]) == (2, 1, 1)
    assert (shown["resources"]["owed"], shown["owed_bytes"], shown["imbalance"]) == (1, 100, 0)
    assert shown["ended_by_reason"] == {"admin": 1}
    assert [waits["sessions"] for waits in shown["backlog"]] == [1]
    assert shown["last_sweep_seconds_ago"] is None
    people = cli("stats").out
    assert "1 active, 2 created" in people
    assert "never" in people


def test_stats_show_what_workers_raised_an_alarm_about(cli: Deployment) -> None:
    assert cli("stats", "--json").json()["alarms"] == []
    cli.store.execute(op.TablePut("alarms", "beat", Hold("beat", "beat-missing", "No beat was seen", 5).encode()))
    assert cli("stats", "--json").json()["alarms"] == [{"reason": "beat-missing", "text": "No beat was seen"}]
    assert "No beat was seen" in cli("stats").out


def test_what_strangers_wrote_can_steer_no_terminal(cli: Deployment) -> None:
    nasty = "ana\x1b[2J\r\n[bold]x[/bold]\u202e"
    user = "ana[bold]x[/bold]\u202e"  # control characters are refused in users' names
    session, _ = cli.with_file(client=Client("192.0.2.7", nasty), user=user)
    for words in (["sessions", "list"], ["sessions", "show", session.id]):
        out = cli(*words).out
        assert not {"\x1b", "\r", "\u202e"} & set(out)
    assert "[bold]x[/bold]" in out
    assert json.loads(cli("sessions", "show", session.id, "--json").out)["user_id"] == user


def test_tables_fit_80_columns(cli: Deployment) -> None:
    user = "a-user-name-of-" + "x" * 80
    session, _ = cli.with_file(user=user)
    cli.hold("volume:0123456789abcdef", "too-many-orphans")
    for words in (["sessions", "list"], ["sessions", "show", session.id], ["stats"], ["volumes", "list"],
                  ["holds", "list"], ["config", "show"], ["sweep", "idle", "--dry-run"]):  # fmt: skip
        lines = cli(*words).out.splitlines()
        # what stands below a row, a path or a sentence, is never cut: it is copied from there
        assert max(len(line) for line in lines if not line.startswith("    ")) <= 80, words
