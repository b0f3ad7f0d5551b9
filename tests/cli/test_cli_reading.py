"""Reading commands and dry runs: to the server they send nothing that writes, and no name steers a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import redis
from command_line import Deployment, beat, orphan, volume_of

from sessionsweep import Client
from sessionsweep.model.holds import ALL, Hold
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer

SID, OWNED, DEAD = "<sid>", "<sid>/<rid>", "<dead>"  # filled in
DRY = (["sweep", "idle", "--dry-run"], ["sweep", "expired", "--dry-run"], ["sweep", "orphans", "--dry-run"],
       ["sweep", "idle", "--idle-for", "1ms", "--dry-run"])  # fmt: skip
READING = (
    ["stats"], ["doctor"], ["explain", SID], ["explain", OWNED], ["explain", DEAD],
    ["sessions", "list"], ["sessions", "show", SID], ["owed", "list"],
    ["nodes", "list"], ["volumes", "list"], ["holds", "list"], ["dead-letters", "list"], ["config", "show"], *DRY,
)  # fmt: skip
EVIL = "\x1b]0;owned\x07\x9b2J\u202e\u2028\r"  # a title, a cleared screen, text turned around, forged lines
STEERING = set(EVIL) - set("]0;owned2J")


def filled(cli: Deployment, name: str) -> dict[str, str]:
    """All that a command may show, with `name` wherever strangers, or whoever writes to the store, may put one."""
    due, _ = cli.with_file(user="due")
    lost, path = cli.with_file()
    lost.end()
    failed = op.Attempt(path.name, Outcome.FAILED, error=name)
    volume_id = volume_of(cli).id
    cli.store.execute(op.Settle(lost.id, volume_location(volume_id), (failed,), tries=1))
    owing, _ = cli.with_file()
    owing.end()
    orphan(cli)
    session, _ = cli.with_file(user="ana", client=Client("192.0.2.7", name))
    with session.new_file("upload", ".bin") as f:
        f.write(b"x")
    beat(cli, f"node-{name}", volume_id)
    row = {"at": cli.store.execute(op.Facts()).now, "volumes": {volume_id: f"a{name}"}, "queues": [f"q{name}"]}
    cli.store.execute(op.TablePut("n", f"other{name}", json.dumps(row)))
    cli.store.execute(op.TablePut("vols", volume_id, f"a{name}"))
    cli.store.execute(op.TablePut("mounts", f"node-{name}/a{name}", volume_id))
    for scope in (ALL, f"volume:{volume_id}", f"mount:node-{name}/a{name}"):
        cli.store.execute(op.TablePut("holds", scope, Hold(scope, name, name, 1, f"node-{name}").encode()))
    cli.store.execute(op.TablePut("alarms", "beat", Hold("beat", name, name, 5).encode()))
    cli.due(due)
    return {SID: session.id, OWNED: f"{session.id}/{f.id}", DEAD: path.name}


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_names_of_strangers_steer_no_terminal(cli: Deployment, words: list[str]) -> None:
    ids = filled(cli, EVIL)
    words = [ids.get(word, word) for word in words]
    failing = 1 if words == ["doctor"] else 0
    for form in ([], ["--json"]):
        answer = cli(*words, *form, status=failing)
        assert not STEERING & set(answer.out + answer.err), form
        assert answer.out


def test_the_names_are_shown_at_all(cli: Deployment) -> None:
    """Else the test above would hold whatever becomes of them."""
    ids = filled(cli, EVIL)
    shown = {
        " ".join(words): cli(*(ids.get(word, word) for word in words)).out for words in READING if words != ["doctor"]
    }
    hostile = {words for words, out in shown.items() if "\\x1b]0;owned\\x07" in out.replace("\n", "").replace(" ", "")}
    assert hostile >= {"stats", "sessions show <sid>", "nodes list", "holds list", "dead-letters list", "volumes list"}


@pytest.fixture
def watched(
    make_cli: Callable[..., Deployment], own_server: Callable[..., EmbeddedServer]
) -> Iterator[tuple[Deployment, Callable[[list[str]], set[str]]]]:
    """A deployment, and which writing commands its server carried out for one of ours, those in scripts included."""
    cli = make_cli(own_server().url)
    with redis.Redis.from_url(cli.settings.redis_url, decode_responses=True) as server:
        about = server.execute_command("COMMAND")
        rows = about.values() if isinstance(about, dict) else about
        writing = {row["name"].upper() for row in rows if "write" in row["flags"]}
        assert {"SET", "ZADD", "XADD", "PUBLISH"} - writing == {"PUBLISH"}

        def written(words: list[str]) -> set[str]:
            with redis.Redis.from_url(cli.settings.redis_url).monitor() as monitor:
                cli(*words)
                server.echo("the end of it")
                seen = set()
                for told in monitor.listen():
                    name = told["command"].split()[0].upper()
                    if name == "ECHO":
                        return seen & writing
                    seen.add(name)
            raise AssertionError("the monitor went away")

        yield cli, written


def test_dry_runs_and_reading_write_nothing(watched: tuple[Deployment, Callable[[list[str]], set[str]]]) -> None:
    cli, written = watched
    ids = filled(cli, "")
    for words in READING:
        if words != ["doctor"]:  # its status says what it found
            assert written([ids.get(word, word) for word in words]) == set(), words
    assert "UNLINK" in written(["sweep", "idle", "--idle-for", "1ms", "--yes"]), "writes inside scripts are seen"
