"""A fault is visible: the dashboard, an alert of a real Prometheus, and `doctor` say each one within a minute, in plain
words that name the volume or node and what mends it; once it is mended, none of them says it any more."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import redis
from playwright.sync_api import expect
from watched import ROOT, RULES, TOKEN, Prometheus, Watched

from sessionsweep.operator.findings import Code
from support.browser import chromium, needs_chromium
from support.processes import wait_until

SOON = 60.0  # seconds within which a fault must be told, and after its mending told no more
LONG = bool(os.environ.get("FAULT_SCHEDULES"))  # `make faults`

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("CI") and (os.geteuid() != 0 or shutil.which("prometheus") is None),
        reason="real disks are mounted and filled, and Prometheus looks on: run it as root, with prometheus installed",
    ),
]


@dataclass(frozen=True)
class Fault:
    """One fault: how it is made and mended, and what is said of it meanwhile, by each."""

    name: str
    code: Code
    said: tuple[str, ...]  # words of one thing to look at, on the dashboard as in doctor, with its fix
    alert: str
    summary: tuple[str, ...]  # words of the alert
    make: Callable[[Watched], None]
    mend: Callable[[Watched], None]


def server(watched: Watched) -> redis.Redis:
    return redis.Redis.from_url(watched.status["redis_url"])


def undeletable(watched: Watched) -> None:
    with watched.visitor() as (visitor, session_id):
        watched.inside(f"chattr +i {watched.volume('a')}/files/*/{session_id}")
        visitor.post(f"{watched.web('a')}/logout")


def deletable(watched: Watched) -> None:
    watched.inside(f"chattr -i {watched.volume('a')}/files/*/*")
    assert watched.command("owed", "retry", "--volume", "a").returncode == 0


def forbid(watched: Watched) -> None:
    watched.inside(f"mount -o remount,ro {watched.volume('shared')}")


def allow(watched: Watched) -> None:
    watched.inside(f"mount -o remount,rw {watched.volume('shared')}")


def fill_disk(watched: Watched) -> None:
    ballast = shlex.quote(f"{watched.volume('shared')}/ballast")
    assert "No space left" in watched.inside(f"cat /dev/zero > {ballast}", check=False).stderr


def empty_disk(watched: Watched) -> None:
    watched.inside(f"rm {watched.volume('shared')}/ballast")


def unmount(watched: Watched) -> None:
    watched.unmount_b()


def mount(watched: Watched) -> None:
    watched.mount_b()


def stop_beat(watched: Watched) -> None:
    os.kill(watched.status["beat"]["pid"], signal.SIGSTOP)


def continue_beat(watched: Watched) -> None:
    os.kill(watched.status["beat"]["pid"], signal.SIGCONT)


def stop_worker(watched: Watched) -> None:
    os.kill(watched.status["workers"][1]["pid"], signal.SIGSTOP)
    watched.visit()  # leaves a file where nobody deletes it


def continue_worker(watched: Watched) -> None:
    os.kill(watched.status["workers"][1]["pid"], signal.SIGCONT)


def fill_redis(watched: Watched) -> None:
    with server(watched) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("x", "y")


def empty_redis(watched: Watched) -> None:
    with server(watched) as client:
        client.config_set("maxmemory", 0)


def flush_redis(watched: Watched) -> None:
    with server(watched) as client:
        client.flushall()


def adopt(watched: Watched) -> None:
    for name, node in (("a", "a"), ("b", "b"), ("shared", "a")):
        done = watched.command("volumes", "adopt", name, "--yes", node=node)
        assert done.returncode == 0, done.stderr


FAULTS = [
    Fault("a disk isn't mounted", Code.HOLD, ("mount:node-b/b (marker-missing)", "mount its disk there"),
          "SessionsweepHeld", ("on volume b of node node-b", "sessionsweep holds list"), unmount, mount),
    Fault("files can't be deleted", Code.FAILING, ("volume a:", "failed (EPERM", "owed list --failing --volume a"),
          "SessionsweepCleanupFails", ("on volume a", "can't be deleted"), undeletable, deletable),
    Fault("a disk is full", Code.DISK, ("volume shared:", "100% full", "uploads to it are refused", "make room"),
          "SessionsweepDiskNearlyFull", ("disk of volume shared", "less than 10 %"), fill_disk, empty_disk),
    Fault("a volume can't be written", Code.UNWRITABLE, ("volume shared:", "can't write it (EROFS", "mount it again"),
          "SessionsweepVolumeUnwritable", ("can't write to volume shared",), forbid, allow),
    Fault("no beat runs", Code.BEAT, ("beat is silent for", "celery -A sessionsweep_workers beat"),
          "SessionsweepBeatMissing", ("No Celery beat runs",), stop_beat, continue_beat),
    Fault("Redis is full", Code.MEMORY, ("store:", "of maxmemory", "new sessions and files are refused", "CONFIG SET"),
          "SessionsweepStoreNearlyFull", ("of its maxmemory",), fill_redis, empty_redis),
    Fault("Redis was emptied", Code.HOLD, ("(volume a) (foreign-deployment)", "sessionsweep volumes adopt"),
          "SessionsweepHeld", ("on volume a", "foreign-deployment", "sessionsweep holds list"), flush_redis, adopt),
]  # fmt: skip
SILENCE = Fault(
    "a node's worker stopped", Code.WORKER, ("node-b is silent for", "nobody else mounts b", "start it again"),
    "SessionsweepWorkerSilent", ("worker of node node-b is silent",), stop_worker, continue_worker,
)  # fmt: skip
ALL = [*FAULTS, SILENCE]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(tmp_path_factory.mktemp("watched")) as running:
        for _ in range(3):
            running.visit()
        yield running


@pytest.fixture(scope="module")
def prometheus(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with Prometheus(tmp_path_factory.mktemp("prometheus"), watched.status["admin_url"]) as running:
        yield running


def has(text: str, words: tuple[str, ...]) -> bool:
    return all(word in text for word in words)


def seen(watched: Watched, prometheus: Prometheus, fault: Fault, expected: bool) -> dict[str, str]:
    """Who says it, and how; each is asked once the cheaper one before it says what is expected."""
    told = {}
    alerts = [summary for name, _, summary in prometheus.firing() if name == fault.alert]
    told["alert"] = next((one for one in alerts if has(one, fault.summary)), "")
    if bool(told["alert"]) == expected:
        told["dashboard"] = next((one for one in watched.overview() if has(one, fault.said)), "")
        if bool(told["dashboard"]) == expected:
            found = [one for one in watched.doctor() if one["code"] == fault.code]
            lines = [f"{one['area']}: {one['text']}. {one['fix']}" for one in found]
            told["doctor"] = next((one for one in lines if has(one, fault.said)), "")
    return told


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_told_and_clears(watched: Watched, prometheus: Prometheus, fault: Fault) -> None:
    told_and_cleared(watched, prometheus, fault)


@pytest.mark.skipif(not LONG, reason="30 s of silence: make faults")
def test_a_worker_that_stops_is_told_and_clears(watched: Watched, prometheus: Prometheus) -> None:
    told_and_cleared(watched, prometheus, SILENCE)


@pytest.mark.skipif(not LONG, reason="a page lies open for two of its looks: make faults")
@needs_chromium
def test_a_page_that_lies_open_tells_it_by_itself_and_clears(watched: Watched) -> None:
    wait_until(lambda: not watched.overview(), SOON, "all is well")
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{watched.status['admin_url']}/admin/")
        page.get_by_label("Admin token").fill(TOKEN)
        page.keyboard.press("Enter")
        health = page.get_by_role("region", name="Health")
        expect(health).to_contain_text("All is well", timeout=SOON * 1000)
        fill_disk(watched)
        try:
            expect(health).to_contain_text("volume shared: its disk on node-", timeout=SOON * 1000)
            expect(health).to_contain_text("make room, or a larger disk")
            health.get_by_role("link", name="See").first.click()
            expect(page.get_by_role("heading", name="Volumes", exact=True)).to_be_visible()
            page.go_back()
        finally:
            empty_disk(watched)
        expect(health).to_contain_text("All is well", timeout=SOON * 1000)


def told_and_cleared(watched: Watched, prometheus: Prometheus, fault: Fault) -> None:
    last: dict[str, str] = {}

    def told() -> bool:
        last.clear()
        last.update(seen(watched, prometheus, fault, expected=True))
        return len(last) == 3 and all(last.values())

    def silent() -> bool:
        last.clear()
        last.update(seen(watched, prometheus, fault, expected=False))
        return len(last) == 3 and not any(last.values())

    def looked(what: Callable[[], bool], meaning: str) -> None:
        try:
            wait_until(what, SOON, meaning)
        except TimeoutError as error:
            page, alerts, found = watched.overview(), prometheus.firing(), watched.doctor()
            raise AssertionError(f"{error}: {last}\n{page}\n{alerts}\n{found}") from None

    fault.make(watched)
    try:
        looked(told, f"all three tell that {fault.name}")
    finally:
        fault.mend(watched)
    looked(silent, f"none tells any more that {fault.name}")


def test_all_is_well_at_the_end(watched: Watched) -> None:
    watched.visit()
    wait_until(lambda: not watched.overview(), SOON, "the dashboard says that all is well")


def test_operations_says_what_is_seen_of_each_and_what_to_do() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+?) \| `(\w+)` \| `([\w-]+)` \| (.+?) \|$", page, re.MULTILINE)
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert {alert for _, _, alert, _, _ in rows} <= alerts
    assert {code for _, _, _, code, _ in rows} <= set(Code)
    told = {name: (alert, code) for name, _, alert, code, _ in rows}
    for fault in ALL:
        assert told[fault.name] == (fault.alert, fault.code)
