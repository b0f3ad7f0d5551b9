"""What happens to the store between two words before a destruction is seen by the last one: nothing goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from sessionsweep.engine import orphans
from sessionsweep.model.holds import ALL, volume_scope
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.volumes.mounting import put_hold
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node


def due_for(node: Node, action: str) -> Path:
    """A file that the next pass of that name would destroy."""
    session, _, path = node.session_with_file()
    if action == "reclaim":
        session.end()
    else:
        forget(node, session.id)
        node.orphans.run_once()
        node.advance(2)
    return path


def forget(node: Node, session_id: str) -> None:
    """The store knows nothing of a session any more."""
    node.store._send(["DEL", node.store.keys.session(session_id), node.store.keys.resources(session_id)], "", False)


def test_an_orphan_stays_if_its_owner_was_asked_of_another_run_of_the_server(
    own_server: Callable[..., EmbeddedServer],
    make_node: Callable[..., Node],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = own_server(data_dir=tmp_path / "redis")
    node = make_node(url=server.url)
    path = due_for(node, "orphans")
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
    path = due_for(node, action)
    really = node.trust.still

    def still(permit: Any) -> bool:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        return really(permit)

    monkeypatch.setattr(node.trust, "still", still)
    getattr(node, action).run_once()
    assert path.exists()


@pytest.mark.parametrize("scope", ["all", "volume"])
@pytest.mark.parametrize("action", ["reclaim", "orphans"])
def test_a_hold_that_another_worker_makes_meanwhile_is_seen_right_before_a_file_goes(
    node: Node, monkeypatch: pytest.MonkeyPatch, action: str, scope: str
) -> None:
    path = due_for(node, action)
    (volume,) = node.core.mounts.here()
    scope = ALL if scope == "all" else volume_scope(volume.id)
    really = node.trust.still

    def still(permit: Any) -> bool:
        run(put_hold(scope, "rolled-back", "an old snapshot was loaded"), node.store)
        return really(permit)

    with monkeypatch.context() as patch:
        patch.setattr(node.trust, "still", still)
        getattr(node, action).run_once()
    assert path.exists()
    node.store.execute(op.TableDrop("holds", scope))
    node.advance(100)
    for _ in range(2):
        getattr(node, action).run_once()
        node.advance(2)
    assert not path.exists()


def test_owners_who_come_back_while_orphans_go_keep_what_is_left(
    make_node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(idle_timeout=1000)
    monkeypatch.setattr(orphans, "SLICE", 1)
    lost = {}
    for _ in range(3):
        session, _, path = node.session_with_file()
        keys = [node.store.keys.session(session.id), node.store.keys.resources(session.id)]
        lost[path] = [(key, node.store._send(["DUMP", key], "", False)) for key in keys]
        node.store._send(["DEL", *keys], "", False)
    node.orphans.run_once()
    node.advance(2)
    really = node.trust.still
    looks: list[bool] = []

    def still(permit: Any) -> bool:
        if looks:  # an operator loads a newer copy after the first slice
            for key, raw in itertools.chain.from_iterable(lost.values()):
                node.store._send(["RESTORE", key, 0, raw, "REPLACE"], "", False)
        looks.append(True)
        return really(permit)

    monkeypatch.setattr(node.trust, "still", still)
    assert node.orphans.run_once().destroyed <= 2, "the owners are asked before each slice"
    assert sum(path.exists() for path in lost) >= 1
