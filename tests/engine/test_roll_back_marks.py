"""A node sees that the store was rolled back, whichever volume is marked first and by whom, and whenever it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessionsweep.deployment import Core
from sessionsweep.engine.trust import ROLLED_BACK, Trust
from sessionsweep.model.holds import ALL, volume_scope
from sessionsweep.operator import holds
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


def other_node(folder: Path) -> Core:
    """One with a volume of its own."""
    return Core(Settings(redis_url="redis://nowhere", secret_key="k" * 40, node="b", volumes=f"two={folder / 'two'}"))


@pytest.mark.parametrize("marked", [0, 1])
def test_a_volume_that_was_not_marked_hides_no_roll_back(store: MemoryStore, core: Core, marked: int) -> None:
    core.mounts.here()[marked].set_high_water(NOW)
    Trust(core, store).mark_time()
    assert ALL in store.execute(op.Table("holds"))


@pytest.mark.parametrize("moment", range(1, 5))
def test_a_roll_back_while_the_time_is_marked_is_not_hidden(store: MemoryStore, core: Core, moment: int) -> None:
    """The server is replaced by an old copy of itself right before it is asked for its time, or marks it."""

    class Replaced(MemoryStore):
        asked = 0

        def execute(self, operation: op.Operation[Any]) -> Any:
            if isinstance(operation, (op.Facts, op.RaiseMark)):
                self.asked += 1
                if self.asked == moment:
                    self.run_id = "after"
                    self._state.tables["marks"] = dict.fromkeys(
                        (volume.id for volume in core.mounts.here()), str(NOW - 2 * ROLLED_BACK)
                    )
            return super().execute(operation)

    replaced = Replaced()
    replaced._state = store._state
    for volume in core.mounts.here():
        volume.set_high_water(NOW)
        assert store.execute(op.RaiseMark(volume.id, NOW, 2 * ROLLED_BACK)) == NOW
    trust = Trust(core, replaced)
    trust.mark_time()
    trust.mark_time()
    assert ALL in store.execute(op.Table("holds"))


def test_another_node_whose_volume_knows_nothing_hides_no_roll_back(
    store: MemoryStore, core: Core, tmp_path: Path
) -> None:
    other = other_node(tmp_path)
    assert run(other.mounts.mount(), store) == []
    core.mounts.here()[0].set_high_water(NOW)  # the store's is older
    Trust(other, store).mark_time()  # it was down for long, and comes first
    Trust(core, store).mark_time()
    assert ALL in store.execute(op.Table("holds"))


def test_an_operators_word_holds_for_every_volume(store: MemoryStore, core: Core, tmp_path: Path) -> None:
    """Whichever node it is said on."""
    for volume in core.mounts.here():
        store.execute(op.TablePut("marks", volume.id, str(NOW - 2 * ROLLED_BACK)))
        volume.set_high_water(NOW)
    Trust(core, store).mark_time()
    run(holds.lift(other_node(tmp_path), ALL), store)
    Trust(core, store).mark_time()
    assert store.execute(op.Table("holds")) == {}
    assert store.execute(op.Table("marks")) == {}, "all have the one that was raised"


def test_a_time_mark_ahead_of_the_clock_is_lowered_to_the_volumes_own(store: MemoryStore, core: Core) -> None:
    """While it was held, others went on."""
    one, other = core.mounts.here()
    mark = NOW - ROLLED_BACK
    store.execute(op.TablePut("marks", one.id, str(mark)))
    store.execute(op.TablePut("marks", other.id, str(NOW)))
    one.set_high_water(NOW + 2 * ROLLED_BACK)
    Trust(core, store).mark_time()
    scope = volume_scope(one.id)
    assert set(store.execute(op.Table("holds"))) == {scope}
    run(holds.lift(core, scope), store)
    assert one.high_water() == mark
    Trust(core, store).mark_time()
    assert store.execute(op.Table("holds")) == {}
    assert one.high_water() == NOW
