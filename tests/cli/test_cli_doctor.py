"""`doctor`: each thing that can be wrong is found, named with its fix, and found no longer once it is mended."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from command_line import Deployment

from sessionsweep.model.holds import ALL, Hold
from sessionsweep.operator import memory, preview, vitals
from sessionsweep.operator.disks import of_space
from sessionsweep.operator.doctor import Code, Finding, Level, examine
from sessionsweep.operator.doctor import deployment as deployment_checks
from sessionsweep.operator.doctor import server as server_checks
from sessionsweep.operator.verdict import judge
from sessionsweep.store import operations as op
from sessionsweep.units import parse_duration
from sessionsweep.volumes.space import Space
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    made = make_node(sweeper="in-process", cleanup_interval=10, reclaim_tries=1)
    made.mount()
    made.upkeep.run_once()
    made.sweep.run_once()
    return made


def findings(node: Node) -> list[Finding]:
    return list(examine(node.core, node.store))


def wrong(node: Node) -> list[str]:
    return [f"{one.area}: {one.text} -> {one.fix}" for one in findings(node) if one.level is Level.FAILURE]


def has(node: Node, *words: str) -> bool:
    return any(all(word in one for word in words) for one in wrong(node))


def test_a_healthy_deployment(node: Node) -> None:
    assert wrong(node) == []
    seen = findings(node)
    assert {one.area for one in seen} >= {"store", "workers", "sweeps", "holds", "books", "volume a"}
    assert all(one.fix for one in seen if one.level is Level.WARNING)


def test_workers_that_are_silent_and_sweeps_that_are_late(node: Node) -> None:
    session, _, _ = node.session_with_file()
    session.end()
    node.advance(60)
    assert has(node, "workers: a is silent for", "start it again")
    assert has(node, "sweeps: the last sweep ran", "sessions that are over keep their files")
    assert has(node, "volume a: nobody deletes what lies there: 1 ended session left files", "the worker of a back")
    node.upkeep.run_once()
    node.sweep.run_once()
    node.reclaim.run_once()
    assert wrong(node) == []


def test_a_deployment_without_any_worker(make_node: Callable[..., Node]) -> None:
    assert has(make_node(), "no worker was ever seen", "celery -A sessionsweep_workers worker")


def test_whoever_is_still_to_come_is_not_missed_at_first(make_node: Callable[..., Node]) -> None:
    node = make_node(cleanup_interval=10)  # whose workers Celery's beat should wake
    node.mount()
    node.upkeep.run_once()

    def told(code: Code) -> list[Level]:
        return [one.level for one in findings(node) if one.code is code]

    assert (told(Code.SWEEP), told(Code.BEAT)) == ([Level.NOTE], [Level.NOTE])
    node.sweep.run_once()
    assert (told(Code.SWEEP), told(Code.BEAT)) == ([Level.OK], [Level.NOTE])
    node.advance(31)
    assert (told(Code.SWEEP), told(Code.BEAT)) == ([Level.FAILURE], [Level.WARNING])
    node.sweep.run_once()
    node.store.execute(op.SetMeta({"beat_seen": str(node.store.execute(op.Facts()).now)}))
    assert (told(Code.SWEEP), told(Code.BEAT)) == ([Level.OK], [Level.OK])


def test_a_beat_that_workers_miss_is_told_at_once(make_node: Callable[..., Node]) -> None:
    node = make_node(cleanup_interval=10)
    node.sweep.run_once()
    alarm = Hold("beat", "beat-missing", "No beat was ever seen", 1, "a")
    node.store.execute(op.TablePut("alarms", "beat", alarm.encode()))
    (told,) = [one for one in findings(node) if one.code is Code.BEAT]
    assert (told.level, "celery -A sessionsweep_workers beat" in told.fix) == (Level.WARNING, True)


def test_a_volume_whose_disk_is_not_mounted(node: Node, tmp_path: Path) -> None:
    away = tmp_path / "away"
    (tmp_path / "a").rename(away)
    (tmp_path / "a").mkdir()
    node.reclaim.run_once()
    node.upkeep.run_once()
    assert has(node, "volume a", "marker-missing", "mount its disk there")
    (tmp_path / "a").rmdir()
    away.rename(tmp_path / "a")
    node.reclaim.run_once()
    node.upkeep.run_once()
    assert wrong(node) == []


def test_a_folder_that_others_may_write(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a").chmod(0o777)
    assert has(node, "volume a", "not-private")
    (tmp_path / "a").chmod(0o700)
    assert wrong(node) == []


def test_a_disk_that_fills(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(r for r in deployment_checks.run(deployment_checks.volumes.listed(node.core), node.store) if r.path)
    for used, level in ((50, Level.OK), (90, Level.WARNING), (99, Level.FAILURE)):
        shown = type(row)(**{**{f: getattr(row, f) for f in row.__slots__}, "disk": Space(used, 100 - used)})
        first = next(iter(deployment_checks._disk("volume a", shown, ephemeral=True, idle_timeout=900)))
        assert (first.level, f"{used}% full" in first.text) == (level, True)


@pytest.mark.parametrize(
    ("idle_timeout", "asked"),
    [(900, "5m"), (10, "3s"), (2, "667ms"), (7200, "40m"), (86400, "8h"), (100, "33s"), (4000, "22m"), (3600, "20m")],
)
def test_the_advice_ends_sessions_that_are_not_over_yet(
    make_node: Callable[..., Node], idle_timeout: float, asked: str
) -> None:
    """With 1 h nothing would be found: at an idle timeout of 15 min, all that old are over."""
    node = make_node(sweeper="in-process", idle_timeout=idle_timeout, max_duration=0, hold=0)
    for fix in (
        of_space("volume a", Space(99, 1), "full", idle_timeout).fix,
        next(iter(memory.judge("store", memory.Memory(99, 100), idle_timeout))).fix,
    ):
        assert fix.endswith(f"sweep idle --idle-for {asked}")
    node.sessions.create()
    node.advance(idle_timeout / 2)
    assert preview.sweep(node.core, node.store, parse_duration(asked)).sessions == 1


@pytest.mark.parametrize(
    ("error", "free", "said"),
    [
        (
            "EROFS",
            50,
            "a can't write it (EROFS: the file system is read-only; see its mount options, and dmesg for why it "
            "became so): files can be neither kept nor deleted",
        ),
        (
            "EACCES",
            50,
            "a can't write its root (EACCES: permission denied; may the worker's user read the file and write its "
            "folder?): perhaps files can be neither kept nor deleted",
        ),
        ("ENOSPC", 50, "no file can be kept there; deleting goes on"),  # no inode is left
        ("ENOSPC", 0, ""),  # the disk is full, and that is told
    ],
)
def test_a_volume_that_cannot_be_written(node: Node, error: str, free: int, said: str) -> None:
    (volume,) = node.core.mounts.here()
    row = {"at": node.store.execute(op.Facts()).now, "volumes": {volume.id: "a"}, "unwritable": {volume.id: error}}
    row["space"] = {volume.id: {"used": 50, "free": free}}
    node.store.execute(op.TablePut("n", "a", json.dumps(row)))
    told = [one for one in judge(vitals.look(node.core, node.store), node.settings) if one.level is Level.FAILURE]
    assert [one.code for one in told] == [Code.UNWRITABLE if said else Code.DISK]
    assert said in told[0].text


@pytest.fixture
def locked(node: Node) -> Iterator[Callable[[], Path]]:
    """Makes its volume's root immutable, whose folders stay as they are."""
    (volume,) = node.core.mounts.here()

    def lock() -> Path:
        done = subprocess.run(["chattr", "+i", volume.root], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            assert os.geteuid() != 0, f"root can't make a folder immutable here, so this isn't tried: {done.stderr}"
            pytest.skip("making a folder immutable needs root")
        return volume.root

    yield lock
    subprocess.run(["chattr", "-i", volume.root], check=False, capture_output=True)


def test_of_a_root_that_cannot_be_written_no_more_is_said_than_is_known(node: Node, locked: Callable[[], Path]) -> None:
    session, _, path = node.session_with_file()
    locked()
    node.advance(11)
    node.upkeep.run_once()
    node.upkeep.beat_heart()
    assert has(node, "volume a: a can't write its root (EPERM", "perhaps files can be neither kept nor deleted")
    session.end("logout")
    node.reclaim.run_once()
    assert not path.exists(), "deleted all the same"


def test_holds_dead_letters_and_books(node: Node) -> None:
    now = node.store.execute(op.Facts()).now
    hold = Hold(ALL, "rolled-back", "an old snapshot was loaded", now, "a")
    node.store.execute(op.TablePut("holds", ALL, hold.encode()))
    assert has(node, "holds: all (rolled-back)", "load the newer data")
    node.store.execute(op.TableDrop("holds", ALL))
    session, _, path = node.session_with_file()
    path.unlink()
    path.mkdir()
    session.end()
    node.advance(5)
    node.reclaim.run_once()
    dead = [one for one in findings(node) if "dead letter" in one.text]
    assert [(one.level, one.fix) for one in dead] == [(Level.WARNING, "sessionsweep dead-letters list")]
    with redis.Redis.from_url(node.settings.redis_url) as server:
        server.hincrby(node.store.keys.counters("00"), "active", 1)
    assert has(node, "books: 1 resource unaccounted for: partition 00 by -1", "docs/operations.md: the books differ")


def test_the_server(own_server: Callable[..., EmbeddedServer], make_node: Callable[..., Node]) -> None:
    server = own_server(extra_config={"maxmemory-policy": "allkeys-lru", "maxmemory": "100mb", "appendonly": "no"})

    def told() -> dict[Level, str]:
        found: dict[Level, str] = {}
        for one in server_checks.examine("store", server.url, 2, 900):
            found[one.level] = found.get(one.level, "") + f"{one.text} -> {one.fix}\n"
        return found

    assert "maxmemory-policy is allkeys-lru" in told()[Level.FAILURE]
    assert "no append-only file" in told()[Level.WARNING]
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")
        assert Level.FAILURE not in told()
        client.setrange("fill", 94_000_000, b"x")
        assert "new sessions and files are refused soon" in told()[Level.FAILURE]
        client.delete("fill")
        client.execute_command("ACL", "SETUSER", "mute", "on", ">mute", "~*", "+@all", "-info")
    mute = server.url.replace(f":{server.password}@", "mute:mute@")
    (asked,) = server_checks.examine("store", mute, 2, 900)
    assert (asked.level, "INFO" in asked.fix) == (Level.UNKNOWN, True)
    server.kill()
    (away,) = server_checks.examine("store", server.url, 2, 900)
    assert (away.level, server.password in away.text) == (Level.FAILURE, False)


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"redis_version": "5.0.14"}, Level.FAILURE),
        ({"redis_version": "6.2.19"}, Level.FAILURE),
        ({"redis_version": "6.2.20"}, Level.OK),
        ({"redis_version": "7.0.15"}, Level.WARNING),
        ({"redis_version": "8.2.1"}, Level.FAILURE),
        ({"redis_version": "8.9.0"}, Level.OK),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3"}, Level.FAILURE),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, Level.OK),
        ({"redis_version": "unstable"}, Level.UNKNOWN),
    ],
)
def test_versions_with_known_holes(info: dict[str, str], level: Level) -> None:
    assert [one.level for one in server_checks._version("store", info)] == [level]


@pytest.mark.parametrize(
    ("ahead", "level"), [(0.2, Level.OK), (-4, Level.OK), (60, Level.WARNING), (-86400, Level.WARNING)]
)
def test_clocks(ahead: float, level: Level) -> None:
    assert [one.level for one in server_checks._clock("store", ahead)] == [level]


def test_a_far_server_without_password_or_tls() -> None:
    told = list(server_checks._access("store", "redis://redis.example:6379/0", None))
    assert [one.level for one in told] == [Level.WARNING, Level.FAILURE]
    assert list(server_checks._access("store", "redis://127.0.0.1:6379/0", None)) == []


def test_looking_changes_nothing(node: Node) -> None:
    node.session_with_file()
    with redis.Redis.from_url(node.settings.redis_url) as client:
        pattern = f"*{node.settings.namespace}*"
        before = {key: client.dump(key) for key in client.scan_iter(match=pattern, count=1000)}
        findings(node)
        assert {key: client.dump(key) for key in client.scan_iter(match=pattern, count=1000)} == before


def test_the_command(cli: Deployment) -> None:
    answer = cli("doctor", status=1)  # no worker has ever been seen
    assert "FAIL  workers: no worker was ever seen" in answer.out
    assert answer.out.splitlines()[-1].endswith("warnings.")
    quiet = cli("doctor", "--quiet", status=1)
    assert "\nok " not in quiet.out
    told: dict[str, Any] = json.loads(cli("doctor", "--json", status=1).out)
    assert told["failure"] >= 1
    assert {"code", "area", "level", "text", "fix"} == set(told["findings"][0])
