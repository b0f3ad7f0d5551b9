"""The supervisor over small real programs: stages, restarts, order of stopping, and nobody left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionsweep_workers.devstack.ports import free_port
from sessionsweep_workers.devstack.process import LONGEST_DELAY, restart_delay
from sessionsweep_workers.devstack.supervisor import Supervisor
from support.processes import LocalProcess, descendants, wait_gone, wait_until

PROGRAM = Path(__file__).with_name("supervised.py")
Spec = dict[str, Any]

SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(600)"
# Ends a moment after TERM, and says when: the order of stopping is read from the log.
POLITE = """
import signal, sys, time
def end(*_):
    print('ending', flush=True); time.sleep(0.3); print('ended', flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('up', flush=True)
while True: time.sleep(1)
"""
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPER}"
# A parent with a child that ignores TERM, like a pool: gunicorn, prefork.
POOL = f"import subprocess, sys\nc = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])\nc.wait()"


def program(name: str, code: str, **more: object) -> Spec:
    return {"name": name, "argv": ["python", "-c", code], "log": "^up", **more}


class Supervised(LocalProcess):
    """A supervisor in a process of its own."""

    def __init__(self, specs: list[Spec], folder: Path) -> None:
        self.state = folder / "state.json"
        super().__init__(
            "supervisor",
            ["python", str(PROGRAM), json.dumps(specs), str(self.state)],
            folder,
            ready_when=self.state.exists,
        )

    @property
    def pids(self) -> dict[str, int]:
        return dict(json.loads(self.state.read_text()))

    def wait_new_pid(self, name: str, old: int) -> int:
        wait_until(lambda: self.pids[name] != old, what=f"{name} restarted; {self.tail()}")
        return self.pids[name]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[[list[Spec]], Supervised]]:
    started: list[Supervised] = []

    def start(specs: list[Spec]) -> Supervised:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Supervised(specs, folder))
        return started[-1].start()

    yield start
    for supervisor in started:
        supervisor.stop(timeout=15)


Supervise = Callable[[list[Spec]], Supervised]


def test_stages_start_in_order_and_stop_in_reverse(supervise: Supervise) -> None:
    supervisor = supervise(
        [program("store", POLITE), program("worker", POLITE, stage=1), program("web", POLITE, stage=2)]
    )
    family = descendants(supervisor.pid)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(10) == 0
    wait_gone(*family)
    said = re.findall(r"^(\w+) +\| (up|ending|ended)$", supervisor.logs(), re.MULTILINE)
    assert said == [
        *[(name, "up") for name in ("store", "worker", "web")],
        *[(name, word) for name in ("web", "worker", "store") for word in ("ending", "ended")],
    ]


def test_a_later_stage_waits_for_the_earlier_to_be_ready(supervise: Supervise) -> None:
    slow = "import time\ntime.sleep(0.7)\nprint('up', flush=True)\ntime.sleep(600)"
    early = "import time\nprint('early', flush=True)\ntime.sleep(600)"
    supervisor = supervise([program("slow", slow), {**program("late", early, stage=1), "log": "early"}])
    log = supervisor.logs()
    assert log.index("slow | up") < log.index("late | early")


#: Says that it goes on; told to hang it lives on, and says nothing more.
WATCHED = """
import signal, threading, time
from sessionsweep_workers import notify
notify.PAUSE = 0
hangs = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: hangs.set())
print('up', flush=True)
while True:
    if not hangs.is_set(): notify.Notifier().goes_on()
    time.sleep(0.1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there are no abstract names elsewhere")
def test_what_lives_and_is_silent_is_killed_and_comes_back(supervise: Supervise) -> None:
    supervisor = supervise(
        [program("worker", WATCHED, silence=2), program("other", WATCHED, silence=60), program("mute", SLEEPER)]
    )
    before = supervisor.pids
    for name in ("worker", "other"):
        os.kill(before[name], signal.SIGUSR1)
    supervisor.wait_new_pid("worker", before["worker"])
    supervisor.wait_for_log("worker hangs: silent for 2 s, killed")
    assert [supervisor.pids[name] for name in ("other", "mute")] == [before[name] for name in ("other", "mute")]


def test_a_killed_child_comes_back_and_the_others_stay(supervise: Supervise) -> None:
    port = free_port()
    server = {"name": "http", "argv": ["python", "-m", "http.server", "--bind", "127.0.0.1", str(port)]}
    supervisor = supervise([program("other", SLEEPER), {**server, "http": port}])
    before = supervisor.pids
    os.kill(before["http"], signal.SIGKILL)
    new = supervisor.wait_new_pid("http", before["http"])
    assert Path(f"/proc/{new}/cmdline").read_bytes().split(b"\0")[-2] == str(port).encode()
    assert supervisor.pids["other"] == before["other"]
    assert "http ended (SIGKILL); again in 0.5 s" in supervisor.logs().replace("http  ", "http ")


def test_restarts_back_off_and_a_restart_takes_the_old_group_along(supervise: Supervise) -> None:
    supervisor = supervise([program("pool", POOL)])
    first = supervisor.pids["pool"]
    (grandchild,) = descendants(first)
    os.kill(first, signal.SIGKILL)
    wait_gone(grandchild)
    second = supervisor.wait_new_pid("pool", first)
    os.kill(second, signal.SIGKILL)
    supervisor.wait_new_pid("pool", second)
    assert re.findall(r"again in ([\d.]+) s", supervisor.logs()) == ["0.5", "1.0"]
    assert [restart_delay(n) for n in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert restart_delay(1000) == LONGEST_DELAY


def test_killed_with_9_it_leaves_nobody(supervise: Supervise) -> None:
    """Children by the kernel's signal, grandchildren (which it doesn't reach) by the undertaker."""
    supervisor = supervise([program("plain", STUBBORN), program("pool", POOL)])
    family = descendants(supervisor.pid)
    assert len(family) == 4  # plain, pool, the pool's child, the undertaker
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_gone(*family)


def test_children_die_with_it_even_without_the_undertaker(supervise: Supervise) -> None:
    supervisor = supervise([program("plain", STUBBORN)])
    (plain,) = supervisor.pids.values()
    (undertaker,) = descendants(supervisor.pid) - {plain}
    for pid in (undertaker, supervisor.pid):  # faster than it can be replaced
        os.kill(pid, signal.SIGSTOP)
    for pid in (undertaker, supervisor.pid):
        os.kill(pid, signal.SIGKILL)
    wait_gone(plain)


def test_a_killed_undertaker_is_replaced_and_knows_everybody(supervise: Supervise) -> None:
    supervisor = supervise([program("pool", POOL)])
    pool = supervisor.pids["pool"]
    (grandchild,) = descendants(pool)
    (undertaker,) = descendants(supervisor.pid) - {pool, grandchild}
    os.kill(undertaker, signal.SIGKILL)
    wait_until(lambda: len(descendants(supervisor.pid) - {undertaker}) == 3, what="a new undertaker")
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_gone(pool, grandchild)


def test_who_ignores_term_is_killed_within_ten_seconds(supervise: Supervise) -> None:
    specs = [program(f"stubborn{i}", STUBBORN, stage=i) for i in range(3)]
    supervisor = supervise([*specs, program("pool", POOL, stage=2)])
    family = descendants(supervisor.pid)
    begin = time.monotonic()
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(15) == 0
    assert time.monotonic() - begin < 10
    wait_gone(*family)


def test_a_second_ctrl_c_hastens(supervise: Supervise) -> None:
    supervisor = supervise([program("a", STUBBORN), program("b", STUBBORN, stage=1)])
    family = descendants(supervisor.pid)
    supervisor.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        supervisor.wait(0.5)
    begin = time.monotonic()
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(10) == 0
    assert time.monotonic() - begin < 2
    wait_gone(*family)


def test_what_never_comes_up_ends_it_with_its_last_words(tmp_path: Path) -> None:
    broken = program("broken", "raise SystemExit('no such setting')", stage=1)
    with pytest.raises(RuntimeError) as failure:
        Supervised([program("fine", SLEEPER), broken], tmp_path).start()
    assert "ended with 1" in str(failure.value)
    assert "broken could not be started; its last words" in str(failure.value)
    assert str(failure.value).count("broken | no such setting") == 3


def test_a_process_that_runs_but_gets_never_ready_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"dumb was not ready within 0\.2 s"):
        Supervised([program("dumb", "import time; time.sleep(600)", timeout=0.2)], tmp_path).start()


def test_secrets_on_standard_input_stay_out_of_argv_and_log(supervise: Supervise) -> None:
    code = "import sys, time\nassert sys.stdin.read() == 'hush'\nprint('up', flush=True)\ntime.sleep(600)"
    spec = ["python", "-c", code]
    supervisor = supervise([{"name": "secretive", "argv": spec, "stdin": "hush", "log": "^up"}])
    cmdline = Path(f"/proc/{supervisor.pids['secretive']}/cmdline").read_bytes()
    assert cmdline.split(b"\0")[1:-1] == [b"-c", code.encode()]
    assert "hush" not in supervisor.logs()


def test_two_at_once_do_not_disturb_each_other(supervise: Supervise) -> None:
    one, two = supervise([program("a", SLEEPER)]), supervise([program("a", SLEEPER)])
    os.kill(one.pid, signal.SIGKILL)
    wait_gone(one.pids["a"])
    wait_until(lambda: two.running)
    assert descendants(two.pid) >= {two.pids["a"]}


def test_it_stops_when_nobody_reads_its_output(tmp_path: Path) -> None:
    chatty = "import time\nwhile True: print('up', flush=True); time.sleep(0.05)"
    specs = json.dumps([program("chatty", chatty)])
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), specs, str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"chatty | up\n"
        family = descendants(supervisor.pid)
        supervisor.stdout.close()
        try:
            supervisor.wait(10)
        finally:
            supervisor.kill()
    wait_gone(*family)


def test_on_a_terminal_names_are_coloured_and_control_characters_shown(tmp_path: Path) -> None:
    evil = "import time\nprint('\\x1b[2Jup\\u009b'); print('up', flush=True); time.sleep(600)"
    master, slave = pty.openpty()
    specs = json.dumps([program("evil", evil), program("longer-name", SLEEPER)])
    with subprocess.Popen([sys.executable, str(PROGRAM), specs, str(tmp_path / "state")], stdout=slave) as child:
        os.close(slave)
        seen = b""
        try:
            while seen.count(b"\n") < 3:
                seen += os.read(master, 4096)
        finally:
            child.terminate()
            child.wait(10)
            os.close(master)
    lines = seen.decode().replace("\r\n", "\n").splitlines()
    assert "\x1b[36mevil        |\x1b[0m \\x1b[2Jup\\x9b" in lines
    assert "\x1b[33mlonger-name |\x1b[0m up" in lines


def test_it_refuses_to_run_outside_the_main_thread() -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            Supervisor([]).run()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])
