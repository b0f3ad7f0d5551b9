"""The data folder of a stack: held by one, private, remembered, and left clean."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sessionsweep.errors import ConfigurationError
from sessionsweep_workers.devstack.folder import DataFolder
from sessionsweep_workers.devstack.ports import LOOPBACK, free_port
from sessionsweep_workers.devstack.stack import LISTENERS, choose_ports
from support.processes import wait_gone

# Takes the folder, gives the lock to a child that outlives it, says the child's pid and is killed.
HOLDER = """
import os, subprocess, sys, signal
from pathlib import Path
from sessionsweep_workers.devstack.folder import DataFolder
folder = DataFolder(Path(sys.argv[1]))
child = subprocess.Popen(['sleep', sys.argv[2]], pass_fds=[folder.lock_fd], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_in_use_is_refused_and_names_its_holder(tmp_path: Path) -> None:
    with DataFolder(tmp_path), pytest.raises(ConfigurationError, match=rf"{tmp_path}.*pid {os.getpid()}\b"):
        DataFolder(tmp_path)
    DataFolder(tmp_path).close()


def test_it_waits_for_the_last_processes_of_a_killed_stack(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HOLDER, str(tmp_path), "0.5"], stdout=subprocess.PIPE, check=False)
    DataFolder(tmp_path).close()


def test_it_is_refused_while_a_process_of_a_killed_stack_lives_on(tmp_path: Path) -> None:
    holder = subprocess.run([sys.executable, "-c", HOLDER, str(tmp_path), "60"], stdout=subprocess.PIPE, check=False)
    child = int(holder.stdout)
    try:
        with pytest.raises(ConfigurationError, match="in use"):
            DataFolder(tmp_path)
    finally:
        os.kill(child, 9)
    wait_gone(child)
    DataFolder(tmp_path).close()


def test_a_temporary_one_is_removed_and_a_given_one_is_kept(tmp_path: Path) -> None:
    with DataFolder(None) as folder:
        path = folder.path
        folder.write_status({"a": 1})
    assert not path.exists()
    with DataFolder(tmp_path / "new" / "folder") as folder:
        folder.write_status({"a": 1})
        assert json.loads(folder.status.read_text()) == {"a": 1}
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["up.lock"]


def test_a_killed_stacks_status_is_taken_away_at_once(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text("{}")
    with DataFolder(tmp_path) as folder:
        assert not folder.status.exists()


def test_key_and_state_are_private_and_stay(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        key = folder.secret_key().read_text()
        folder.save_state({"ports": {"redis": 1}})
    with DataFolder(tmp_path) as folder:
        assert folder.secret_key().read_text() == key
        assert folder.load_state() == {"ports": {"redis": 1}}
        (tmp_path / "state.json").write_text("{cut")
        assert folder.load_state() == {}
    assert len(key.strip()) >= 43  # 256 bits in base 64
    for name in ("secret-key", "state.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_path_that_is_no_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigurationError, match=str(file)):
        DataFolder(file)


def test_ports_stay_unless_taken_and_fixed_ones_must_be_free() -> None:
    first = choose_ports(None, {})
    assert sorted(first) == sorted(LISTENERS)
    assert len(set(first.values())) == len(LISTENERS)
    with socket.create_server((LOOPBACK, first["web-b"])):
        second = choose_ports(None, first)
        assert {n for n in LISTENERS if second[n] != first[n]} == {"web-b"}
        with pytest.raises(ConfigurationError, match=rf"port {first['web-b']} for web-b is in use"):
            choose_ports(first["web-b"] - 1, {})
    with pytest.raises(ConfigurationError, match="65535"):
        choose_ports(65535, {})


def test_a_port_base_gives_consecutive_ports() -> None:
    for _ in range(20):  # the three after a free one may be taken
        base = free_port()
        try:
            ports = choose_ports(base, {})
        except ConfigurationError:
            continue
        assert [ports[name] - base for name in LISTENERS] == list(range(len(LISTENERS)))
        return
    pytest.fail("no four free ports in a row")
