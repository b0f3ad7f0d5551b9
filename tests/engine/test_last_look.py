"""What happens to the store between two words before a destruction is seen by the last one: nothing goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node


def test_an_orphan_stays_if_its_owner_was_asked_of_another_run_of_the_server(
    own_server: Callable[..., EmbeddedServer],
    make_node: Callable[..., Node],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    node = make_node(url=server.url)
    session, _, path = node.session_with_file()
    for key in ("session", "resources"):
        node.store._send(["DEL", getattr(node.store.keys, key)(session.id)], "", False)
    node.orphans.run_once()
    node.advance(2)
    really, asked = node.store.execute_many, []

    def execute_many(operations: list[op.Operation[Any]]) -> list[Any]:
        if operations and isinstance(operations[0], op.Owned):
            asked.append(operations)
            if len(asked) == 2:  # the last look: right before, the server is replaced
                server.kill()
                server.restart()
        return really(operations)

    monkeypatch.setattr(node.store, "execute_many", execute_many)
    assert node.orphans.run_once().destroyed == 0
    assert len(asked) == 2
    assert path.exists(), "another server may be rolled back: its word on owners proves nothing in this walk"


@pytest.mark.parametrize("action", ["reclaim", "orphans"])
def test_an_emptied_store_is_seen_right_before_a_file_goes(
    own_server: Callable[..., EmbeddedServer],
    make_node: Callable[..., Node],
    monkeypatch: pytest.MonkeyPatch,
    action: str,
) -> None:
    """FLUSHALL leaves the server's run as it was."""
    server = own_server()
    node = make_node(url=server.url)
    session, _, path = node.session_with_file()
    if action == "reclaim":
        session.end()
    else:
        for key in ("session", "resources"):
            node.store._send(["DEL", getattr(node.store.keys, key)(session.id)], "", False)
        node.orphans.run_once()
        node.advance(2)
    really = node.trust.still

    def still(permit: Any) -> bool:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        return really(permit)

    monkeypatch.setattr(node.trust, "still", still)
    getattr(node, action).run_once()
    assert path.exists()
