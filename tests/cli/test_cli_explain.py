"""`explain`: of a session, a resource or a file its owner, its state, why it is (not) deleted, and what comes next."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionsweep.model.holds import Hold
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.operator import preview
from sessionsweep.operator.explain import Explanation, NothingKnownError, explain
from sessionsweep.operator.queries import Life
from sessionsweep.operator.search import Wanted, find
from sessionsweep.store import operations as op
from support.nodes import Node


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    made = make_node(idle_timeout=60, max_duration=600, grace_period=5, reclaim_tries=1, cleanup_interval=10)
    made.mount()
    made.upkeep.run_once()
    return made


def told(node: Node, what: object) -> tuple[str, str]:
    found = explain(node.core, node.store, str(what))
    return found.state, " ".join([*found.sentences, *found.problems])


def test_a_live_session_and_what_it_owns(node: Node) -> None:
    session, rid, path = node.session_with_file(2048, user="ana")
    node.advance(20)
    state, said = told(node, session.id)
    assert state == "live"
    assert "last active 20s ago" in said
    assert re.search(r"ends in (40|39)s if nobody uses it, at the latest in 9m(40|39)s", said)
    assert "go 5s after that" in said
    assert f"{rid}: live, 2.05 kB" in said
    for what in (f"{session.id}/{rid}", path):
        state, said = told(node, what)
        assert state == "live"
        assert "Its session owns it" in said
        assert "nothing of it is deleted" in said
    with session.pin(rid, max=30):
        assert "pinned it for another" in told(node, path)[1]
    with session.new_file() as f:
        state, said = told(node, f.path)
        assert state == "being written"
        assert "If its writer is silent" in said
    with session.keep_alive(max="5m"):
        assert "(a job keeps it alive)" in told(node, session.id)[1]


def test_a_session_that_is_due_and_nobody_sweeps(node: Node) -> None:
    session, _, path = node.session_with_file(1)
    node.advance(70)
    state, said = told(node, session.id)
    assert (state, "idle for too long, and dead to every request since 10s" in said) == ("due", True)
    assert "no sweep has ever run" in said
    assert "The next sweep ends it" in told(node, path)[1]


def test_who_only_seems_idle_after_a_restart_is_live_to_operators_too(node: Node) -> None:
    session, _, path = node.session_with_file(1)
    node.store._send(["HSET", node.store.keys.held(session.id[:2]), "run", "of another server"], "", False)
    node.advance(70)
    state, said = told(node, session.id)
    assert state == "live"
    assert "It ends when idle ends are held no longer, if nobody uses it: it seems idle" in said
    assert "at the latest in 8m" in said
    assert "Its session owns it" in told(node, path)[1]
    for state, found in ((Life.LIVE, [session.id]), (Life.DUE, [])):
        assert [case.session_id for case in find(node.core, node.store, Wanted(state=state)).cases] == found
    assert preview.sweep(node.core, node.store).sessions == 0


def test_what_is_owed_waits_for_its_grace_and_is_due(node: Node) -> None:
    session, rid, path = node.session_with_file(1)
    node.advance(61)
    node.sweep.run_once()
    state, said = told(node, path)
    assert state == "owed"
    assert re.search(r"Its session has ended: it is to be deleted. It is tried in [34]s\.", said)
    assert "nobody used it for its idle timeout" in said
    node.advance(6)
    assert "the next pass there deletes it" in told(node, rid)[1]
    node.reclaim.run_once()
    state, said = told(node, session.id)
    assert state == "ended"
    assert "It owes nothing: 1 resource deleted" in said
    assert told(node, path)[0] == "unknown"


def test_a_dead_letter_says_why_and_what_to_do(node: Node) -> None:
    session, rid, path = node.session_with_file(1)
    path.unlink()
    path.mkdir()
    session.end()
    node.advance(6)
    node.reclaim.run_once()
    for what in (rid, path):
        state, said = told(node, what)
        assert state == "dead"
        assert "1 attempt failed (not-regular: no regular file stands where ours should be)" in said
        assert f"sessionsweep dead-letters retry {rid}" in said
    assert "It is no regular file" in told(node, path)[1]
    said = told(node, session.id)[1]
    assert "1 dead letter: failed too often, nobody tries any more" in said
    assert "wait" not in said
    assert "its worker" not in said  # about what is tried there, which nothing of this session is
    assert node.store.execute(op.DropDead(session.id, rid))
    said = told(node, session.id)[1]
    assert "It owes nothing: 0 resources deleted (0 B), 1 forgotten by an operator" in said


def test_what_keeps_a_volume_from_being_cleaned_is_said(node: Node) -> None:
    session, rid, _ = node.session_with_file(1)
    session.end()
    node.advance(60)  # its worker is silent by now
    state, said = told(node, f"{session.id}/{rid}")
    assert state == "owed"
    assert "its worker is silent" in said


def test_an_orphan(node: Node) -> None:
    session, _, path = node.session_with_file(1)
    sid, rid = new_session_id("00"), new_resource_id()
    root = path.parents[3]
    orphan = root / "files" / sid[2:4] / sid / rid
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"x" * 10)
    state, said = told(node, orphan)
    assert state == "orphan"
    assert "Nobody owns it" in said
    assert "the second one that sees it unchanged" in said
    hold = Hold("idle", "restarted", "x", 0, "a", 10**15)
    node.store.execute(op.TablePut("holds", "idle", hold.encode()))
    assert "held by idle (restarted)" in told(node, orphan)[1]
    # a file of a live session without its record is the session's
    lost = path.with_name(new_resource_id())
    lost.write_bytes(b"x")
    assert "gives it back to its session" in told(node, lost)[1]
    assert session.id in str(lost)


def test_files_that_are_not_ours(node: Node, tmp_path: Path) -> None:
    session, rid, path = node.session_with_file(1)
    root = path.parents[3]
    elsewhere = tmp_path / "photo.jpg"
    elsewhere.write_bytes(b"x")
    assert told(node, elsewhere) == (
        "not ours",
        "It lies on no volume: no folder above it has a marker. Nothing of sessionsweep ever looks there.",
    )
    assert told(node, root)[0] == "not ours"
    for name in ("notes.txt", f"files/{session.id[2:4]}/notes.txt", f"files/zz/{session.id}/{rid}"):
        assert "no pass deletes it" in told(node, root / name)[1]
    kept = session.promote(rid)
    assert told(node, kept)[0] == "promoted"


def test_a_file_below_a_volume_that_is_not_mounted_is_not_nobodys(node: Node, tmp_path: Path) -> None:
    session, rid, path = node.session_with_file(700)
    session.end()
    node.advance(10)
    (tmp_path / "a").rename(tmp_path / "away")
    (tmp_path / "a").mkdir()
    node.reclaim.run_once()
    (volume_id,) = node.store.execute(op.Table("mounts")).values()
    found = explain(node.core, node.store, str(path))
    assert (found.state, found.session_id, found.resource_id) == ("marker-missing", session.id, rid)
    assert found.sentences[0] == (
        f"It lies on this node's volume a ({volume_id}), which can't be used now (marker-missing): nothing there is "
        "looked at or deleted."
    )
    assert found.sentences[1].startswith("Held by mount:a/a (marker-missing): ")
    assert "Its session has ended: it is to be deleted." in found.sentences
    assert "marker-missing: mount its disk there" in found.problems[0]
    for inside in (tmp_path / "a", tmp_path / "a" / "photo.jpg"):
        assert told(node, inside)[0] == "marker-missing"
    assert told(node, tmp_path / "ab")[0] == "not ours"
    (tmp_path / "a").rmdir()
    (tmp_path / "away").rename(tmp_path / "a")
    node.reclaim.run_once()
    assert told(node, tmp_path / "a" / "photo.jpg")[0] == "not ours"


def test_a_volume_of_another_deployment(node: Node, make_node: Callable[..., Node]) -> None:
    other = make_node("b", namespace=node.settings.namespace + "x")
    _, _, path = other.session_with_file(1)
    state, said = told(node, path)
    assert state == "not ours"
    assert "another deployment's" in said


@pytest.mark.parametrize("what", ["", "nothing", "x" * 20, "a0hv0bqnfd9efxjt", f"{'a' * 20}.{'b' * 43}"])
def test_what_is_nothing_is_said(node: Node, what: str) -> None:
    with pytest.raises(NothingKnownError) as raised:
        explain(node.core, node.store, what)
    assert "b" * 43 not in str(raised.value)


def test_what_an_id_lacks_is_said(node: Node) -> None:
    session, _, _ = node.session_with_file(1)
    with session.new_file("note", ".wav") as f:
        f.write(b"x")
    session.end()
    assert told(node, f.id)[0] == "owed"
    with pytest.raises(NothingKnownError, match=r"has the id \w{16}\. A suffix, such as \.wav, is part of an id\."):
        explain(node.core, node.store, f.id.removesuffix(".wav"))
    with pytest.raises(NothingKnownError, match=r"no resource's \(16, then the suffix that it was made with, such as"):
        explain(node.core, node.store, f.id.removesuffix(".wav")[:15])


def test_explaining_changes_nothing(node: Node) -> None:
    session, rid, path = node.session_with_file(1)
    node.advance(59)
    for what in (session.id, f"{session.id}/{rid}", path):
        told(node, what)
    node.advance(2)
    assert node.sweep.run_once().idle == 1
    assert path.exists()


def test_the_command(cli: Any) -> None:
    session, _ = cli.sessions.create(user="ana")
    answer = cli("explain", session.id)
    assert answer.status == 0
    assert answer.out.startswith(f"session {session.id} of ana: live\n  It lives")
    assert cli("explain", session.id, "--json").json()["state"] == "live"
    wrong = cli("explain", "nothing", status=1)
    assert "no path that exists" in wrong.err


def test_it_reads_like_this(node: Node) -> None:
    found = explain(node.core, node.store, new_session_id("00"))
    assert isinstance(found, Explanation)
    assert found.state == "unknown"
    assert "Nothing is known of it" in found.sentences[0]
