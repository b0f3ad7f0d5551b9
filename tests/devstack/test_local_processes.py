"""The tests' own tool for processes: it waits, kills whole groups, restarts and leaves nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.processes import LocalProcess, descendants, process_runs, wait_gone, wait_until

ECHO = ["python", "-u", "-c", "import os, time; print('ready', os.getpid()); time.sleep(60)"]


def test_it_is_ready_by_its_log_and_restarts_with_a_new_pid(tmp_path: Path) -> None:
    with LocalProcess("echo", ECHO, tmp_path, ready_when="ready") as process:
        first = process.pid
        assert process.wait_for_log(re.compile(r"ready (\d+)"))[1] == str(first)
        assert process.status == "running"
        process.kill()
        assert process.status == "exited"
        assert process.returncode == -9
        process.restart()
        assert process.pid != first
        assert process.logs().count("ready") == 2
        assert process.logs(since_start=True) == f"ready {process.pid}\n"
        second = process.pid
    wait_gone(first, second)


def test_what_never_gets_ready_is_stopped_and_its_log_shown(tmp_path: Path) -> None:
    process = LocalProcess("slow", ECHO, tmp_path, ready_when="never", ready_timeout=0.5)
    with pytest.raises(TimeoutError, match=r"slow wasn't ready"):
        process.start()
    assert not process.running
    died = LocalProcess("died", ["python", "-c", "raise SystemExit('no luck')"], tmp_path, ready_when="ready")
    with pytest.raises(RuntimeError, match=r"ended with 1[^$]*no luck"):
        died.start()


def test_its_grandchildren_go_with_it(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60']).wait()"
    with LocalProcess("parent", ["python", "-c", code], tmp_path) as process:
        wait_until(lambda: len(descendants(process.pid)) == 1, what="the grandchild")
        family = descendants(process.pid) | {process.pid}
        process.kill()
        wait_gone(*family)


def test_wait_gone_names_who_still_runs(tmp_path: Path) -> None:
    with LocalProcess("echo", ECHO, tmp_path) as process:
        assert process_runs(process.pid)
        with pytest.raises(TimeoutError, match=str(process.pid)):
            wait_gone(process.pid, timeout=0.1)
