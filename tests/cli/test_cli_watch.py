"""`--watch`: looks again until Ctrl-C, in place on a terminal, a line of JSON a look, through a server's restart."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from command_line import Deployment, beat

from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import wait_until

LISTS = (["stats"], ["owed", "list"], ["nodes", "list"], ["volumes", "list"], ["holds", "list"], ["sessions", "list"],
         ["dead-letters", "list"])  # fmt: skip


@contextmanager
def running(cli: Deployment, *words: str, terminal: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The program, and where its output can be read; ended, if it hasn't, with the block."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONSWEEP_")}
    program = subprocess.Popen(
        [sys.executable, "-c", "from sessionsweep.cli.main import main; main()", *words],
        env={**environ, **cli.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        stdin=theirs if terminal else subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield program, ours
    finally:
        program.kill()
        program.wait(30)
        os.close(ours)


def read_until(source: int, wanted: str) -> str:
    """What the program prints up to this text."""
    text = ""
    while wanted not in text:
        chunk = os.read(source, 4096)
        assert chunk, text
        text += chunk.decode()
    return text


def end(program: subprocess.Popen[bytes]) -> int:
    """Ctrl-C, and the exit status."""
    program.send_signal(signal.SIGINT)
    return program.wait(60)


def test_json_is_one_line_a_look(cli: Deployment) -> None:
    with running(cli, "sessions", "list", "--watch", "50ms", "--json") as (program, output):
        lines = os.fdopen(os.dup(output))
        with lines:
            assert json.loads(lines.readline())["sessions"] == []
            session, _ = cli.sessions.create(user="ana")
            wait_until(lambda: [s["session_id"] for s in json.loads(lines.readline())["sessions"]] == [session.id])
            assert end(program) == 0


def test_a_terminal_is_drawn_in_place(cli: Deployment) -> None:
    cli.sessions.create(user="ana")
    with running(cli, "stats", "--watch", "50ms", terminal=True) as (program, output):
        first = read_until(output, "1 active")
        assert "every 50ms; Ctrl-C ends it" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", first)
        cli.sessions.create()
        assert "\x1b[1A" in read_until(output, "2 active"), "it goes back up and draws over what stood there"
        assert end(program) == 0


def test_into_a_pipe_each_look_stands_below_its_time(cli: Deployment) -> None:
    with running(cli, "nodes", "list", "--watch", "50ms") as (program, output):
        read_until(output, "No worker was ever seen.")
        beat(cli, "node-a", "0123456789abcdef")
        text = read_until(output, "alive") + read_until(output, "\n-- ")
        assert "\x1b" not in text
        assert re.search(r"^-- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", text, re.MULTILINE)
        assert end(program) == 0


@pytest.mark.parametrize("terminal", [True, False])
def test_a_server_that_restarts_is_told_and_waited_for(
    make_cli: Callable[..., Deployment], own_server: Callable[..., EmbeddedServer], terminal: bool
) -> None:
    server = own_server()
    cli = make_cli(server.url)
    with running(cli, "stats", "--watch", "50ms", terminal=terminal) as (program, output):
        read_until(output, "0 active")
        server.kill()
        read_until(output, "can't be reached")
        server.start()
        read_until(output, "0 active")
        assert end(program) == 0


def test_a_first_look_that_fails_is_a_failure(cli: Deployment) -> None:
    done = cli.program("stats", "--json", "--watch", SESSIONSWEEP_REDIS_URL="redis://:pass-word@127.0.0.1:1/0")
    assert (done.status, done.out) == (1, "")
    assert "can't be reached" in done.err


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_every_list_can_be_watched_with_or_without_seconds(
    cli: Deployment, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessionsweep.cli import watching

    asked: list[float] = []

    class Impatient:
        def wait(self, seconds: float) -> None:
            asked.append(seconds)
            raise KeyboardInterrupt

    monkeypatch.setattr(watching.threading, "Event", Impatient)
    assert len(cli(*words, "--watch", "--json").out.splitlines()) == 1
    assert cli(*words, "--json", "--watch").out
    assert cli(*words, "--watch", "1m").out.startswith("-- ")
    assert asked == [2, 2, 60]
    for wrong in ("0", "soon"):
        assert cli(*words, "--watch", wrong, status=2).err


@pytest.mark.parametrize("words", [["sweep", "idle"], ["sessions", "end", "x"], ["holds", "lift", "all"]], ids=" ".join)
def test_what_changes_something_is_never_repeated(cli: Deployment, words: list[str]) -> None:
    assert "--watch" in cli(*words, "--watch", status=2).err
