"""A worker looks at the server's clock each second, not only when a pass is due."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessionsweep.model.holds import IDLE, Hold
from sessionsweep.settings import Settings
from sessionsweep.store import operations as op
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers import context
from sessionsweep_workers.application import build
from sessionsweep_workers.disks import Disks
from sessionsweep_workers.keeper import Keeper
from support.nodes import KEY
from support.processes import wait_until


@pytest.fixture
def store(redis_url: str, namespace: str) -> Iterator[RedisStore]:
    """Whose time the test sets, as an operator or a bad time server would."""
    store = RedisStore(redis_url, namespace, test_clock=True)
    yield store
    store.close()


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_step_of_the_servers_clock_is_noticed_between_two_passes(
    redis_url: str, store: RedisStore, namespace: str, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(context, "make_store", lambda _: store)
    settings = Settings(
        redis_url=redis_url, namespace=namespace, node="a", secret_key=KEY, broker_url="memory://", cleanup_interval=600
    )
    app = build(settings)
    keeper = Keeper(app, Disks(context.current(app)))
    looked = []
    watch = keeper.context.trust.watch_server
    monkeypatch.setattr(keeper.context.trust, "watch_server", lambda: looked.append(1) or watch())
    keeper.start()
    try:
        wait_until(lambda: len(looked) > 2, 20, "the keeper looks")
        store.advance(step * 1000)
        wait_until(lambda: IDLE in store.execute(op.Table("holds")), 20, "idle ends are held")
    finally:
        keeper.stop()
    assert Hold.decode(store.execute(op.Table("holds"))[IDLE]).reason == "clock-jumped"
