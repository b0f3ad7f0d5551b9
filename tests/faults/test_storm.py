"""Promises 1, 2, 6, 12, 21, 24 and 25 in one storm: whatever befalls processes, server, network, disks and clocks."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from faults.disks import Disks, private_mounts
from faults.servers import FaultyServer
from faults.storm import Storm
from faults.world import Nurseries, Nursery, World
from support.processes import wait_until
from support.proxy import FaultyProxy

pytestmark = pytest.mark.faults


def weather(seed: str, folder: Path, nurseries: Nurseries, namespace: str, *, losing: bool, on_disks: bool) -> None:
    """One schedule, from an empty deployment to the judgement."""
    dice = random.Random(seed)
    with ExitStack() as stack:
        server = stack.enter_context(FaultyServer(folder.parent / "server", clock=dice.random() < 0.3))
        disks = stack.enter_context(Disks(folder)) if on_disks else None
        world = World(folder, server.url, namespace, partitions=dice.choice([1, 1, 3]))
        stack.callback(world.close)
        proxy = stack.enter_context(FaultyProxy(server.url, seed))
        storm = Storm(seed, world, nurseries, server, proxy, losing=losing, disks=disks)
        stack.callback(storm.close)
        storm.run()
        try:
            storm.settle()
            world.judge(steady=not losing and not storm.done["step_clock"])
        except AssertionError as error:
            error.add_note(f"the storm: {dict(storm.done)}, clocks {storm.skew}")
            raise


def test_whatever_is_killed_paused_or_cut_off_everything_is_reclaimed_and_nothing_else(
    seed: str, folder: Path, nurseries: Nurseries, fresh_name: Callable[[], str]
) -> None:
    """Promises 1, 2, 6, 12, 21, 24 and 25, on a server that keeps what it acknowledged."""
    weather(seed, folder, nurseries, fresh_name(), losing=False, on_disks=False)


@pytest.mark.schedules(0.4)
def test_whatever_acknowledged_writes_are_lost_no_file_in_use_goes_and_none_stays(
    seed: str, folder: Path, nurseries: Nurseries, fresh_name: Callable[[], str]
) -> None:
    """Promises 1, 2, 8 and 9, on a server that loses its last writes, goes back to a former state, or to none."""
    weather(seed, folder, nurseries, fresh_name(), losing=True, on_disks=False)


@pytest.mark.skipif(
    not os.environ.get("CI") and os.geteuid() != 0, reason="disks are mounted, filled and swapped: run it as root"
)
@pytest.mark.parametrize("losing", [False, True], ids=["kept", "lost"])
@pytest.mark.schedules(0.3)
def test_whatever_befalls_the_disks_too(
    seed: str, losing: bool, folder: Path, nurseries: Nurseries, fresh_name: Callable[[], str]
) -> None:
    """Promises 1, 2, 9, 14, 15 and 16: read-only, full, unmounted, swapped and covered disks in the same storms."""
    assert private_mounts() == ""
    weather(seed, folder, nurseries, fresh_name(), losing=losing, on_disks=True)


def test_a_session_that_ends_while_it_is_used_is_seen(
    folder: Path, redis_url: str, nurseries: Nurseries, fresh_name: Callable[[], str]
) -> None:
    """The storms' own judgement: somebody ends sessions that web nodes use."""
    world = World(folder, redis_url, fresh_name())
    order = world.order("web", "a", "any")

    def ended() -> bool:
        for user in ("ana", "bob"):
            world.nodes["b"].sessions.end_user(user)
        return bool(world.facts("early"))

    with running(nurseries.of(0), order):
        wait_until(ended, what="one is missed")
    world.settle()
    with pytest.raises(AssertionError, match=r"was over .* after it was used"):
        world.judge()
    world.judge(steady=False)
    world.close()


def test_a_fault_that_could_not_be_made_is_not_counted(
    folder: Path, redis_url: str, nurseries: Nurseries, fresh_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the file system knows no immutable files, or nobody is stopped who could be woken."""
    world = World(folder, redis_url, fresh_name())
    refusing = world.folder / "bin" / "chattr"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(refusing.parent), prepend=os.pathsep)
    with FaultyProxy(redis_url, "any") as proxy:
        storm = Storm("any", world, nurseries, FaultyServer(folder.parent / "server"), proxy)
        storm.vandal._ways = [storm.vandal._immutable]
        for fault in (storm.vandalise, storm.wake):
            storm.befall(fault)
        assert not storm.done
        assert not storm.vandal.deeds
        storm.vandal._ways = [storm.vandal._link]
        storm.befall(storm.vandalise)
        assert storm.done == {"vandalise": 1, "vandal: _link": 1}
        storm.close()
    world.close()


@contextmanager
def running(nursery: Nursery, order: dict[str, Any]) -> Iterator[None]:
    """An actor that is killed at the end."""
    pid = nursery.start(**order)
    try:
        yield
    finally:
        nursery.kill(pid)
