"""`stats` and `owed list` for whoever is paged: what lies there, since when, why, and who should delete it."""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path
from typing import Any

import pytest
import redis
from command_line import Deployment, beat, flush, volume_of

from sessionsweep.model.ids import new_volume_id
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import Outcome
from sessionsweep.operator import places
from sessionsweep.sessions.view import moment
from sessionsweep.store import operations as op
from sessionsweep_workers import names, passes
from support.processes import wait_until

HOUR = 3_600_000
LONG = 2 * HOUR + 1_830_000  # 2h30m, and half a minute for the test


def obstruct(path: Path) -> None:
    """Makes a file undeletable for anybody, root too: a folder stands where it stood."""
    path.unlink()
    path.mkdir()


def rows(cli: Deployment, *words: str, **environ: str) -> list[dict[str, Any]]:
    return list(cli("owed", "list", "--json", *words, **environ).json()["owed"])


def made_volume(cli: Deployment) -> str:
    """The id of this node's volume, with a file on it."""
    cli.with_file()
    return volume_of(cli).id


def place(cli: Deployment) -> dict[str, Any]:
    """What `stats` tells of this node's volume."""
    (found,) = [row for row in cli("stats", "--json").json()["volumes"] if row["path"] == str(cli.root / "a")]
    return found


def several(cli: Deployment, number: int, files: int = 1) -> list[str]:
    """Sessions that ended owing files; the ids of these."""
    ids = []
    for _ in range(number):
        session, _ = cli.sessions.create()
        for _ in range(files):
            with session.new_file("upload") as f:
                f.write(b"x")
            ids.append(f.id)
        cli.sessions.end(session.id)
    return ids


def now_iso(cli: Deployment) -> str:
    return moment(cli.store.execute(op.Facts()).now).isoformat()


def put_off(cli: Deployment, session_id: str, resource_id: str, delay: int = HOUR) -> None:
    """One failed attempt, the next after `delay` ms."""
    failed = op.Attempt(resource_id, Outcome.FAILED, delay, "EIO")
    cli.store.execute(op.Settle(session_id, volume_location(volume_of(cli).id), (failed,)))


def test_what_fails_is_told_with_why_where_and_when_next(cli: Deployment) -> None:
    session, path = cli.with_file()
    obstruct(path)
    cli.sessions.end(session.id)
    assert cli("sweep", "idle", "--json").json()["reclaim"]["failed"] == 1
    (row,) = rows(cli)
    assert (row["session_id"], row["resource_id"], row["path"]) == (session.id, path.name, str(path))
    assert (row["standing"], row["tries"], row["error"], row["size"]) == ("failing", 1, "not-regular", 100)
    assert (row["volume"], row["volume_id"], row["end_reason"]) == ("a", volume_of(cli).id, "admin")
    assert row["next_attempt"] > row["session_ended"]
    shown = cli("owed", "list").out
    assert f"    a: {path}\n    not-regular: no regular file stands where ours should be\n" in shown
    assert place(cli)["debt"]["errors"] == {"not-regular": 1}
    assert "owed list --failing --volume a" in cli("stats").out
    assert f"a: {path}" in cli("sessions", "show", session.id).out


def test_backing_off_makes_no_debt_young(cli: Deployment) -> None:
    session, path = cli.with_file()
    cli.sessions.end(session.id)
    ended = cli.store.execute(op.PeekSession(session.id)).tombstone
    assert ended is not None
    put_off(cli, session.id, path.name)
    before = (cli.store.execute(op.Facts()).now - ended.ended) / 1000
    stats = cli("stats", "--json").json()
    assert stats["backlog"][0]["oldest_due_seconds"] == 0, "nothing is due for an hour"
    (debt,) = [one["debt"] for one in stats["volumes"] if one["name"] == "a"]
    assert (debt["owed"], debt["bytes"], debt["sessions"], debt["late_seconds"]) == (1, 100, 1, 0)
    assert debt["oldest_seconds"] >= before
    (row,) = rows(cli)
    assert row["owed_seconds"] >= before


def test_a_locked_file_is_in_use_and_no_failure(cli: Deployment) -> None:
    session, path = cli.with_file()
    cli.sessions.end(session.id)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        cli("sweep", "idle", SESSIONSWEEP_CLEANUP_INTERVAL="1h")
        (row,) = rows(cli)
    assert (row["standing"], row["tries"], row["error"]) == ("in-use", 0, "")
    assert "1 in use" in cli("stats").out
    assert "locked by a process" in cli("owed", "list").out
    assert rows(cli, "--failing") == []


def test_what_waits_is_not_called_late(cli: Deployment) -> None:
    first, _ = cli.with_file()
    cli.sessions.end(first.id)
    volume = volume_location(volume_of(cli).id)
    assert rows(cli)[0]["standing"] == "due"
    cli.store.execute(op.Lease("00", volume, "lease-1", HOUR))
    assert rows(cli)[0]["standing"] == "waiting"
    assert place(cli)["debt"]["late_seconds"] == 0


def test_what_a_live_session_deleted_is_owed_and_what_it_keeps_is_not(cli: Deployment) -> None:
    session, path = cli.with_file()
    with session.new_file("kept") as kept:
        kept.write(b"y")
    cli.store.execute(op.Release(session.id, path.name))
    (row,) = rows(cli)
    assert (row["resource_id"], row["session_ended"], row["end_reason"]) == (path.name, None, None)
    assert row["owed_seconds"] >= 0
    assert re.search(r" <\d\S* ", cli("owed", "list").out), "at most since its last use"


def test_dead_letters_are_listed_apart(cli: Deployment) -> None:
    session, path = cli.with_file()
    cli.sessions.end(session.id)
    failed = op.Attempt(path.name, Outcome.FAILED, 0, "EIO")
    cli.store.execute(op.Settle(session.id, volume_location(volume_of(cli).id), (failed,), tries=1))
    assert rows(cli) == []
    assert "Nothing is owed." in cli("owed", "list").out
    assert "1 dead letter: see sessionsweep dead-letters list" in cli("stats").out


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_tell_everything_once(cli: Deployment, limit: int) -> None:
    ids = several(cli, 4, files=3)
    found: list[str] = []
    cursor: list[str] = []
    while True:
        answer = cli("owed", "list", "--json", "--limit", str(limit), *cursor).json()
        found += [row["resource_id"] for row in answer["owed"]]
        assert len(answer["owed"]) <= limit
        if answer["next_cursor"] is None:
            break
        cursor = ["--cursor", answer["next_cursor"]]
    assert sorted(found) == sorted(ids)


@pytest.mark.parametrize("cursor", ["nonsense", "00:v.x", "00:v.x:1:2", "00:v.x:1:2:-3", "00:v.x:a:0:0"])
def test_a_cursor_that_is_none_is_wrong_usage(cli: Deployment, cursor: str) -> None:
    several(cli, 1)
    assert "no cursor" in cli("owed", "list", "--cursor", cursor, status=2).err


def test_one_volume_by_its_name_or_id(cli: Deployment) -> None:
    ids = several(cli, 2)
    other = new_volume_id()
    cli.store.execute(op.TablePut("vols", other, json.dumps({"name": "b"})))
    for named in ("a", volume_of(cli).id, volume_location(volume_of(cli).id)):
        assert {row["resource_id"] for row in rows(cli, "--volume", named)} == set(ids)
    assert rows(cli, "--volume", "b") == []
    assert "no volume 'c'" in cli("owed", "list", "--volume", "c", status=1).err


def test_volumes_of_one_name_are_told_apart(cli: Deployment) -> None:
    ids = several(cli, 1)
    twin = new_volume_id()
    cli.store.execute(op.TablePut("vols", twin, json.dumps({"name": "a"})))
    assert [row["resource_id"] for row in rows(cli, "--volume", "a")] == ids
    assert f"a ({volume_of(cli).id}): {cli.root}" in cli("owed", "list").out
    assert rows(cli, "--volume", twin) == []


def test_what_is_read_is_bounded_and_says_so(cli: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = several(cli, 9)
    monkeypatch.setattr(places, "LOOKS", 4)
    debt = place(cli)["debt"]
    assert (debt["sessions"], debt["looked_at"], debt["owed"], debt["complete"]) == (9, 4, 4, False)
    assert " 4+ " in cli("stats").out
    session_of = {row["resource_id"]: row["session_id"] for row in rows(cli)}
    put_off(cli, session_of[ids[4]], ids[4])
    assert place(cli)["debt"]["failing"] == 1, "what backs off stands last, and is looked at"


def test_what_failed_is_tried_now_at_a_word(cli: Deployment) -> None:
    ids = several(cli, 3, files=2)
    session_of = {row["resource_id"]: row["session_id"] for row in rows(cli)}
    for rid in ids[:3]:
        put_off(cli, session_of[rid], rid)
    for words in ([], [ids[0], "--all"], ["--volume", "a", "--all"]):
        cli("owed", "retry", *words, status=2)
    assert "has the id 'nothere'" in cli("owed", "retry", "nothere", status=1).err
    assert "has the id" in cli("owed", "retry", ids[3], status=1).err, "it never failed"
    assert cli("owed", "retry", ids[0]).out == "1 resource is due now.\n"
    due = {row["resource_id"]: row["next_attempt"] <= now_iso(cli) for row in rows(cli)}
    assert [due[rid] for rid in ids[:3]] == [True, False, False]
    assert cli("owed", "retry", "--volume", "a").out == "2 resources are due now; 1 were due already.\n"
    assert cli("owed", "retry", "--all").out == "0 resources are due now; 3 were due already.\n"
    assert cli("sweep", "idle", "--json").json()["reclaim"]["deleted"] == 6


def test_a_retry_reaches_all_pages(cli: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    from sessionsweep.operator import owed

    monkeypatch.setattr(owed, "PAGE", 2)
    ids = several(cli, 7)
    for row in rows(cli):
        put_off(cli, row["session_id"], row["resource_id"])
    assert cli("owed", "retry", "--all").out == "7 resources are due now.\n"
    assert {row["standing"] for row in rows(cli)} == {"failing"}
    assert len(ids) == cli("sweep", "idle", "--json").json()["reclaim"]["deleted"]


def test_a_search_for_little_stops_and_can_go_on(cli: Deployment) -> None:
    from sessionsweep.operator import owed

    ids = several(cli, 6)
    session_of = {row["resource_id"]: row["session_id"] for row in rows(cli)}
    put_off(cli, session_of[ids[0]], ids[0])
    first = owed.listed(cli.sessions.core, cli.store, failing=True, looks=3)
    assert (first.resources, first.looked_at) == ([], 3)
    rest = owed.listed(cli.sessions.core, cli.store, failing=True, cursor=first.next_cursor)
    assert [one.record.resource_id for one in rest.resources] == [ids[0]]
    assert rest.next_cursor is None


def test_reading_writes_nothing(cli: Deployment) -> None:
    session, path = cli.with_file()
    obstruct(path)
    cli.sessions.end(session.id)
    cli("sweep", "idle")
    several(cli, 3)
    beat(cli, "node-a", volume_of(cli).id)
    with redis.Redis.from_url(cli.settings.redis_url) as server:

        def everything() -> dict[bytes, bytes]:
            return {key: server.dump(key) for key in server.scan_iter(f"{cli.settings.namespace}:*")}

        before = everything()
        for words in (["stats"], ["owed", "list"], ["owed", "list", "--failing"], ["dead-letters", "list"],
                      ["holds", "list"], ["volumes", "list"], ["sessions", "show", session.id]):  # fmt: skip
            cli(*words)
            cli(*words, "--json")
        assert everything() == before


def test_who_mounts_a_volume_and_lives(cli: Deployment) -> None:
    several(cli, 1)
    volume_id = volume_of(cli).id
    beat(cli, "node-a", volume_id, ago=4000)
    seen = place(cli)
    assert [(one["node"], one["alive"], one["mounts"]) for one in seen["workers"]] == [("node-a", True, True)]
    assert seen["problems"] == []
    beat(cli, "node-a", volume_id, ago=LONG)
    beat(cli, "node-b", volume_id)
    shared = place(cli)
    assert [(one["node"], one["alive"]) for one in shared["workers"]] == [("node-a", False), ("node-b", True)]
    assert len(shared["problems"]) == 1
    assert "silent for 2h30m" in shared["problems"][0]
    beat(cli, "node-b", volume_id, ago=LONG)
    assert "nobody deletes" in place(cli)["problems"][-1]
    out = cli("stats").out
    assert "node-b SILENT for 2h30m" in out
    assert f"{volume_id}     1" in out


def test_a_worker_that_lives_without_the_volume_is_told(cli: Deployment) -> None:
    several(cli, 1)
    beat(cli, "node-a")
    told = place(cli)["problems"]
    assert "its worker lives, but has not mounted the volume" in told[0]
    cli.hold("mount:node-a/a", "marker-missing")
    told = place(cli)["problems"]
    assert "node-a can't use it (marker-missing)" in told[0]
    assert "nobody deletes" in told[1]
    moved = volume_of(cli).id
    cli.store.execute(op.TableDrop("holds", "mount:node-a/a"))
    beat(cli, "node-b", moved)
    assert place(cli)["problems"] == [], "the disk was moved to another node: nothing is wrong"


@pytest.mark.parametrize(
    ("space", "unwritable", "code", "said"),
    [
        ((97, 3), "", "disk", "its disk on node-a is 97% full, 3 B free: soon uploads to it are refused"),
        ((88, 12), "", "disk", "its disk on node-a is 88% full, 12 B free"),
        ((50, 50), "EROFS", "unwritable", "node-a can't write it (EROFS"),
        ((100, 0), "ENOSPC", "disk", "its disk on node-a is 100% full, 0 B free: uploads to it are refused"),
    ],
)
def test_a_disk_that_is_full_or_cannot_be_written_makes_its_volume_look_bad(
    cli: Deployment, space: tuple[int, int], unwritable: str, code: str, said: str
) -> None:
    volume = made_volume(cli)
    for node, (used, free) in (("node-a", space), ("node-b", (1, 99))):
        row = {
            "at": cli.store.execute(op.Facts()).now,
            "volumes": {volume: "a"},
            "queues": [],
            "space": {volume: {"used": used, "free": free}},
            "unwritable": {volume: unwritable} if unwritable and node == "node-a" else {},
        }
        cli.store.execute(op.TablePut("n", node, json.dumps(row)))
    shown = place(cli)
    assert [one["code"] for one in shown["findings"]] == [code]
    assert [text.startswith(said) for text in shown["problems"]] == [True]
    assert [(one["node"], one["space"]) for one in shown["disks"]] == [
        ("node-a", {"used": space[0], "free": space[1]}),
        ("node-b", {"used": 1, "free": 99}),
    ]
    assert said in cli("stats").out


def test_a_hold_is_told_where_it_stops_something(cli: Deployment) -> None:
    several(cli, 1)
    volume_id = volume_of(cli).id
    beat(cli, "node-a", volume_id)
    other = new_volume_id()
    beat(cli, "node-b", other)
    cli.hold(f"volume:{volume_id}", "too-many-orphans")
    assert "too-many-orphans" in place(cli)["problems"][0]
    cli.hold("all", "rolled-back")
    for volume in cli("stats", "--json").json()["volumes"]:
        assert any("rolled-back" in problem for problem in volume["problems"]), volume


def test_a_worker_that_only_observes_is_told(cli: Deployment) -> None:
    several(cli, 1)
    volume_id = volume_of(cli).id
    beat(cli, "node-a", volume_id)
    now = cli.store.execute(op.Facts()).now
    record = passes.PassRecord(names.RECLAIM, "node-a", "done", now, {"would_delete": 1})
    cli.store.execute(op.TablePut(passes.TABLE, passes.last_row(names.RECLAIM, volume_id), record.encode()))
    assert "MODE=observe" in place(cli)["problems"][0]
    assert place(cli)["last_reclaim"]["node"] == "node-a"


def test_damaged_rows_hide_nothing_else(cli: Deployment) -> None:
    several(cli, 1)
    for table, row in (("n", "node-x"), ("vols", new_volume_id()), ("passes", f"{places.LAST_RECLAIM}x")):
        cli.store.execute(op.TablePut(table, row, "{damaged"))
    cli.store.execute(op.TablePut("passes", f"{places.LAST_RECLAIM}{volume_of(cli).id}", "[]"))
    assert place(cli)["debt"]["owed"] == 1
    assert "node-x UNKNOWN" in cli("stats").out
    assert len(cli("volumes", "list", "--json").json()) == 2
    assert len(rows(cli)) == 1


def test_an_emptied_store_is_said_to_be_one(cli: Deployment) -> None:
    cli.with_file()
    assert cli("stats").err == ""
    flush(cli)
    assert "was emptied (FLUSHALL)" in cli("stats").err
    assert cli("stats", SESSIONSWEEP_VOLUMES="", SESSIONSWEEP_NODE="desk").err == "", "sessions alone need no volume"
    assert "was emptied" in cli("volumes", "list", SESSIONSWEEP_VOLUMES="").err


def test_what_is_late_though_a_worker_lives_is_told(cli: Deployment) -> None:
    several(cli, 1)
    beat(cli, "node-a", volume_of(cli).id)
    wait_until(lambda: place(cli)["debt"]["late_seconds"] > 2 * cli.settings.cleanup_interval)
    assert "node-a lives and hasn't reclaimed there yet" in place(cli)["problems"][0]
