"""`volumes`, `holds` and `dead-letters`: the operator's words, and what they must never do."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest
from command_line import Deployment, beat, flush, volume_of

from sessionsweep.engine.trust import Trust
from sessionsweep.errors import HeldError
from sessionsweep.model.ids import new_resource_id, new_volume_id
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.volumes.volume import Volume


def tree(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def permit(cli: Deployment) -> None:
    """What every destroy batch asks first. Raises HeldError."""
    cli.sessions.core.mounts.forget("a")
    run(cli.sessions.core.mounts.mount(), cli.store)
    Trust(cli.sessions.core, cli.store).permit(cli.sessions.core.mounts.here()[0])


def test_list_shows_here_elsewhere_absent_and_unmade(cli: Deployment) -> None:
    assert [row["state"] for row in cli("volumes", "list", "--json").json()] == ["unmade"]
    session, _ = cli.with_file()
    cli.sessions.end(session.id)
    elsewhere, absent = new_volume_id(), new_volume_id()
    for volume_id in (elsewhere, absent):
        cli.store.execute(op.TablePut("vols", volume_id, json.dumps({"name": "b", "ephemeral": True})))
    beat(cli, "node-b", elsewhere)
    beat(cli, "node-c", absent, ago=3_600_000)
    rows = {row["id"]: row for row in cli("volumes", "list", "--json").json()}
    here = rows[volume_of(cli).id]
    assert (here["state"], here["name"], here["owing_sessions"], here["path"]) == ("here", "a", 1, str(cli.root / "a"))
    assert (rows[elsewhere]["state"], rows[elsewhere]["nodes"], rows[elsewhere]["ephemeral"]) == (
        "elsewhere", ["node-b"], True,
    )  # fmt: skip
    assert (rows[absent]["state"], rows[absent]["nodes"]) == ("absent", [])
    assert all(volume_id in cli("volumes", "list").out for volume_id in rows)


def test_init_makes_a_volume_of_an_empty_folder_once(cli: Deployment) -> None:
    folder = cli.root / "new"
    folder.mkdir()
    made = cli("volumes", "init", f"new={folder}")
    assert "Made volume new" in made.out
    assert f"add new={folder}" in made.err
    marker = (folder / ".sessionsweep-volume").read_bytes()
    assert "already volume new" in cli("volumes", "init", f"new={folder}").out
    assert (folder / ".sessionsweep-volume").read_bytes() == marker


def test_init_refuses_a_folder_with_something_in_it(cli: Deployment) -> None:
    (cli.root / "full").mkdir()
    (cli.root / "full" / "photo.jpg").write_bytes(b"mine")
    assert "not empty" in cli("volumes", "init", f"full={cli.root / 'full'}", status=1).err
    assert list(tree(cli.root / "full")) == [cli.root / "full" / "photo.jpg"]


def test_init_refuses_the_empty_mount_point_of_a_volume_that_is_known(cli: Deployment) -> None:
    cli.with_file()
    (cli.root / "a").rename(cli.root / "unmounted")
    (cli.root / "a").mkdir()
    assert "is the disk mounted?" in cli("volumes", "init", f"a={cli.root / 'a'}", status=1).err
    assert tree(cli.root / "a") == {}


def test_init_refuses_another_deployments_volume(cli: Deployment) -> None:
    cli.with_file()
    other = Volume.initialize(cli.root / "other", "other", "someone-else")
    assert "volumes adopt other" in cli("volumes", "init", f"other={other.root}", status=1).err
    assert Volume.open(other.root, "other").deployment_id == "someone-else"


@pytest.mark.parametrize("text", ["a", "a=relative", "a=/x,b=/y", "../a=/x", "=/x"])
def test_init_of_no_name_and_path_is_wrong_usage(cli: Deployment, text: str) -> None:
    assert cli("volumes", "init", text, status=2).err


def test_adopt_after_the_store_was_emptied(cli: Deployment) -> None:
    cli.with_file()
    cli("sweep", "idle")
    volume = volume_of(cli)
    volume.set_high_water(cli.store.execute(op.Facts()).now)  # as upkeep does
    flush(cli)
    files = tree(cli.root / "a" / "files")
    with pytest.raises(HeldError, match="volumes adopt a"):
        permit(cli)
    assert "foreign-deployment" in cli("holds", "list").out
    assert "volumes adopt" in cli("holds", "lift", f"volume:{volume.id}", "--yes", status=1).err
    assert f"Adopted volume a ({volume.id})" in cli("volumes", "adopt", "a", "--yes").out
    permit(cli)
    assert cli("holds", "list", "--json").json() == []
    assert tree(cli.root / "a" / "files") == files
    assert volume_of(cli).deployment_id != volume.deployment_id


def test_adopt_a_disk_of_another_deployment_whose_clock_was_ahead(cli: Deployment) -> None:
    volume = Volume.initialize(cli.root / "a", "a", "someone-else")
    volume.set_high_water(cli.store.execute(op.Facts()).now + 86_400_000)
    cli("volumes", "adopt", "a", "--yes")
    permit(cli)


def test_adopt_again_changes_no_mark(cli: Deployment) -> None:
    """A needless word must not hide a store that was rolled back."""
    cli.with_file()
    volume = volume_of(cli)
    ahead = cli.store.execute(op.Facts()).now + 86_400_000
    volume.set_high_water(ahead)
    cli("volumes", "adopt", "a", "--yes")
    assert volume.high_water() == ahead
    with pytest.raises(HeldError, match="whether the store was rolled back"):
        permit(cli)


def test_adopt_needs_a_configured_name_and_a_marker(cli: Deployment) -> None:
    assert "no volume 'b'" in cli("volumes", "adopt", "b", "--yes", status=1).err
    assert "volumes init a=" in cli("volumes", "adopt", "a", "--yes", status=1).err
    assert not (cli.root / "a").exists()


def test_forget_closes_all_debts_and_touches_no_file(cli: Deployment) -> None:
    live, _ = cli.with_file()
    ended, _ = cli.with_file()
    dead_owner, dead = cli.with_file()
    cli.sessions.end(ended.id)
    cli.sessions.end(dead_owner.id)
    volume_id = volume_of(cli).id
    failed = op.Attempt(dead.name, Outcome.FAILED, error="EIO")
    cli.store.execute(op.Settle(dead_owner.id, volume_location(volume_id), (failed,), tries=1))
    cli.hold(f"volume:{volume_id}", "too-many-orphans")
    cli.hold("mount:node-a/a", "marker-missing")
    files = tree(cli.root / "a")
    gone = {"SESSIONSWEEP_VOLUMES": ""}
    assert "3 resources, 300 B" in cli("volumes", "forget", volume_id, "--yes", **gone).out
    assert tree(cli.root / "a") == files
    after = cli("stats", "--json").json()
    assert (after["resources"]["forgotten"], after["resources"]["active"], after["resources"]["owed"]) == (3, 0, 0)
    assert (after["resources"]["dead"], after["imbalance"], after["active_bytes"], after["owed_bytes"]) == (0, 0, 0, 0)
    assert (after["backlog"], after["holds"]) == ([], [])
    assert cli("volumes", "list", "--json", **gone).json() == []
    assert cli.sessions.attach(live.id).resource_count == 0
    assert "knows no volume" in cli("volumes", "forget", volume_id, "--yes", status=1, **gone).err


def test_a_volume_that_no_table_names_any_more_is_forgotten_by_its_id(cli: Deployment) -> None:
    """An emptied store, and a disk that was made in the empty folder of one that was away."""
    session, path = cli.with_file()
    volume_id = volume_of(cli).id
    cli.store.execute(op.TableDrop("vols", volume_id))
    cli.store.execute(op.TableDrop("mounts", "node-a/a"))
    cli.sessions.end(session.id)
    gone = {"SESSIONSWEEP_VOLUMES": ""}
    assert "1 resource, 100 B" in cli("volumes", "forget", volume_id, "--yes", **gone).out
    assert cli("stats", "--json").json()["resources"]["owed"] == 0
    assert path.exists()
    assert "knows no volume" in cli("volumes", "forget", volume_id, "--yes", status=1, **gone).err


def test_forget_by_name_only_where_one_has_it(cli: Deployment) -> None:
    twins = sorted(new_volume_id() for _ in range(2))
    for volume_id in twins:
        cli.store.execute(op.TablePut("vols", volume_id, json.dumps({"name": "b"})))
    refused = cli("volumes", "forget", "b", "--yes", status=1).err
    assert all(volume_id in refused for volume_id in twins)
    cli("volumes", "forget", twins[0], "--yes")
    cli("volumes", "forget", "b", "--yes")


@pytest.mark.parametrize("who", ["another live node", "this node"])
def test_forget_refuses_what_somebody_mounts(cli: Deployment, who: str) -> None:
    session, path = cli.with_file()
    environ = {}
    if who == "another live node":
        beat(cli, "node-b", volume_of(cli).id)
        environ = {"SESSIONSWEEP_VOLUMES": ""}
    assert "is mounted" in cli("volumes", "forget", "a", "--yes", status=1, **environ).err
    assert cli.sessions.attach(session.id).resource_count == 1
    assert path.exists()


def test_forget_asks_first(cli: Deployment) -> None:
    cli.with_file()
    assert "--yes" in cli("volumes", "forget", "a", status=2, SESSIONSWEEP_VOLUMES="").err
    assert len(cli("volumes", "list", "--json").json()) == 1


def test_holds_are_listed_with_what_lifts_them(cli: Deployment) -> None:
    assert cli("holds", "list").out == "No holds.\n"
    cli.hold("all", "rolled-back")
    cli.hold("idle", "restarted", until=60_000)
    rows = {row["scope"]: row for row in cli("holds", "list", "--json").json()}
    assert (rows["all"]["reason"], rows["all"]["ends_in_seconds"], rows["all"]["node"]) == (
        "rolled-back", None, "node-a",
    )  # fmt: skip
    assert 0 < rows["idle"]["ends_in_seconds"] <= 60
    assert "[red]wrong[/red]" in cli("holds", "list").out


def test_a_lifted_roll_back_stays_lifted(cli: Deployment) -> None:
    cli.with_file()
    volume_of(cli).set_high_water(cli.store.execute(op.Facts()).now)
    cli.store.execute(op.SetMeta({"high_water": "1"}))
    with pytest.raises(HeldError, match="old snapshot"):
        permit(cli)
    assert "users end --all" in cli("holds", "lift", "all", "--yes").out
    permit(cli)


def test_a_lifted_roll_back_stays_lifted_though_the_servers_clock_was_set_back(cli: Deployment) -> None:
    cli.with_file()
    volume_of(cli).set_high_water(cli.store.execute(op.Facts()).now + 86_400_000)
    with pytest.raises(HeldError, match="was the clock set back"):
        permit(cli)
    cli("holds", "lift", f"volume:{volume_of(cli).id}", "--yes")
    permit(cli)


def test_lifting_no_hold_fails_and_names_those_there_are(cli: Deployment) -> None:
    cli.hold("all", "rolled-back")
    assert "holds: all" in cli("holds", "lift", "idle", "--yes", status=1).err


@pytest.fixture
def letters(cli: Deployment) -> list[str]:
    """Three dead letters."""
    found = []
    for _ in range(3):
        session, path = cli.with_file()
        cli.sessions.end(session.id)
        failed = op.Attempt(path.name, Outcome.FAILED, error="EACCES")
        cli.store.execute(op.Settle(session.id, volume_location(volume_of(cli).id), (failed,), tries=1))
        found.append(path.name)
    return found


def test_dead_letters_are_listed_with_why(cli: Deployment, letters: list[str]) -> None:
    rows = cli("dead-letters", "list", "--json").json()
    assert {row["resource_id"] for row in rows} == set(letters)
    assert {(row["error"], row["tries"], row["size"]) for row in rows} == {("EACCES", 1, 100)}
    shown = cli("dead-letters", "list").out
    for row in rows:
        below = f"files/{row['session_id'][2:4]}/{row['session_id']}/{row['resource_id']}"
        assert (row["volume"], row["path"]) == ("a", f"{cli.root}/a/{below}")
        assert f"    a: {row['path']}\n    EACCES: permission denied" in shown


def test_a_dead_letter_on_another_nodes_volume_is_told_with_its_path_below_the_root(
    cli: Deployment, letters: list[str]
) -> None:
    away = {"SESSIONSWEEP_VOLUMES": "", "SESSIONSWEEP_NODE": "desk"}
    paths = {row["path"] for row in cli("dead-letters", "list", "--json", **away).json()}
    assert all(path.startswith("files/") for path in paths)
    assert {Path(path).name for path in paths} == set(letters)


def test_a_retried_dead_letter_is_reclaimed(cli: Deployment, letters: list[str]) -> None:
    assert "1 resource is owed again" in cli("dead-letters", "retry", letters[0]).out
    assert "no dead letter" in cli("dead-letters", "retry", letters[0], status=1).err
    assert "2 resources are owed again" in cli("dead-letters", "retry", "--all").out
    assert cli("sweep", "idle", "--json").json()["reclaim"]["deleted"] == 3
    assert cli("stats", "--json").json()["imbalance"] == 0


def test_a_dropped_dead_letter_is_forgotten_and_its_file_stays(cli: Deployment, letters: list[str]) -> None:
    files = tree(cli.root / "a")
    assert "1 resource is forgotten" in cli("dead-letters", "drop", letters[0], "--yes").out
    assert cli("dead-letters", "drop", "--all", status=2).err
    assert "2 resources are forgotten" in cli("dead-letters", "drop", "--all", "--yes").out
    assert tree(cli.root / "a") == files
    resources = cli("stats", "--json").json()["resources"]
    assert (resources["forgotten"], resources["dead"]) == (3, 0)


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_dead_letters_need_one_id_or_all(cli: Deployment, verb: str) -> None:
    assert cli("dead-letters", verb, status=2).err
    assert cli("dead-letters", verb, new_resource_id(), "--all", status=2).err
    assert "no dead letter" in cli("dead-letters", verb, new_resource_id(), status=1).err
    assert cli("dead-letters", verb, "--all", "--yes" if verb == "drop" else "--all").status == 0


def test_a_page_full_of_dead_letters_is_not_all(cli: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    from sessionsweep.operator import dead_letters

    monkeypatch.setattr(dead_letters, "PAGE", 2)
    session, _ = cli.sessions.create()
    ids = []
    for _ in range(5):
        with session.new_file("x") as f:
            f.write(secrets.token_bytes(3))
        ids.append(f.id)
    cli.sessions.end(session.id)
    failed = tuple(op.Attempt(rid, Outcome.FAILED, error="EIO") for rid in ids)
    cli.store.execute(op.Settle(session.id, volume_location(volume_of(cli).id), failed, tries=1))
    assert {row["resource_id"] for row in cli("dead-letters", "list", "--json").json()} == set(ids)


def test_forget_refuses_while_a_node_may_mount_anything(cli: Deployment) -> None:
    session, _ = cli.with_file()
    gone = {"SESSIONSWEEP_VOLUMES": "", "SESSIONSWEEP_NODE": "desk"}
    cli.store.execute(op.TablePut("n", "node-x", "{damaged"))
    assert "node-x" in cli("volumes", "forget", "a", "--yes", status=1, **gone).err
    now = cli.store.execute(op.Facts()).now
    cli.store.execute(op.TablePut("n", "node-x", json.dumps({"at": now, "volumes": {}, "unknown": True})))
    assert "node-x" in cli("volumes", "forget", "a", "--yes", status=1, **gone).err
    assert cli.sessions.attach(session.id).resource_count == 1


def test_forget_refuses_what_a_silent_node_mounted_a_moment_ago(cli: Deployment) -> None:
    session, _ = cli.with_file()
    beat(cli, "node-b", volume_of(cli).id, ago=60_000)
    assert "is mounted by node-b" in cli("volumes", "forget", "a", "--yes", status=1, SESSIONSWEEP_VOLUMES="").err
    assert cli.sessions.attach(session.id).resource_count == 1


def test_after_a_flushall_what_workers_mount_is_listed_and_the_rest_is_said_to_be_unknown(cli: Deployment) -> None:
    cli.with_file()
    volume, elsewhere = volume_of(cli), new_volume_id()
    assert cli("volumes", "list").err == ""
    flush(cli)
    beat(cli, "node-b", elsewhere)  # its worker has it open, and beats on
    rows = {row["id"]: row for row in cli("volumes", "list", "--json").json()}
    assert (rows[volume.id]["state"], rows[volume.id]["name"]) == ("foreign-deployment", "a")
    assert (rows[elsewhere]["state"], rows[elsewhere]["nodes"]) == ("elsewhere", ["node-b"])
    said = cli("volumes", "list").err
    assert "was emptied (FLUSHALL)" in said
    assert "holds list" in said


def test_a_volume_that_is_not_mounted_any_more_is_one_row_with_what_it_owes(cli: Deployment) -> None:
    session, _ = cli.with_file()
    cli.sessions.end(session.id)
    volume_id = volume_of(cli).id
    (cli.root / "a").rename(cli.root / "unmounted")
    cli.hold("mount:node-a/a", "marker-missing")
    (row,) = cli("volumes", "list", "--json").json()
    assert (row["id"], row["name"], row["state"], row["hold"]) == (volume_id, "a", "marker-missing", "marker-missing")
    assert (row["owing_sessions"], row["path"], row["disk"]) == (1, str(cli.root / "a"), None)


def test_how_full_the_disks_here_are(cli: Deployment) -> None:
    cli.with_file()
    (row,) = cli("volumes", "list", "--json").json()
    assert row["disk"]["free"] > 0
    assert "% full" in cli("volumes", "list").out
