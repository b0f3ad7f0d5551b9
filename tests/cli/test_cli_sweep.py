"""`sweep`: the passes in this process, what a dry run reports, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from command_line import Deployment, orphan

from sessionsweep.store import operations as op
from support.processes import wait_until


def everything(cli: Deployment) -> dict[bytes, bytes | None]:
    """Every key of the deployment, with its content."""
    with redis.Redis.from_url(cli.settings.redis_url) as server:
        return {key: server.dump(key) for key in server.scan_iter(f"{cli.settings.namespace}:*")}


def tree(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["idle", "expired"])
def test_sweep_ends_what_is_due_and_deletes_its_files(cli: Deployment, name: str) -> None:
    due, path = cli.with_file()
    alive, kept = cli.with_file()
    cli.due(due)
    done = cli("sweep", name, "--json").json()
    assert (done["where"], done["sweep"]["idle"], done["reclaim"]["deleted"]) == ("here", 1, 1)
    assert (path.exists(), kept.exists(), cli.alive(alive)) == (False, True, True)
    assert cli("stats", "--json").json()["last_sweep_seconds_ago"] >= 0


def test_here_wins_over_workers(cli: Deployment) -> None:
    due, path = cli.with_file()
    cli.due(due)
    done = cli("sweep", "idle", "--here", "--wait", "--json", SESSIONSWEEP_SWEEPER="workers").json()
    assert done["where"] == "here"
    assert not path.exists()


@pytest.mark.parametrize("extra", [[], ["--wait"], ["--here"], ["--json"]])
def test_a_dry_run_reports_who_and_why_and_changes_nothing(cli: Deployment, extra: list[str]) -> None:
    due, _ = cli.with_file()
    cli.with_file()
    cli.due(due)
    before, files = everything(cli), tree(cli.root)
    cli("sweep", "expired", "--dry-run", *extra)
    shown = cli("sweep", "idle", "--dry-run", "--json").json()
    assert everything(cli) == before
    assert tree(cli.root) == files
    assert (shown["dry_run"], shown["sessions"], shown["resources"], shown["bytes"]) == (True, 1, 1, 100)
    (row,) = shown["would_end"]
    assert (row["session_id"], row["reason"]) == (due.id, "idle")
    assert f"{due.id}  idle" in cli("sweep", "idle", "--dry-run").out


def test_a_dry_run_says_expired_where_a_session_is_too_old(cli: Deployment) -> None:
    old, _ = cli.sessions.create()
    old.extend(max_duration=0.001)
    wait_until(lambda: cli.store.execute(op.Facts()).now > old._record.filed)
    (row,) = cli("sweep", "idle", "--dry-run", "--json").json()["would_end"]
    assert (row["session_id"], row["reason"]) == (old.id, "expired")


def test_idle_for_ends_whom_nobody_touched_for_so_long(cli: Deployment) -> None:
    session, _ = cli.with_file()
    for dry in (["--yes"], ["--dry-run"]):
        cli("sweep", "idle", "--idle-for", "1h", *dry)
    assert cli.alive(session)
    wait_until(lambda: cli.store.execute(op.Facts()).now > session._record.last_activity + 2)
    assert cli("sweep", "idle", "--idle-for", "2ms", "--dry-run", "--json").json()["sessions"] == 1
    assert cli.alive(session)
    done = cli("sweep", "idle", "--idle-for", "2ms", "--yes", "--json").json()
    assert done == {"ended": 1, "owed": 1, "unreadable": 0, "unreadable_ids": []}
    assert not cli.alive(session)
    assert cli("sessions", "show", session.id, "--json").json()["reason"] == "idle"


def test_idle_for_spares_whom_a_touch_reached_after_the_listing(
    cli: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing saw it idle; the step that ends it must look again."""
    from sessionsweep.operator import endings

    session, token = cli.sessions.create()
    now = cli.store.execute(op.Facts()).now
    wait_until(lambda: cli.store.execute(op.Facts()).now > now + 300)
    listed = endings.is_idle
    touched = []

    def touch_in_between(*about: object) -> bool:
        found = listed(*about)  # type: ignore[arg-type]
        touched.append(cli.sessions.open(token))
        return found

    monkeypatch.setattr(endings, "is_idle", touch_in_between)
    assert cli("sweep", "idle", "--idle-for", "250ms", "--yes", "--json").json()["ended"] == 0
    assert touched
    assert cli.alive(session)


def test_idle_for_spares_whom_a_job_keeps_alive(cli: Deployment) -> None:
    session, _ = cli.sessions.create()
    with session.keep_alive("1h"):
        wait_until(lambda: cli.store.execute(op.Facts()).now > session._record.last_activity + 2)
        assert cli("sweep", "idle", "--idle-for", "1ms", "--yes", "--json").json()["ended"] == 0


def test_idle_for_waits_while_touches_may_have_been_lost(cli: Deployment) -> None:
    session, _ = cli.sessions.create()
    cli.store.execute(op.HoldIdle("00", 60_000))
    cli.hold("idle", "restarted", until=60_000)
    wait_until(lambda: cli.store.execute(op.Facts()).now > session._record.last_activity + 2)
    assert "holds lift idle" in cli("sweep", "idle", "--idle-for", "1ms", "--yes", status=1).err
    assert cli.alive(session)
    cli("holds", "lift", "idle", "--yes")
    assert cli("sweep", "idle", "--idle-for", "1ms", "--yes", "--json").json()["ended"] == 1


@pytest.mark.parametrize("text", ["0", "-1", "soon", ""])
def test_a_wrong_duration_is_wrong_usage(cli: Deployment, text: str) -> None:
    assert cli("sweep", "idle", f"--idle-for={text}", status=2).err


def test_waiting_sees_an_orphan_twice_and_destroys_it(cli: Deployment) -> None:
    _, kept = cli.with_file()
    lost = orphan(cli)
    first = cli("sweep", "orphans", "--json").json()["orphans"]
    assert (first["candidates"], first.get("destroyed", 0), lost.exists()) == (1, 0, True)
    cli("sweep", "orphans", "--wait")
    assert (lost.exists(), kept.exists()) == (False, True)


def test_a_dry_run_for_orphans_changes_nothing_however_often(cli: Deployment) -> None:
    cli.with_file()
    lost = orphan(cli)
    before, files = everything(cli), tree(cli.root)
    for _ in range(3):
        shown = cli("sweep", "orphans", "--dry-run", "--wait", "--json").json()
    assert (shown["files"], shown["destroy"], shown["bytes"]) == (2, 1, 4)
    assert [row["resource_id"] for row in shown["found"]] == [lost.name]
    assert lost.name in cli("sweep", "orphans", "--dry-run").out
    young = cli("sweep", "orphans", "--dry-run", "--json", SESSIONSWEEP_ORPHAN_MIN_AGE="1h").json()
    assert (young["destroy"], young["spare"]) == (0, 1)
    assert everything(cli) == before
    assert tree(cli.root) == files


def test_a_held_volume_is_not_done(cli: Deployment) -> None:
    due, path = cli.with_file()
    cli.due(due)
    cli.hold("all", "rolled-back")
    refused = cli("sweep", "idle", status=1)
    assert "holds list" in refused.err
    assert path.exists()
    assert cli("sweep", "orphans", "--dry-run", "--json").json()["held"] == ["all"]


def test_a_store_in_memory_is_another_process_own(cli: Deployment) -> None:
    for words in (["sweep", "idle"], ["sessions", "list"]):
        assert "each process's own memory" in cli(*words, status=1, SESSIONSWEEP_REDIS_URL="memory://").err
