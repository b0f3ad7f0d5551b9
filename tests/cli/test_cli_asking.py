"""Whatever ends, drops, adopts or lifts asks first: without a terminal it is refused, and a no changes nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable

import pytest
import redis
from command_line import Deployment, volume_of

from sessionsweep.model.holds import ALL
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op

MAIN = "from sessionsweep.cli.main import main; main()"
SID, RID = "<sid>", "<rid>"  # filled in
ASKING = (
    ["sessions", "end", SID], ["sessions", "end", "--key", "app:1"], ["users", "end", "ana"], ["users", "end", "--all"],
    ["users", "end", "ana", "--except", SID], ["sweep", "idle", "--idle-for", "1ms"], ["holds", "lift", ALL],
    ["volumes", "adopt", "a"], ["volumes", "forget", "a"], ["dead-letters", "drop", RID],
    ["dead-letters", "drop", "--all"],
)  # fmt: skip


@pytest.fixture
def filled(cli: Deployment) -> Callable[[list[str]], list[str]]:
    """Sees to it that each of these commands has something to do; gives its words with the ids in them."""
    lost, path = cli.with_file()
    lost.end()
    failed = op.Attempt(path.name, Outcome.FAILED, error="EACCES")
    cli.store.execute(op.Settle(lost.id, volume_location(volume_of(cli).id), (failed,), tries=1))
    session, _ = cli.with_file(user="ana")
    cli.sessions.track("app:1", user="ana")
    cli.hold(ALL, "rolled-back")
    return lambda words: [{SID: session.id, RID: path.name}.get(word, word) for word in words]


def everything(cli: Deployment) -> dict[bytes, bytes]:
    """All that the store holds."""
    with redis.Redis.from_url(cli.settings.redis_url) as server:
        return {key: server.dump(key) for key in server.scan_iter(f"{cli.settings.namespace}:*")}


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_without_a_terminal_it_is_refused_and_with_yes_it_is_done(
    cli: Deployment, filled: Callable[[list[str]], list[str]], words: list[str]
) -> None:
    words, before = filled(words), everything(cli)
    assert "say --yes" in " ".join(cli(*words, status=2).err.split())
    assert everything(cli) == before
    gone = {"SESSIONSWEEP_VOLUMES": ""} if "forget" in words else {}
    cli(*words, "--yes", **gone)
    assert everything(cli) != before


@pytest.mark.parametrize(
    ("answer", "status", "alive"), [("n\n", 1, True), ("\n", 1, True), ("\x03", 1, True), ("y\n", 0, False)]
)
def test_at_a_terminal_only_a_yes_does_it(cli: Deployment, answer: str, status: int, alive: bool) -> None:
    session, _ = cli.with_file()
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONSWEEP_")}
    program = subprocess.Popen(
        [sys.executable, "-c", MAIN, "sessions", "end", session.id],
        env={**environ, **cli.environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is one
    )
    os.close(theirs)
    try:
        asked = ""
        while "[y/N]" not in asked:
            asked += os.read(ours, 1024).decode()
        assert f"End session {session.id}?" in asked
        os.write(ours, answer.encode())
        if answer == "\x03":  # a signal just before the interpreter begins to read is heard with the next key
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(5)
            if program.poll() is None:
                os.write(ours, answer.encode())
        assert program.wait(60) == status
    finally:
        program.kill()
        program.wait(30)
        os.close(ours)
    assert cli.alive(session) is alive


def test_a_key_can_come_by_standard_input(cli: Deployment) -> None:
    """What stands among a program's arguments, every user of the machine reads."""
    session = cli.sessions.track("secret-key-of-the-app")
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "sessions", "end", "--key", "-", "--yes"],
        env={**os.environ, **cli.environ},
        input="secret-key-of-the-app\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "Ended.\n"), done.stderr
    assert not cli.alive(session)
