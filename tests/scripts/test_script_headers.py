"""Each script's header is held against its body: a header that has drifted misleads whoever mends the script next."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from sessionsweep.store import operations as op
from sessionsweep.store.redis import scripts
from sessionsweep.store.redis.wire import WIRE

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


@pytest.mark.parametrize("name", scripts.names())
def test_a_script_that_says_it_writes_nothing_writes_nothing(name: str) -> None:
    body, header = body_and_header(name)
    writes = re.findall(
        r"call\('(SET|HSET|HSETNX|DEL|UNLINK|ZADD|ZREM|RPUSH|LREM|LTRIM|PEXPIRE|SETRANGE|XADD|HINCRBY)'", body
    )
    included = "".join(re.findall(r"--@include (\w+)", body))
    if "Writes nothing" in header["purpose"]:
        assert not writes
        assert "ending" not in included


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
