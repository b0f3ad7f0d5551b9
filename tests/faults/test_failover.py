"""Promise 8: a Sentinel promotes a replica that lags; what it has not is lost, and nothing in use goes with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.failover import Failover
from faults.world import World
from sessionsweep import InvalidTokenError
from support.proxy import FaultyProxy

pytestmark = pytest.mark.faults

TIMED = {
    "idle_timeout": 120,  # a machine may stand still for seconds between two lines of the test
    "max_duration": 0,
    "grace_period": 1,
    "cleanup_interval": 1,
    "orphan_interval": 1000,
    "hold": 120,
    "socket_timeout": 5,
}


@pytest.mark.schedules(0.05)
def test_a_lagging_replica_that_sentinel_promotes_strips_no_session_that_is_used(
    seed: str, folder: Path, fresh_name: Callable[[], str]
) -> None:
    """Promise 8: 0 live files deleted, true orphans found within one scan after the hold."""
    dice = random.Random(seed)
    with Failover(folder.parent / "servers") as servers, FaultyProxy(servers.primary.url, seed) as proxy:
        world = World(folder, proxy.url, fresh_name(), **TIMED)
        a, b = world.nodes["a"], world.nodes["b"]
        used = [a.sessions.create() for _ in range(dice.randint(3, 8))]
        known = [b.write(session, volume="shared")[1] for session, _ in used]
        world.advance(90)
        servers.caught_up()
        servers.lag()
        # what only the primary knows: touches, files of sessions that the replica knows, and whole sessions
        for session, token in used:
            a.sessions.open(token)
            known.append(a.write(session, volume="shared")[1])
        orphans = [a.session_with_file()[2] for _ in range(dice.randint(1, 5))]
        proxy.lead_to(servers.promote())
        for _ in range(3):  # by the replica's touches all of them are idle by now; clients come back within the hold
            world.advance(32)
            world.pass_once()
            assert all(path.exists() for path in (*known, *orphans))
        assert world.holds().get("idle") == "restarted", world.holds()
        for _, token in used:
            b.sessions.open(token)
        world.advance(60)  # the hold is over
        for _ in range(3):
            world.pass_once()
            world.advance(2)
        assert not any(path.exists() for path in orphans), "true orphans go within one scan after the hold"
        assert all(path.exists() for path in known)
        for session, token in used:
            b.sessions.open(token)
            assert len(session.resources()) == 2, "what was forgotten is registered again"
        for session, token in used:
            session.end()
            with pytest.raises(InvalidTokenError):
                b.sessions.open(token)
        world.settle(advance=5)
        world.judge()
        world.close()
