"""A slot that a cluster is moving: an operation that can't be done whole is refused before it has changed anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from sessionsweep.errors import StoreUnavailableError
from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import EndReason, Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import wait_until

Servers = Callable[..., EmbeddedServer]
OURS, OTHER = "a" * 40, "b" * 40
LOCATION = volume_location("v" * 16)


@pytest.fixture
def server(own_server: Servers, tmp_path: Path) -> EmbeddedServer:
    """A cluster's node that has all slots and knows of another, which needn't run."""
    (tmp_path / "nodes.conf").write_text(
        f"{OURS} 127.0.0.1:1@10001 myself,master - 0 0 1 connected 0-16383\n"
        f"{OTHER} 127.0.0.1:2@10002 master - 0 0 2 disconnected\n"
        "vars currentEpoch 2 lastVoteEpoch 0\n"
    )
    server = own_server(data_dir=tmp_path, extra_config={"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"})
    with redis.Redis.from_url(server.url) as client:
        wait_until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), 20, "the cluster serves")
    return server


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def store(server: EmbeddedServer) -> Iterator[RedisStore]:
    store = RedisStore(server.url, test_clock=False)
    yield store
    store.close()


def contents(client: redis.Redis) -> dict[bytes, bytes]:
    return {key: client.dump(key) for key in client.scan_iter()}


def test_what_a_moving_slot_refuses_has_changed_nothing(client: redis.Redis, store: RedisStore) -> None:
    live, intended = new_session_id("00"), new_session_id("00")
    written, dead, intent = (new_resource_id() for _ in range(3))
    due = new_session_id("00")
    for session_id in (due, live, intended):
        store.execute(op.CreateSession(session_id, b"m" * 16, 900_000, 0, 1))
    store.execute(op.CreateSession(new_session_id("00"), b"m" * 16, 1, 0, 600_000))  # where the save would file another
    for session_id, resource_id, is_live in ((live, written, True), (live, dead, True), (intended, intent, False)):
        register = op.Register(session_id, resource_id, "f", LOCATION, 10, live=is_live)
        assert store.execute(register).status == "ok"
    store.execute(op.Register(due, new_resource_id(), "f", LOCATION, 10, live=True))
    store.execute(op.ExtendSession(due, idle=0, width=1))
    store.execute(op.Release(live, dead))
    store.execute(op.Settle(live, LOCATION, (op.Attempt(dead, Outcome.FAILED, 0, "stuck"),), tries=1))
    steps = {
        "end": op.EndSession(live, EndReason.LOGOUT),
        "open": op.OpenSession(due, (b"m" * 16,), True, 0, b"\0\0\0"),
        "sweep": op.SweepStep("00", 1, 0, 0),
        "release": op.Release(live, written),
        "settle": op.Settle(live, LOCATION, (op.Attempt(written, Outcome.DELETED),), own=True),
        "commit": op.Commit(intended, intent, 5),
        "retry": op.RetryDead(live, dead),
        "drop": op.DropDead(live, dead),
        "save": op.SaveData(live, {"a": b"1"}, renew=True, idle=1, width=600_000),
    }
    slot = client.execute_command("CLUSTER", "KEYSLOT", "ss:{00}:w")
    client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", OTHER)
    client.delete("ss:{00}:c")  # as if that key had been moved already
    before = contents(client)
    for name, step in steps.items():
        with pytest.raises(StoreUnavailableError):
            store.execute(step)
        assert contents(client) == before, name
    client.delete("ss:{00}:w")  # with the lists of its slots still here
    before = contents(client)
    with pytest.raises(StoreUnavailableError):
        store.execute(steps["save"])
    assert contents(client) == before

    client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
    assert store.execute(steps["end"]).done
    assert client.exists(f"ss:{{00}}:t:{live}")
