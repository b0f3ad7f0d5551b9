"""A node sees that the store was rolled back, whichever of its volumes is marked first, and whenever it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessionsweep.deployment import Core
from sessionsweep.engine.trust import ROLLED_BACK, Trust
from sessionsweep.model.holds import ALL
from sessionsweep.settings import Settings
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.memory import MemoryStore

NOW = 1_800_000_000_000  # ms


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(clock=lambda: NOW, run_id="before")


@pytest.fixture
def core(store: MemoryStore, tmp_path: Path) -> Core:
    volumes = f"one={tmp_path / 'one'},other={tmp_path / 'other'}"
    core = Core(Settings(redis_url="redis://nowhere", secret_key="k" * 40, node="a", volumes=volumes))
    assert run(core.mounts.mount(), store) == []
    store.execute(op.SetMeta({"high_water": str(NOW - 2 * ROLLED_BACK)}))
    return core


@pytest.mark.parametrize("marked", [0, 1])
def test_a_volume_that_was_not_marked_hides_no_roll_back(store: MemoryStore, core: Core, marked: int) -> None:
    core.mounts.here()[marked].set_high_water(NOW)
    Trust(core, store).mark_time()
    assert ALL in store.execute(op.Table("holds"))


@pytest.mark.parametrize("moment", range(1, 5))
def test_a_roll_back_while_the_time_is_marked_is_not_hidden(store: MemoryStore, core: Core, moment: int) -> None:
    """The server is replaced by an old copy of itself right before it is asked for its time."""

    class Replaced(MemoryStore):
        asked = 0

        def execute(self, operation: op.Operation[Any]) -> Any:
            if isinstance(operation, op.Facts):
                self.asked += 1
                if self.asked == moment:
                    self.run_id = "after"
                    self._state.meta["high_water"] = str(NOW - 2 * ROLLED_BACK)
            return super().execute(operation)

    replaced = Replaced()
    replaced._state = store._state
    for volume in core.mounts.here():
        volume.set_high_water(NOW)
    store.execute(op.SetMeta({"high_water": str(NOW)}))
    trust = Trust(core, replaced)
    trust.mark_time()
    trust.mark_time()
    assert ALL in store.execute(op.Table("holds"))
