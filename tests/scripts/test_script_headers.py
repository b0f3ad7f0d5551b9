"""Each script's header is held against its body: a header that has drifted misleads whoever mends the script next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
import redis

from sessionsweep import StoreUnavailableError
from sessionsweep.model.ids import partition_of
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.redis import scripts
from sessionsweep.store.redis.wire import WIRE
from support.nodes import Node

ROOT = files("sessionsweep.store") / "lua"
HEADER = re.compile(
    r"\A--\[\[ (?P<purpose>[^\n]+)\nKEYS\n(?P<keys>.*?)(?:ARGV\n(?P<argv>.*?))?RETURNS (?P<returns>.+?)\n\]\]\n", re.S
)
ROW = re.compile(r"^  (\d+|\*) (\w+) +\S", re.M)


def body_and_header(name: str) -> tuple[str, re.Match[str]]:
    """A script's text below its header, and the header."""
    text = (ROOT / f"{name}.lua").read_text()
    header = HEADER.match(text)
    assert header, f"{name}.lua does not begin with purpose, KEYS, ARGV and RETURNS"
    return text[header.end() :], header


def bound(body: str, table: str) -> dict[int, str]:
    """Position → the local that a script binds it to, from its `local a, b = KEYS[1], KEYS[2]` lines."""
    names: dict[int, str] = {}
    for line in re.findall(r"^local [^\n]*=[^\n]*" + table + r"\[\d+\][^\n]*", body, re.M):
        left, right = line.removeprefix("local ").split("=", 1)
        locals_ = [name.strip() for name in left.split(",")]
        values = re.findall(table + r"\[(\d+)\]", right)
        assert len(locals_) == len(values), f"bind each of {table} to one local: {line}"
        names.update({int(n): name for n, name in zip(values, locals_, strict=True)})
    return names


@pytest.mark.parametrize("name", scripts.names())
def test_the_header_says_what_the_body_binds(name: str) -> None:
    body, header = body_and_header(name)
    for table, told in (("KEYS", header["keys"]), ("ARGV", header["argv"] or "")):
        rows = ROW.findall(told)
        if any(position == "*" for position, _ in rows):
            assert f"#{table}" in body
            continue
        described = {int(position): word for position, word in rows}
        assert described == bound(body, table), f"{name}.lua: {table}"
        used = {int(n) for n in re.findall(table + r"\[(\d+)\]", body)}
        assert used == set(described), f"{name}.lua uses {table} that its header doesn't name"


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """The server, asked past the library."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.mark.parametrize("name", scripts.names())
def test_a_script_says_that_it_writes_nothing_if_it_does(server: redis.Redis, name: str) -> None:
    called = set(re.findall(r"call\('(\w+)'", scripts.load(name).text))
    flags = {command: about["flags"] for command, about in server.command().items()}
    writes = {command for command in called if {"write", "pubsub"} & set(flags[command.lower()])}
    _, header = body_and_header(name)
    assert bool(writes) == ("Writes nothing" not in header["purpose"]), sorted(writes)


def test_scripts_that_write_nothing_run_where_nothing_may_be_written(
    server: redis.Redis, make_node: Callable[..., Node]
) -> None:
    if "evalsha_ro" not in server.command():
        return  # older than 7.0: there the flags of the commands, above, must do
    node = make_node()
    live, rid, _ = node.session_with_file(user="ana")
    dead, lost, _ = node.session_with_file()
    dead.end()
    location, partition = volume_location(node.core.mounts.here()[0].id), partition_of(live.id)
    node.store.execute(op.Settle(dead.id, location, (op.Attempt(lost, Outcome.FAILED, 1, "EIO"),), tries=1))
    reads: list[op.Operation[Any]] = [
        op.BookPage("ana"), op.DeadLetters(partition), op.Facts(), op.ListWheel(partition), op.LiveResources(live.id),
        op.Owned(live.id, (rid, lost)), op.PeekSession(live.id), op.PeekSession(dead.id), op.Queues(partition),
        op.ScanSessions(partition), op.Events(partition),
        op.Receipts(partition),
    ]  # fmt: skip
    quiet = {name for name in scripts.names() if "Writes nothing" in body_and_header(name)[1]["purpose"]}
    assert {WIRE[type(read)].script for read in reads} >= quiet, "add the new one here"
    for operation in [*reads, op.SaveData(live.id, {"a": b"1"})]:
        wire = WIRE[type(operation)]
        node.store.execute(operation)  # it loads the script
        words = wire.words(operation, node.store.keys, node.store._sha)
        assert words[0] == "EVALSHA"
        if wire.script in quiet:
            assert node.store._send(["EVALSHA_RO", *words[1:]], "", True)
        else:
            with pytest.raises(StoreUnavailableError, match="read-only"):
                node.store._send(["EVALSHA_RO", *words[1:]], "", True)


def test_every_script_is_sent_and_every_sent_script_exists() -> None:
    sent = {wire.script for wire in WIRE.values() if wire.script}
    assert sent == set(scripts.names())


def test_every_operation_has_its_row_in_the_wire_table() -> None:
    operations = {
        value for value in vars(op).values() if isinstance(value, type) and issubclass(value, op.Operation)
    } - {op.Operation}
    assert operations == set(WIRE)


@pytest.mark.parametrize("name", scripts.names())
def test_scripts_use_only_what_every_server_from_6_2_on_has(name: str) -> None:
    text = scripts.load(name).text
    assert not text.startswith("#!")
    for newer in ("server.call", "EXPIRETIME", "HEXPIRE", "LMPOP", "ZMPOP", "FUNCTION", "IFEQ"):
        assert newer not in text
