"""What a worker does by itself: late mounts, a broker that is away, orphans without beat, held volumes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_cluster import Cluster, left, session_with_files, wait_gone, wait_settled

from sessionsweep.model.holds import ALL, Hold
from sessionsweep.store import operations as op
from sessionsweep_workers import names
from sessionsweep_workers.devstack.ports import free_port
from sessionsweep_workers.dispatcher import Dispatcher
from sessionsweep_workers.fanout import OUTSTANDING
from sessionsweep_workers.keeper import BUDGET, PATIENCE, _next_orphans, _Pace
from sessionsweep_workers.lane import Lane
from sessionsweep_workers.passes import PassRecord
from support.processes import wait_until

pytestmark = pytest.mark.smoke

FUTURE = 999_999_999_999_999  # ms: a time of the store's clock that none of us will see
HELD = re.compile(r"reclaim.* held.*hold on all \(rolled-back\)")


def test_a_volume_that_is_mounted_later_brings_its_queue(cluster: Cluster) -> None:
    later = cluster.folder / "disk" / "late"
    volumes = f"late={later}"
    worker = cluster.worker("a", volumes=volumes)
    later.parent.mkdir()
    worker.wait_for_log("Started consuming from sessionsweep.volume.")
    sessions = cluster.sessions("a", volumes)
    session, paths = session_with_files(sessions)
    session.end()
    wait_gone(paths)
    worker.wait_for_log(re.compile(rf"{names.RECLAIM}.* succeeded"))


def test_a_message_about_a_disk_that_is_away_is_a_warning_and_fails_only_who_waits(cluster: Cluster) -> None:
    worker = cluster.worker("a")
    sessions = cluster.sessions()
    session, paths = session_with_files(sessions)
    (volume,) = sessions.core.mounts.here()
    away = cluster.folder / "away"
    volume.root.rename(away)
    volume.root.mkdir()
    session.end()
    with contextlib.closing(Dispatcher(sessions.settings)) as dispatcher:
        for task in (names.RECLAIM, names.SWEEP_ORPHANS):
            order = {"volume": volume.id}
            request = dispatcher.dispatch(task, order, names.volume_queue(volume.id))
            answer = dispatcher.wait(request, 20)
            assert (answer["state"], answer["node"]) == ("failed", "a")
            assert "can't be used now: see sessionsweep holds list" in answer["result"]["error"]
            worker.wait_for_log(f"{task}: volume {volume.id} can't be used here now")
            dispatcher._app.tasks[task].apply_async(kwargs=order, queue=names.volume_queue(volume.id))  # nobody waits
            worker.wait_for_log(re.compile(rf"{task}.* succeeded in .*not_mounted"))
    volume.root.rmdir()
    away.rename(volume.root)
    wait_gone(paths)
    assert "Traceback" not in worker.logs()


def test_without_a_broker_the_worker_still_cleans(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    worker = cluster.worker("a", start=False)
    worker.start(wait=False)
    sessions = cluster.sessions()
    ended, at_once = session_with_files(sessions, 2)
    _, idle = session_with_files(sessions, 2)
    ended.end()
    wait_gone([*at_once, *idle], 20)
    wait_settled(sessions)
    worker.wait_for_log("the broker doesn't take a message")


def test_an_orphan_is_seen_twice_and_destroyed_without_beat(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(orphan_interval="1", orphan_min_age="0", hold="0.1", idle_timeout="600", max_duration="600")
    sessions = cluster.sessions()
    living, kept = session_with_files(sessions)
    lost, orphans = session_with_files(sessions)
    forget(cluster, lost.id)
    worker = cluster.worker("a")
    wait_gone(orphans, 15)
    worker.wait_for_log("looked for orphans without a message")
    assert left(kept) == 1
    assert sessions.get(living.id) is not None


def forget(cluster: Cluster, session_id: str) -> None:
    """As if a failover had lost every write about a session."""
    keys = [key for key in cluster.broker().scan_iter(f"{cluster.namespace}:*") if key.endswith(session_id)]
    assert len(keys) >= 2
    cluster.broker().unlink(*keys)


def test_damaged_records_of_passes_stop_no_late_pass(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(orphan_interval="1", orphan_min_age="0", hold="0.1", idle_timeout="600", max_duration="600")
    sessions = cluster.sessions()
    lost, orphans = session_with_files(sessions)
    [volume] = sessions.core.mounts.here()
    forget(cluster, lost.id)
    rows = {
        f"last:{names.SWEEP_ORPHANS}:{volume.id}": PassRecord(names.SWEEP_ORPHANS, "a", "done", FUTURE).encode(),
        "last:x": "[" * 200_000,
        "y": "{}",
    }
    for row, text in rows.items():
        sessions.store.execute(op.TablePut("passes", row, text))
    cluster.worker("a")
    wait_gone(orphans, 15)


def test_marks_from_the_future_keep_no_sweep_from_being_missed_and_raise_an_alarm(cluster: Cluster) -> None:
    sessions = cluster.sessions()
    sessions.store.execute(op.SetMeta({"last_sweep": str(FUTURE), "beat_seen": str(FUTURE)}))
    worker = cluster.worker("a")
    _, idle = session_with_files(sessions)
    wait_gone(idle, 15)
    worker.wait_for_log(re.compile(r"ERROR.*Marks of the deployment lie ahead .*beat_seen.*last_sweep"))
    worker.wait_for_log(re.compile(r"ERROR.*No beat was ever seen"))
    assert set(sessions.store.execute(op.Table("alarms"))) == {"beat", "marks"}
    sessions.store.execute(op.SetMeta({"last_sweep": "1", "beat_seen": "1"}))
    worker.wait_for_log("the deployment's marks are of its past again")
    assert set(sessions.store.execute(op.Table("alarms"))) == {"beat"}


def test_marks_that_are_none_count_as_absent(cluster: Cluster) -> None:
    sessions = cluster.sessions()
    sessions.store.execute(op.SetMeta({"last_sweep": "x", "beat_seen": "9" * 400}))
    cluster.worker("a")
    _, idle = session_with_files(sessions)
    wait_gone(idle, 15)


def test_a_held_volume_keeps_its_files_and_makes_few_messages(cluster: Cluster) -> None:
    sessions = cluster.sessions()
    session, paths = session_with_files(sessions, 2)
    hold = Hold(ALL, "rolled-back", "a test", sessions.store.execute(op.Facts()).now)
    sessions.store.execute(op.TablePut("holds", ALL, hold.encode()))
    worker = cluster.worker("a")
    session.end()
    worker.wait_for_log(HELD)
    begun = len(worker.logs())
    wait_until(lambda: len(HELD.findall(worker.logs(), begun)) >= 3, what="it looks now and then")
    assert left(paths) == 2
    sessions.store.execute(op.TableDrop("holds", ALL))
    wait_gone(paths)


def test_a_nudge_is_followed_at_once(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(cleanup_interval="60")
    cluster.worker("a")
    sessions = cluster.sessions()
    for _ in range(3):
        session, paths = session_with_files(sessions)
        session.end()
        wait_gone(paths, 2)  # a log-out's files, long before the interval


def test_looks_grow_rare_while_nothing_helps_and_nudges_are_followed() -> None:
    pace = _Pace(10.0, 40.0)
    assert pace.may_look()
    pace.sent()
    assert not pace.may_look()
    assert pace.may_follow_nudge()
    assert not pace.may_follow_nudge()  # a flood of nudges is one
    gaps = []
    for _ in range(4):
        pace.sent()
        gaps.append(pace._gap)
    assert gaps == [40.0, 40.0, 40.0, 40.0]


@pytest.mark.parametrize(
    ("result", "seconds"), [({}, 5400), ({"confirm_in": 30.0}, 30), ({"more": True, "confirm_in": 30.0}, BUDGET)]
)
def test_an_orphan_pass_goes_on_and_is_confirmed_before_the_next(result: dict[str, object], seconds: float) -> None:
    assert _next_orphans(PassRecord(names.SWEEP_ORPHANS, "a", result=result), 3600) == seconds


def test_lost_messages_do_not_follow_one_another_for_ever() -> None:
    assert 2 * PATIENCE * 1000 < OUTSTANDING


def test_a_lane_does_a_waiting_job_once_and_survives_failures(caplog: pytest.LogCaptureFixture) -> None:
    lane = Lane("test-lane")
    done: list[str] = []
    for _ in range(3):
        lane.ask("fails", lambda: 1 // 0)
        lane.ask("works", lambda: done.append("x"))
    lane.start()
    wait_until(lambda: done, what="the job is done")
    lane.ask("works", lambda: done.append("y"))
    lane.stop(5)
    assert done == ["x", "y"]
    assert "fails failed" in caplog.text


def test_a_worker_stops_at_once(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.worker("a")
    worker.send_signal(15)
    assert worker.wait(5) == 0
    assert "Traceback" not in worker.logs()
