"""Whoever can write to the store steers no terminal: every text that a command prints is made harmless."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import redis
from command_line import Deployment

from sessionsweep.cli import output
from sessionsweep.model.holds import ALL
from sessionsweep.store import operations as op

EVIL = "\x1b]0;owned\x07\u202e"  # sets a terminal's title, and turns what follows around
ESCAPED = "\\x1b]0;owned\\x07\\u202e"


@pytest.fixture
def server(cli: Deployment) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(cli.settings.redis_url, decode_responses=True) as client:
        yield client


def shown(cli: Deployment, *words: str, status: int = 0) -> str:
    """What a command printed: EVIL is in it, and harmless."""
    answer = cli(*words, status=status)
    text = answer.out + answer.err
    assert ESCAPED in text
    assert not set(EVIL) & set(text) - set("]0;owned")
    return text


def owe_at(cli: Deployment, server: redis.Redis, location: str) -> None:
    """Sessions that ended owing a file at a location; each in a partition's queue of its own."""
    for _ in range(3):
        session, _ = cli.with_file()
        key = f"{cli.settings.namespace}:{{{session.id[:2]}}}"
        server.hset(f"{key}:r:{session.id}", "@", location)
        server.hset(f"{key}:l", location, 1)
        session.end()


def test_a_reason_that_a_hold_was_given(cli: Deployment) -> None:
    row = {"scope": ALL, "reason": EVIL, "text": EVIL, "since": 1, "node": EVIL, "until": 0}
    cli.store.execute(op.TablePut("holds", ALL, json.dumps(row)))
    shown(cli, "holds", "list")
    shown(cli, "holds", "lift", ALL, "--yes")


def test_a_scope_that_does_not_stand_is_told_with_those_that_do(cli: Deployment) -> None:
    cli.store.execute(op.TablePut("holds", EVIL, "[]"))
    shown(cli, "holds", "lift", ALL, "--yes", status=1)


def test_a_location_that_sessions_owe_at(cli: Deployment, server: redis.Redis) -> None:
    owe_at(cli, server, "v." + EVIL)
    shown(cli, "sweep", "idle", "--dry-run")


def test_a_cursor_that_a_list_goes_on_from(cli: Deployment, server: redis.Redis) -> None:
    owe_at(cli, server, "v." + EVIL)
    assert "More: --cursor" in shown(cli, "owed", "list", "--limit", "1")


@pytest.mark.parametrize("tell", [output.say, output.note, output.complain])
def test_each_way_to_tell_something(capsys: pytest.CaptureFixture[str], tell: Callable[[str], None]) -> None:
    tell(f"{EVIL}\nerror: forged")
    printed = capsys.readouterr()
    told = printed.out + printed.err
    assert ESCAPED in told
    assert not set(EVIL) & set(told) - set("]0;owned")
    assert "\nerror: forged" not in told


def test_faults_of_several_settings_stand_on_lines_of_their_own(cli: Deployment) -> None:
    answer = cli("stats", status=1, SESSIONSWEEP_IDLE_TIMEOUT="soon", SESSIONSWEEP_LEASE="never")
    first, second = answer.err.splitlines()
    assert first.startswith("error: SESSIONSWEEP_")
    assert second.startswith("  SESSIONSWEEP_")
