"""A server that drops keys by itself: refused at start, alarmed while it runs, and no orphan is destroyed meanwhile."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from sessionsweep.engine.server import ServerWatch, eviction_problem, refuse_eviction
from sessionsweep.errors import ConfigurationError, HeldError
from sessionsweep.model.holds import SERVER
from sessionsweep.operator import holds, preview
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import KEY, Node

KEEPS = ["noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"]
DROPS = ["allkeys-lru", "allkeys-lfu", "allkeys-random"]


@pytest.fixture
def server(own_server: Callable[..., EmbeddedServer]) -> EmbeddedServer:
    """A server whose policy this test may change."""
    return own_server()


@pytest.fixture
def set_policy(server: EmbeddedServer) -> Iterator[Callable[[str], bool]]:
    """Sets the server's maxmemory-policy."""
    with redis.Redis.from_url(server.url) as client:
        yield lambda policy: bool(client.config_set("maxmemory-policy", policy))


@pytest.mark.parametrize("policy", [*KEEPS, *DROPS])
def test_only_a_policy_that_drops_any_key_is_refused(
    server: EmbeddedServer, make_node: Callable[..., Node], set_policy: Callable[[str], bool], policy: str
) -> None:
    set_policy(policy)
    node = make_node(url=server.url)
    assert node.store.execute(op.Facts()).policy == policy
    if policy in DROPS:
        with pytest.raises(ConfigurationError, match=f"REDIS_URL.*{policy}.*noeviction"):
            refuse_eviction(node.store)
    else:
        refuse_eviction(node.store)


def test_a_server_that_does_not_say_is_not_refused() -> None:
    assert eviction_problem(op.ServerFacts("run", 1)) == ""


def test_a_change_while_it_runs_is_seen_by_the_next_heartbeat_and_taken_back_by_itself(
    server: EmbeddedServer,
    make_node: Callable[..., Node],
    set_policy: Callable[[str], bool],
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = make_node(url=server.url)
    node.session_with_file()
    node.upkeep.beat_heart()
    assert SERVER not in node.holds()
    set_policy("allkeys-lru")
    node.upkeep.beat_heart()
    hold = node.holds()[SERVER]
    assert hold.reason == "memory-policy"
    assert "allkeys-lru" in hold.text
    assert [r.levelno for r in caplog.records if "allkeys-lru" in r.getMessage()] == [logging.ERROR]
    assert node.orphans.run_once().held
    with pytest.raises(HeldError, match="by itself"):
        run(holds.lift(node.core, SERVER), node.store)
    set_policy("noeviction")
    node.upkeep.beat_heart()
    assert SERVER not in node.holds()
    assert not node.orphans.run_once().held


def test_a_dry_run_says_that_orphans_are_held_as_the_pass_is(
    server: EmbeddedServer, make_node: Callable[..., Node], set_policy: Callable[[str], bool]
) -> None:
    node = make_node(url=server.url)
    session, _, _ = node.session_with_file()
    for key in ("session", "resources"):
        node.store._send(["DEL", getattr(node.store.keys, key)(session.id)], "", False)
    for policy in (*DROPS, *KEEPS):
        set_policy(policy)
        seen = preview.orphans(node.core, node.store)
        assert (seen.destroy, seen.held) == (1, [SERVER] if policy in DROPS else [])
        assert bool(node.orphans.run_once().held) == bool(seen.held)


def test_cleaning_what_is_owed_goes_on(
    server: EmbeddedServer, make_node: Callable[..., Node], set_policy: Callable[[str], bool]
) -> None:
    node = make_node(url=server.url)
    session, _, path = node.session_with_file()
    set_policy("allkeys-lru")
    node.upkeep.run_once()
    session.end()
    assert node.reclaim.run_once().deleted == 1
    assert not path.exists()


def test_the_log_says_so_each_minute(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    watch = ServerWatch(node.core, node.store, lambda: clock[0])
    bad = op.ServerFacts("run", 1_800_000_000_000, policy="allkeys-lfu")
    for second in range(0, 130, 5):
        clock[0] = float(second)
        watch.look(bad)
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 3


def test_a_hold_left_by_a_worker_that_died_is_taken_back_by_another(node: Node) -> None:
    bad = op.ServerFacts("run", 1_800_000_000_000, policy="allkeys-lfu")
    ServerWatch(node.core, node.store).look(bad)
    ServerWatch(node.core, node.store).look(op.ServerFacts("run", 1_800_000_000_001, policy="noeviction"))
    assert SERVER not in node.holds()


def test_a_worker_refuses_to_start(
    server: EmbeddedServer, set_policy: Callable[[str], bool], namespace: str, tmp_path: Path
) -> None:
    set_policy("allkeys-random")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SESSIONSWEEP_", "CELERY_"))},
        "SESSIONSWEEP_REDIS_URL": server.url,
        "SESSIONSWEEP_NAMESPACE": namespace,
        "SESSIONSWEEP_SECRET_KEY": KEY,
        "SESSIONSWEEP_VOLUMES": f"a={tmp_path / 'a'}",
        "SESSIONSWEEP_NODE": "a",
    }
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "sessionsweep_workers", "worker", "--pool=solo", "--without-gossip"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "allkeys-random" in done.stderr
    assert "noeviction" in done.stderr
    assert not (tmp_path / "a").exists(), "it refused before it made anything"
