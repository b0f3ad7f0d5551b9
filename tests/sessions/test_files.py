"""What a session owns, as an application sees it: files written, adopted, pinned, promoted, evicted, deleted."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from sessionsweep import (
    ConfigurationError,
    LimitReachedError,
    OutcomeUnknownError,
    ResourceNotFoundError,
    ResourceTooLargeError,
    SessionEndedError,
    Sessions,
    StoreUnavailableError,
    VolumeNotHereError,
)
from sessionsweep.model.books import imbalance
from sessionsweep.model.ids import new_resource_id
from sessionsweep.store import operations as op
from sessionsweep.store.redis.sync import RedisStore
from support.nodes import Node
from support.proxy import FaultyProxy


def books(node: Node) -> dict[str, int]:
    """Counters of the only partition; they always balance."""
    counters = dict(node.store.execute(op.Counters("00")))
    assert imbalance(counters) == 0
    return counters


def test_without_a_volume_a_file_is_refused_with_the_fix(make_node: Callable[..., Node]) -> None:
    session, _ = make_node(volumes="").sessions.create()
    with pytest.raises(ConfigurationError, match=r"SESSIONSWEEP_VOLUMES is not set.*name=/folder"):
        session.new_file().__enter__()


def test_the_intent_stands_before_the_first_byte(node: Node) -> None:
    session, _ = node.sessions.create()
    with session.new_file("tts", ".wav") as f:
        (record,) = node.store.execute(op.ListResources(session.id))
        assert record.resource_id == f.id
        assert record.state == "i"
        assert session.resources() == [], "uncommitted files are nobody's to read"
        f.write(b"RIFF")
    (resource,) = session.resources()
    assert (resource.id, resource.size, resource.purpose, resource.kind) == (f.id, 4, "tts", "file")
    with session.open_file(f.id) as opened:
        assert opened.read() == b"RIFF"


def test_an_exception_discards_the_file_and_its_record(node: Node) -> None:
    session, _ = node.sessions.create()
    f = session.new_file()

    def write_half() -> None:
        with f:
            f.write(b"half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        write_half()
    assert not f.path.exists()
    assert node.store.execute(op.ListResources(session.id)) == ()
    assert books(node)["active"] == 0


def test_a_temporary_file_goes_with_its_block(node: Node) -> None:
    session, _ = node.sessions.create()
    with session.temp_file(".tmp") as f:
        f.write(b"x")
        assert f.path.exists()
    assert not f.path.exists()
    assert books(node)["deleted"] == 1


def test_what_another_program_wrote_counts(node: Node) -> None:
    session, _ = node.sessions.create()
    with session.new_file() as f:
        f.path.write_bytes(b"y" * 500_000)
    assert session.resources()[0].size == 500_000
    assert node.sessions.attach(session.id).bytes_used == 500_000


def test_the_writer_enforces_its_reservation(make_node: Callable[..., Node]) -> None:
    node = make_node(max_bytes_per_session="1MB")
    session, _ = node.sessions.create()
    with pytest.raises(ResourceTooLargeError), session.new_file() as f:
        f.write(b"x" * 1_000_001)
    with pytest.raises(ResourceTooLargeError), session.new_file() as f:
        f.path.write_bytes(b"x" * 1_000_001)
    assert not f.path.exists()
    with session.new_file() as f:
        f.write(b"x" * 1_000_000)
    assert books(node)["b_active"] == 1_000_000


def test_the_least_recently_used_make_room(make_node: Callable[..., Node]) -> None:
    node = make_node(max_resources_per_session=3)
    session, _ = node.sessions.create()
    written = []
    for _ in range(3):
        written.append(node.write(session))
        node.advance(0.1)
    session.open_file(written[0][0]).close()
    node.advance(0.1)
    node.write(session)
    assert {r.id for r in session.resources()} >= {written[0][0], written[2][0]}
    with pytest.raises(ResourceNotFoundError):
        session.open_file(written[1][0])
    node.advance(0.1)
    assert node.reclaim.run_once().deleted == 1
    assert not written[1][1].exists()
    assert written[0][1].exists()


def test_one_file_may_push_out_hundreds(make_node: Callable[..., Node]) -> None:
    """A script lets 250 go at most; the oldest first, and only as many as it takes."""
    node = make_node(max_resources_per_session=1000, max_bytes_per_session=1_000_000)
    session, _ = node.sessions.create()
    first, _ = node.write(session)
    location = node.store.execute(op.ListResources(session.id))[0].location
    session.delete(first)
    rids = [new_resource_id() for _ in range(950)]
    for rid in rids:
        register = op.Register(session.id, rid, "f", location, 1000, live=True, max_resources=1000)
        assert node.store.execute(register).status == "ok"
        node.advance(0.001)
    with session.new_file(max_size=900_000) as f:
        f.write(b"x" * 900_000)
    assert {one.resource_id for one in node.store.execute(op.ListResources(session.id)) if one.state == "l"} == {
        *rids[-100:], f.id,
    }  # fmt: skip
    assert imbalance(books(node)) == 0
    assert (books(node)["evicted"], books(node)["b_active"]) == (850, 1_000_000)


def test_a_pinned_file_is_not_pushed_out(make_node: Callable[..., Node]) -> None:
    node = make_node(max_resources_per_session=1)
    session, _ = node.sessions.create()
    rid, path = node.write(session)
    with session.pin(rid) as opened:
        with pytest.raises(LimitReachedError, match="MAX_RESOURCES_PER_SESSION"):
            node.write(session)
        assert opened.read() == b"x" * 100
    node.write(session)
    node.reclaim.run_once()
    assert not path.exists()


def test_a_file_is_adopted_by_renaming(node: Node, tmp_path: Path) -> None:
    session, _ = node.sessions.create()
    source = tmp_path / "upload.WAV"
    source.write_bytes(b"abc")
    rid = session.adopt_file(source, "upload")
    assert not source.exists()
    assert rid.endswith(".wav")
    with session.open_file(rid) as opened:
        assert opened.read() == b"abc"


def test_promoting_takes_a_file_out_of_the_sessions_life(node: Node, tmp_path: Path) -> None:
    session, rid, path = node.session_with_file()
    kept = session.promote(rid, to=tmp_path / "kept.bin")
    assert not path.exists()
    session.end()
    node.reclaim.run_once()
    assert kept.read_bytes() == b"x" * 100
    assert books(node)["promoted"] == 1


def test_deleting_is_reclaimed_by_the_worker(node: Node) -> None:
    session, rid, path = node.session_with_file()
    session.delete(rid)
    session.delete(rid)  # the first answer may have been lost
    assert node.reclaim.run_once().deleted == 1
    assert not path.exists()
    with pytest.raises(ResourceNotFoundError):
        session.delete(rid)


def test_deleting_succeeds_once_whatever_answer_is_lost(make_node: Callable[..., Node], redis_url: str) -> None:
    """The store sends a delete again when its answer was lost, and hears then that nothing is there to release."""
    node = make_node()
    session, _ = node.sessions.create()
    ids = [node.write(session)[0] for _ in range(40)]
    with FaultyProxy(redis_url, "delete", lose_reply=0.3) as proxy:
        store = RedisStore(proxy.url, node.settings.namespace, test_clock=True)
        behind = Sessions(node.settings, store=store)
        for rid in ids:
            while True:
                try:
                    behind.attach(session.id).delete(rid)
                    break
                except (OutcomeUnknownError, StoreUnavailableError):
                    continue
        behind.close()
        assert proxy.lost_replies > 10
    assert session.resources() == []
    assert node.reclaim.run_once().deleted == 40
    assert node.sessions.stats().imbalance == 0


def test_a_commit_after_the_end_is_a_typed_error_and_leaves_nothing(node: Node) -> None:
    session, _ = node.sessions.create()
    f = session.new_file()

    def write_late() -> None:
        with f:
            f.write(b"late")
            node.sessions.end(session.id)

    with pytest.raises(SessionEndedError):
        write_late()
    assert not f.path.exists()
    assert books(node)["owed"] == 0


def test_a_file_on_another_nodes_volume_names_that_node(make_node: Callable[..., Node]) -> None:
    a, b = make_node("a"), make_node("b")
    session, rid, _ = a.session_with_file()
    with pytest.raises(VolumeNotHereError) as caught:
        b.sessions.attach(session.id).open_file(rid)
    assert caught.value.nodes == ("a",)


def test_a_resource_is_reachable_only_through_its_session(node: Node) -> None:
    _, rid, _ = node.session_with_file()
    other, _ = node.sessions.create()
    for attempt in (rid, "../" + rid, "0" * 16, ""):
        with pytest.raises(ResourceNotFoundError):
            other.open_file(attempt)


def test_uploads_of_web_frameworks_are_copied(node: Node) -> None:
    from werkzeug.datastructures import FileStorage

    session, _ = node.sessions.create()
    with session.new_file() as f:
        f.copy_from(FileStorage(io.BytesIO(b"upload")))
    with session.new_file() as g:
        FileStorage(io.BytesIO(b"saved")).save(g)  # type: ignore[arg-type]
    assert sorted(r.size for r in session.resources()) == [5, 6]


def test_quotas_of_a_user_hold_over_all_sessions(make_node: Callable[..., Node]) -> None:
    node = make_node(max_resources_per_user=2, max_bytes_per_user="1MB")
    one, _ = node.sessions.create(user="ana")
    two, _ = node.sessions.create(user="ana")
    node.write(one, 1000, max_size=1000)
    rid, _ = node.write(two, 1000, max_size=1000)
    with pytest.raises(LimitReachedError, match="MAX_RESOURCES_PER_USER"):
        node.write(one)
    two.delete(rid)
    node.sweep.run_once()
    with pytest.raises(LimitReachedError, match="MAX_BYTES_PER_USER"):
        node.write(one, 999_001, max_size=999_001)
    node.write(one, 999_000, max_size=999_000)
    one.end()
    node.write(two, 1_000_000, max_size=1_000_000)
