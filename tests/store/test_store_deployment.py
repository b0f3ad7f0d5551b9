"""Conformance: facts, meta, tables, named leases, counters, and many operations at once."""

from __future__ import annotations

from typing import Any

import pytest
from driving import GRACE, IDLE, MAC, T0, WIDTH, P, RedisSubject, Subject, create_op

from sessionsweep.model.ids import new_session_id
from sessionsweep.store import operations as op


def test_facts_tell_the_server_s_run_and_time(store: Subject) -> None:
    facts = store.do(op.Facts())
    assert facts.now == T0
    assert len(facts.run_id) in (40, 80)  # and the replication id
    assert facts.version
    assert not facts.policy.startswith("allkeys")
    assert store.do(op.Facts()).run_id == facts.run_id


def test_facts_tell_whose_data_the_server_holds(store: Subject) -> None:
    assert store.do(op.Facts()).deployment == ""
    store.do(op.SetMeta({"deployment": "one"}))
    assert store.do(op.Facts()).deployment == "one"


def test_meta_is_set_set_once_or_raised(store: Subject) -> None:
    assert store.do(op.Meta()) == {}
    assert store.do(op.SetMeta({"id": "one", "mark": "5"})) is True
    assert store.do(op.SetMeta({"id": "two", "schema": "1"}, only_new=True)) is True
    assert store.do(op.SetMeta({"id": "two"}, only_new=True)) is False
    assert store.do(op.SetMeta({"mark": "4"}, raise_only=True)) is False
    assert store.do(op.SetMeta({"mark": "5"}, raise_only=True)) is False
    assert store.do(op.SetMeta({"mark": "10", "fresh": "0"}, raise_only=True)) is True
    assert store.do(op.Meta()) == {"id": "one", "mark": "10", "schema": "1", "fresh": "0"}
    assert store.do(op.SetMeta({"mark": "1"})) is True
    assert store.do(op.Meta())["mark"] == "1"


def test_a_mark_ahead_of_the_clock_goes_back_to_it(store: Subject) -> None:
    """It would say for ever that a pass has just run."""
    for ahead, back in ((60_000, False), (60_001, True), (9 * 10**14, True)):
        store.do(op.SetMeta({"last_sweep": str(T0 + ahead), "high_water": str(T0 + ahead)}))
        assert store.do(op.SetMeta({"last_sweep": str(T0)}, raise_only=True)) is back
        assert store.do(op.SetMeta({"high_water": str(T0)}, raise_only=True)) is False, "volumes are held against it"
        assert store.do(op.Meta())["last_sweep"] == str(T0 if back else T0 + ahead)


def test_a_volumes_mark_is_raised_to_now_unless_the_volume_has_seen_much_more(store: Subject) -> None:
    def rows() -> dict[str, str]:
        return dict(store.do(op.Table("marks")))

    assert store.do(op.RaiseMark("new", 0, 5000)) == T0, "a volume that was never marked"
    assert store.do(op.RaiseMark("old", T0, 5000)) == 0, "a copy from before it was first marked"
    store.do(op.SetMeta({"high_water": str(T0 - 10_000)}))
    assert store.do(op.RaiseMark("old", T0 - 4999, 5000)) == 0
    assert rows() == {"new": str(T0)}
    assert store.do(op.RaiseMark("old", T0 - 5000, 5000)) == T0
    store.do(op.TablePut("marks", "old", str(T0 - 20_000)))
    assert store.do(op.RaiseMark("old", T0 - 14_999, 5000)) == 0, "its own counts"
    store.do(op.TablePut("marks", "old", str(T0 + 20_000)))
    assert store.do(op.RaiseMark("old", T0 + 20_000, 5000)) == T0
    assert rows()["old"] == str(T0 + 20_000), "never goes back"
    run = store.do(op.Facts()).run_id
    assert store.do(op.RaiseMark("new", T0, 5000, "0" * 40)) == 0, "asked of another server than this"
    assert store.do(op.RaiseMark("new", T0, 5000, run)) == T0
    for damaged in ("", "x", "-1", "1" * 16):
        store.do(op.TablePut("marks", "old", damaged))
        assert store.do(op.RaiseMark("old", T0, 5000)) == 0
        assert rows()["old"] == damaged


def test_a_hold_on_idle_ends_that_lasts_longer_than_any_runs_out(store: Subject) -> None:
    sid = store.create()
    store.do(op.HoldIdle(P, 9 * 10**14))
    store.advance(IDLE)
    step = op.SweepStep(P, WIDTH, GRACE, hold=5000)
    assert store.do(step).held_until == T0 + IDLE + 5000
    store.advance(4999 + WIDTH)
    store.do(step)
    store.advance(2 * WIDTH)
    store.do(step)
    assert store.do(op.PeekSession(sid)).record is None


def test_tables_keep_rows_apart(store: Subject) -> None:
    assert store.do(op.Table("vols")) == {}
    assert store.do(op.TablePut("vols", "v1", "a ü\n{}")) is True
    assert store.do(op.TablePut("vols", "v1", "b")) is False
    assert store.do(op.TablePut("vols", "v1", "c", only_new=True)) is False
    assert store.do(op.TablePut("vols", "v2", "d", only_new=True)) is True
    assert store.do(op.Table("vols")) == {"v1": "b", "v2": "d"}
    assert store.do(op.Table("holds")) == {}
    assert store.do(op.TableDrop("vols", "v1", "another")) is False
    assert store.do(op.TableDrop("vols", "v2", "d")) is True
    assert store.do(op.TableDrop("vols", "v2", "d")) is False
    assert store.do(op.TablePut("vols", "v2", "d")) is True
    assert store.do(op.TableDrop("vols", "v1")) is True
    assert store.do(op.TableDrop("vols", "v1")) is False
    assert store.do(op.Table("vols")) == {"v2": "d"}


def test_a_lease_by_name_has_one_holder(store: Subject) -> None:
    assert store.do(op.TakeLease("orphans", "one", 60_000)) is True
    assert store.do(op.TakeLease("orphans", "one", 60_000)) is True
    assert store.do(op.TakeLease("orphans", "two", 60_000)) is False
    assert store.do(op.TakeLease("others", "two", 60_000)) is True
    assert store.do(op.DropLease("orphans", "two")) is False
    assert store.do(op.DropLease("orphans", "one")) is True
    assert store.do(op.DropLease("orphans", "one")) is False
    assert store.do(op.TakeLease("orphans", "two", 60_000)) is True


def test_a_lease_by_name_lapses(store: Subject) -> None:
    store.do(op.TakeLease("orphans", "one", 150))
    assert store.until_lapsed(150, lambda: store.do(op.TakeLease("orphans", "two", 60_000)))
    assert store.do(op.DropLease("orphans", "one")) is False


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_a_lease_by_name_that_has_no_end_is_none(store: RedisSubject) -> None:
    store.client.set(store.keys.globals("l:orphans"), "somebody")
    assert store.do(op.TakeLease("orphans", "one", 60_000)) is True
    assert store.do(op.TakeLease("orphans", "two", 60_000)) is False


def test_counters_add_up_and_are_their_partition_s_own(store: Subject) -> None:
    assert store.do(op.Counters(P)) == {}
    assert store.do(op.Count(P, {"sweeps": 1, "orphans": 5})) == 2
    store.do(op.Count(P, {"sweeps": 2, "orphans": -1}))
    assert store.do(op.Counters(P)) == {"sweeps": 3, "orphans": 4}
    assert store.do(op.Counters("08")) == {}


def test_many_operations_answer_each_in_its_place(store: Subject) -> None:
    sids = [store.create() for _ in range(4)]
    store.end(sids[1])
    over = store.create()
    operations: list[op.Operation[Any]] = [op.OpenSession(sid, (MAC,)) for sid in sids]
    operations += [op.PeekSession(sids[0]), create_op(new_session_id(P)), op.EndSession(over, "user"), op.Meta()]
    replies = store.many(operations)
    states = [reply.status for reply in replies[:4]]
    ok, invalid = op.OpenStatus.OK, op.OpenStatus.INVALID
    assert states == [ok, invalid, ok, ok]
    assert [reply.record.session_id for reply in (replies[0], replies[2], replies[3])] == [sids[0], sids[2], sids[3]]
    assert replies[4].record.session_id == sids[0]
    assert (replies[5].status, replies[6].done, replies[7]) == (ok, True, {})
    assert store.many([]) == []


def test_partitions_share_nothing(store: Subject) -> None:
    here, there = store.create(), store.create(new_session_id("08"))
    assert store.wheel() == [here]
    assert store.do(op.ListWheel("08"))[0] == (there,)
    assert store.books() == {"created": 1}
    store.advance(10**9)
    store.sweep_all()
    assert store.do(op.PeekSession(there)).record is not None
