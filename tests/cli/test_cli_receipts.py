"""`receipts export` and the receipt in `sessions show`."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
import redis
from command_line import Deployment

from sessionsweep.engine.reclaim import Reclaim
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op


def session_file(cli: Deployment, session_id: str) -> str:
    """A file that an ended session owes and that wasn't tried yet."""
    return next(one.resource_id for one in cli.store.execute(op.ListResources(session_id)) if not one.tries)


def test_all_receipts_are_exported_as_lines_of_json(cli: Deployment) -> None:
    ids = []
    for n in range(30):
        session, _ = cli.with_file(b"x" * n, user="ana")
        session.end()
        ids.append(session.id)
    cli.with_file()  # lives
    Reclaim(cli.sessions.core, cli.store).run_once()
    found = [json.loads(line) for line in cli("receipts", "export").out.splitlines()]
    assert sorted(one["session_id"] for one in found) == sorted(ids)
    one = next(one for one in found if one["session_id"] == ids[7])
    volume = cli.sessions.core.mounts.here()[0]
    assert (one["user_id"], one["reason"], one["owned"], one["bytes_owned"], one["owed"]) == ("ana", "logout", 1, 7, 0)
    (place,) = one["locations"]
    assert (place["location"], place["volume"]) == (volume_location(volume.id), "a")
    assert (place["deleted"], place["bytes_deleted"], place["failures"]) == (1, 7, 0)
    assert datetime.fromisoformat(place["last"]).tzinfo is not None


def test_only_what_ended_lately_is_exported(cli: Deployment, namespace: str) -> None:
    old, _ = cli.with_file()
    new, _ = cli.with_file()
    old.end()
    new.end()
    with redis.Redis.from_url(cli.settings.redis_url) as server:
        server.hset(f"{namespace}:{{{old.id[:2]}}}:t:{old.id}", "ended", 1_600_000_000_000)
    (line,) = cli("receipts", "export", "--since", "1d").out.splitlines()
    assert json.loads(line)["session_id"] == new.id
    assert len(cli("receipts", "export").out.splitlines()) == 2


@pytest.mark.parametrize("since", ["yesterday", "0", "-1h", ""])
def test_a_time_that_is_none_is_wrong_usage(cli: Deployment, since: str) -> None:
    cli("receipts", "export", "--since", since, status=2)


def test_show_tells_what_became_of_it_and_why_not(cli: Deployment) -> None:
    session, _ = cli.with_file()
    with session.new_file("other") as f:
        f.write(b"y" * 50)
    session.end()
    location = volume_location(cli.sessions.core.mounts.here()[0].id)
    evil = "EACCES: \x1b[31mno\x1b[0m"
    cli.store.execute(op.Settle(session.id, location, (op.Attempt(f.id, Outcome.FAILED, 1, evil),)))
    answer = cli("sessions", "show", session.id)
    assert "2 resources, 150 B" in answer.out
    assert "FAILURES" in answer.out
    assert "\x1b" not in answer.out
    assert all(len(line) <= 80 for line in answer.out.splitlines() if "FAILURES" in line)
    shown = cli("sessions", "show", session.id, "--json").json()
    (place,) = shown["locations"]
    assert (place["failures"], place["error"]) == (1, evil)
    cli.store.execute(
        op.Settle(session.id, location, (op.Attempt(session_file(cli, session.id), Outcome.FAILED, 1, "EIO"),))
    )
    assert "the disk fails" in cli("sessions", "show", session.id).out
