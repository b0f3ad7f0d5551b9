"""What the orphan pass registers again, of sessions that forgot it: what nobody writes any more, at its true size."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from sessionsweep.sessions.sync import Session, SessionFile
from sessionsweep.store import operations as op
from support.nodes import Node


def begun_and_forgotten(node: Node, redis_url: str) -> tuple[Session, SessionFile]:
    """A session, and a file that is being written, of which a fail-over forgot that it was registered."""
    session, _ = node.sessions.create()
    keys = node.store.keys
    with redis.Redis.from_url(redis_url) as client:
        before = client.get(keys.session(session.id))
        assert before is not None
        pending = session.new_file()
        pending.__enter__()
        client.set(keys.session(session.id), before)
        client.delete(keys.resources(session.id))
    return session, pending


def write_and_die(pending: SessionFile) -> None:
    """Its process is killed: the lock goes with it, the bytes stay."""
    pending.write(b"x" * 1000)
    pending.file.flush()
    pending.file.let_go()


def test_a_file_that_is_still_being_written_waits_for_its_writer(node: Node, redis_url: str) -> None:
    """Taken up now, what is yet to be written would be counted by nobody, and pass every limit."""
    session, pending = begun_and_forgotten(node, redis_url)
    assert node.orphans.run_once().readopted == 0
    assert session.resources() == []
    write_and_die(pending)
    assert node.orphans.run_once().readopted == 1
    assert [(one.id, one.size) for one in session.resources()] == [(pending.id, 1000)]
    assert node.sessions.attach(session.id).bytes_used == 1000


def test_a_file_counts_with_what_was_written_since_the_walk_saw_it(
    node: Node, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer came to its end between the walk and the look-up of its owner."""
    session, pending = begun_and_forgotten(node, redis_url)
    really = node.store.execute_many

    def execute_many(operations: list[op.Operation[Any]]) -> list[Any]:
        if operations and isinstance(operations[0], op.Owned):
            write_and_die(pending)
        return really(operations)

    monkeypatch.setattr(node.store, "execute_many", execute_many)
    assert node.orphans.run_once().readopted == 1
    assert node.sessions.attach(session.id).bytes_used == 1000
