"""What a process measures of its own calls: by outcome, time, limit and bytes; nothing where nobody asked."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from sessionsweep import AsyncSessions, Client, Sessions, Settings
from sessionsweep.errors import ConfigurationError, LimitReachedError, SessionSweepError, StoreError
from sessionsweep.observe.prometheus import measure
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node

HOME, ELSEWHERE = Client("203.0.113.7", "Browser"), Client("198.51.100.9", "Browser")


class Counted:
    """A registry's figures by name; those that are 0 are left out."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def get(self, name: str, **labels: str) -> float:
        """One sample; 0: there is none."""
        return self.registry.get_sample_value(f"sessionsweep_{name}", labels) or 0

    def outcomes(self, operation: str) -> dict[str, float]:
        """How often an operation ended in which way."""
        samples = [s for family in self.registry.collect() for s in family.samples]
        return {
            s.labels["outcome"]: s.value
            for s in samples
            if s.name == "sessionsweep_operations_total" and s.labels["operation"] == operation
        }


@pytest.fixture
def counted() -> Counted:
    return Counted()


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(SessionSweepError):
        call()


@pytest.mark.parametrize("mode", ["log", "strict"])
def test_opens_by_outcome(make_node: Callable[..., Node], counted: Counted, mode: str) -> None:
    node = make_node(client_binding=mode, trusted_proxies="none")
    sessions = node.sessions
    measure(sessions, counted.registry)
    session, token = sessions.create(HOME)
    for _ in range(3):
        sessions.open(token, HOME)
    if mode == "log":
        sessions.open(token, ELSEWHERE)
    else:
        refused(lambda: sessions.open(token, ELSEWHERE))
    refused(lambda: sessions.open("garbage"))
    refused(lambda: sessions.open(f"{session.id}.{'x' * 43}"))
    node.advance(11)
    refused(lambda: sessions.open(token, HOME))
    changed = "mismatch" if mode == "log" else "refused"
    assert counted.outcomes("open") == {"ok": 3, changed: 1, "invalid": 2, "ended": 1}
    assert counted.get("operation_seconds_count", operation="open") == 7
    assert counted.get("operation_seconds_sum", operation="open") > 0
    assert counted.outcomes("create") == {"ok": 1}


def test_limits_by_name_each_once(make_node: Callable[..., Node], counted: Counted) -> None:
    node = make_node(
        max_sessions=3,
        max_sessions_per_user=1,
        max_streams_per_session=1,
        max_bytes_per_session=1000,
        max_bytes_per_user=500,
    )
    measure(node.sessions, counted.registry)
    session, _ = node.sessions.create(user="ana")
    plain, _ = node.sessions.create()
    for refusal in (
        lambda: node.sessions.create(user="ana"),
        lambda: plain.log_in("ana"),
        lambda: node.write(session, 600),
        lambda: node.write(plain, 1001),
        lambda: [node.sessions.create() for _ in range(2)],
    ):
        with pytest.raises(LimitReachedError):
            refusal()
    told = {
        name: counted.get("limits_hit_total", limit=name)
        for name in ("MAX_SESSIONS", "MAX_SESSIONS_PER_USER", "MAX_BYTES_PER_USER", "MAX_BYTES_PER_SESSION")
    }
    assert told == {
        "MAX_SESSIONS": 1,
        "MAX_SESSIONS_PER_USER": 2,
        "MAX_BYTES_PER_USER": 1,
        "MAX_BYTES_PER_SESSION": 1,
    }
    assert counted.outcomes("create")["limit"] == 2


def test_files_and_their_bytes(node: Node, counted: Counted, tmp_path: Path) -> None:
    measure(node.sessions, counted.registry)
    session, _ = node.sessions.create()
    node.write(session, 100)
    with session.temp_file() as temporary:
        temporary.write(b"not kept")
    with suppress(ZeroDivisionError), session.new_file() as discarded:
        discarded.write(b"not kept" * (1 // 0))
    (tmp_path / "mine.txt").write_bytes(b"x" * 23)
    session.adopt_file(tmp_path / "mine.txt")
    assert (counted.get("files_written_total"), counted.get("file_written_bytes_total")) == (2, 123)
    assert counted.outcomes("commit") == {"ok": 2}


async def test_asynchronous_calls_count_alike_and_cancelled_ones_don_t(
    redis_url: str, namespace: str, counted: Counted
) -> None:
    sessions = AsyncSessions(Settings(redis_url=redis_url, namespace=namespace, secret_key="k" * 32))
    measure(sessions, counted.registry)
    try:
        _, token = await sessions.create()
        await asyncio.gather(*(sessions.open(token) for _ in range(20)))
        cancelled = asyncio.create_task(sessions.open(token))
        await asyncio.sleep(0)  # it has asked
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        session = await sessions.open(token)
        session.data["a"] = 1
        await session.save()
        await session.end()
    finally:
        await sessions.close()
    assert counted.outcomes("open") == {"ok": 21}
    assert (counted.outcomes("save"), counted.outcomes("end")) == ({"ok": 1}, {"ok": 1})


def test_a_store_that_is_away(
    make_node: Callable[..., Node], own_server: Callable[..., EmbeddedServer], counted: Counted
) -> None:
    server = own_server()
    sessions = make_node(url=server.url).sessions
    measure(sessions, counted.registry)
    _, token = sessions.create()
    server.stop()
    with pytest.raises(StoreError):
        sessions.open(token)
    assert counted.outcomes("open") == {"store_error": 1}


def test_passes_and_what_they_deleted_by_volume(node: Node, counted: Counted) -> None:
    measure(node.sessions, counted.registry)
    for _ in range(3):
        session, _, _ = node.session_with_file(50)
        session.end()
    node.sweep.run_once()
    node.reclaim.run_once()
    node.orphans.run_once()
    assert counted.get("reclaimed_total", volume="a", outcome="deleted") == 3
    assert counted.get("reclaimed_bytes_total", volume="a") == 150
    for task in ("sweep", "reclaim", "orphans"):
        assert counted.get("pass_seconds_count", task=task) == 1
        assert counted.get("batch_seconds_count", task=task) >= 1
        assert counted.get("batch_seconds_sum", task=task) <= counted.get("pass_seconds_sum", task=task)
    assert counted.get("batch_seconds_count", task="reclaim") == 1  # the end of a pass is no batch of its own


def test_a_resource_given_up_counts_once(make_node: Callable[..., Node], counted: Counted) -> None:
    node = make_node(reclaim_tries=1)
    measure(node.sessions, counted.registry)
    session, _, path = node.session_with_file()
    path.unlink()
    path.mkdir()
    session.end()
    node.reclaim.run_once()
    outcomes = {one: counted.get("reclaimed_total", volume="a", outcome=one) for one in ("failed", "dead")}
    assert outcomes == {"failed": 0, "dead": 1}


def test_what_a_meter_raises_breaks_no_request(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Callable[..., None]:
            def full(*about: object) -> None:
                raise OSError(28, "No space left on device")

            return full

    node.sessions.core.meter = Broken()  # type: ignore[assignment]
    session, _, _ = node.session_with_file(10)
    session.end()
    assert node.reclaim.run_once().deleted == 1
    assert "No space left on device" in caplog.text


def test_nothing_is_measured_or_imported_where_nobody_asked() -> None:
    code = """
import sys
from sessionsweep import Sessions, Settings
sessions = Sessions(Settings(redis_url="memory://", **{more}))
session, token = sessions.create()
sessions.open(token).end()
print("prometheus_client" in sys.modules, sessions.core.meter is not None)
"""
    for more, told in (({}, "False False"), ({"metrics": "1"}, "True True")):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("{more}", repr(more))], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == told


def test_without_the_library_the_setting_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sessionsweep.observe.prometheus", None)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"SESSIONSWEEP_METRICS .*sessionsweep\[metrics\]"):
        Sessions(Settings(redis_url="memory://", metrics=True))


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env}
    )


def test_a_folder_that_is_named_too_late_or_can_t_be_used_is_told_of(tmp_path: Path) -> None:
    late = run(
        "import prometheus_client, os; os.environ['PROMETHEUS_MULTIPROC_DIR'] = '/tmp'\n"
        "from sessionsweep.observe.prometheus import exposed; exposed()"
    )
    assert "ConfigurationError: PROMETHEUS_MULTIPROC_DIR was set after prometheus_client was imported" in late.stderr
    (tmp_path / "file").touch()
    use = "from sessionsweep.observe.prometheus import exposed; exposed()"
    bad = run(use, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "file" / "x"))
    assert "can't be used: Not a directory" in bad.stderr
    made = tmp_path / "a" / "b"
    assert run(use, PROMETHEUS_MULTIPROC_DIR=str(made)).returncode == 0
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_folder_that_others_might_prepare_is_refused(tmp_path: Path) -> None:
    use = "from sessionsweep.observe.prometheus import exposed; exposed(); print('used')"
    folder, link = tmp_path / "own", tmp_path / "link"
    folder.mkdir(mode=0o755)
    link.symlink_to(folder)

    def told(path: str) -> str:
        done = run(use, PROMETHEUS_MULTIPROC_DIR=path)
        return done.stdout.strip() or done.stderr.splitlines()[-1]

    assert told(str(folder)) == "used"
    for path in (str(link), f"{link}/"):
        assert f"PROMETHEUS_MULTIPROC_DIR={path!r} can't be used: it is a link; name the folder itself" in told(path)
    for mode in (0o770, 0o707, 0o1777):
        folder.chmod(mode)
        assert f"others may write into it (mode {mode:04o}); chmod 0700 it" in told(str(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders of other users'")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    use = "from sessionsweep.observe.prometheus import exposed; exposed()"
    refused = run(use, PROMETHEUS_MULTIPROC_DIR=str(folder)).stderr
    assert "it belongs to user 12345, and this process runs as user 0; name one that isn't there yet" in refused


def test_children_of_a_busy_process_don_t_wait_for_its_locks(tmp_path: Path) -> None:
    done = run(BUSY, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["100", "True"]


#: Threads measure all the time while the process forks; each child measures once. Answers what all children counted.
BUSY = """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore")
from prometheus_client import CollectorRegistry
from sessionsweep.observe.prometheus import exposed, meter
sys.setswitchinterval(1e-6)
m, stop = meter(), threading.Event()

def work():
    while not stop.is_set():
        m.file(1)

threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
for _ in range(100):
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        m.limit("FORKED")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "a child hangs"
stop.set()
[thread.join() for thread in threads]
found = exposed().get_sample_value
print(int(found("sessionsweep_limits_hit_total", {"limit": "FORKED"})), found("sessionsweep_files_written_total") > 0)
"""


@pytest.mark.parametrize(
    ("given", "stands"),
    [("", ""), ("9108", "127.0.0.1:9108"), (9108, "127.0.0.1:9108"), ("0.0.0.0:9108", "0.0.0.0:9108"),
     ("[::1]:9108", "::1:9108"), (":9108", "127.0.0.1:9108")],
)  # fmt: skip
def test_where_a_worker_listens(given: object, stands: str) -> None:
    assert Settings(redis_url="memory://", metrics_address=given).metrics_address == stands


@pytest.mark.parametrize("given", ["x", "0", "70000", "host:", "1.2.3.4", "9108/metrics", "９１０８"])
def test_what_is_no_place_to_listen(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"SESSIONSWEEP_METRICS_ADDRESS .*write a port \(9108\)"):
        Settings(redis_url="memory://", metrics_address=given)
