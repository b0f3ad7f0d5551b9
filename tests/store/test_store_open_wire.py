"""The command that opens a session is put together from packed parts: byte for byte what the table says."""

from __future__ import annotations

import hiredis
import pytest

from sessionsweep.store import operations as op
from sessionsweep.store.keys import Keys
from sessionsweep.store.redis.row import Wire
from sessionsweep.store.redis.wire import WIRE

SID = "07" + "abcdefghjkmnpqrstv"
SHA = "a" * 40


@pytest.mark.parametrize(
    "operation",
    [
        op.OpenSession(SID, (b"m" * 16,)),
        op.OpenSession(SID, (b"\r\n" * 8, b"\0" * 16, b"\xff" * 16), touch=False),
        op.OpenSession(SID, (b"m" * 16,), family=4, fingerprint=b"\r\n$", enforce=True, grace=30_000, hold=900_000),
        op.OpenSession(SID, ()),
        op.OpenSession("07short", (b"m" * 16,)),
        op.OpenSession("07é" + "x" * 17, (b"m" * 16,)),
    ],
)
@pytest.mark.parametrize("namespace", ["ss", "another-deployment_1"])
def test_a_packed_open_is_the_table_s_own_command(operation: op.OpenSession, namespace: str) -> None:
    wire, keys = WIRE[op.OpenSession], Keys(namespace)
    expected = hiredis.pack_command(tuple(wire.words(operation, keys, lambda _: SHA)))
    assert wire.pack(operation, keys, lambda _: SHA) == expected
    assert type(wire) is not Wire, "the hot path takes the ready-made parts"
