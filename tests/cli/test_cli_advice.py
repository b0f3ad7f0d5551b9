"""`holds list`: every reason says what is stopped, what to do, and when it ends; and that is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import Deployment, beat, volume_of

from sessionsweep import operator
from sessionsweep.model.holds import Hold
from sessionsweep.operator.advice import REASONS, advice
from sessionsweep.store.flow import run

LIBRARY = Path(operator.__file__).parents[1]


def raised() -> set[str]:
    """Every reason that a volume or a pass gives."""
    call = re.compile(r'(?:VolumeUntrustedError|_hold|_hold_idle|put_hold)\(\s*(?:[^"]*,\s*)?"([a-z-]+)"')
    found = {"memory-policy"}  # a constant, in engine/server.py
    for folder in ("volumes", "engine"):
        for path in (LIBRARY / folder).glob("*.py"):
            found |= set(call.findall(path.read_text()))
    return found - {"not-empty"}  # an answer of `volumes init`


def test_every_reason_has_its_advice() -> None:
    assert {"restarted", "rolled-back", "marker-missing", "memory-policy"} <= raised(), "the search works"
    assert raised() == set(REASONS)


@pytest.mark.parametrize("scope", ["all", "idle", "server", "volume:0123456789abcdef", "mount:node-a/a"])
def test_a_reason_of_a_newer_release_is_told_by_its_scope(scope: str) -> None:
    told = advice(Hold(scope, "brand-new", "what", 0, "node-a"))
    assert all((told.stops, told.remedy, told.ends))
    assert "{" not in told.stops + told.remedy + told.ends


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_no_blank_is_left_in_any(reason: str) -> None:
    for scope in ("all", "volume:0123456789abcdef", "mount:node-a/a"):
        told = advice(Hold(scope, reason, "what", 0))
        assert not {"{", "}"} & set(told.stops + told.remedy + told.ends)


def test_a_disk_that_isnt_mounted_is_told_to_end_by_itself_and_does(cli: Deployment) -> None:
    cli.with_file()
    volume_id = volume_of(cli).id
    beat(cli, "node-a", volume_id)
    (cli.root / "a").rename(cli.root / "unmounted")
    cli.sessions.core.mounts.forget("a")
    run(cli.sessions.core.mounts.mount(), cli.store)
    (hold,) = cli("holds", "list", "--json").json()
    assert (hold["scope"], hold["reason"], hold["ends_in_seconds"]) == ("mount:node-a/a", "marker-missing", None)
    assert "mount its disk" in hold["remedy"]
    assert hold["ends"].startswith("by itself")
    shown = " ".join(cli("holds", "list").out.split())
    assert "operator lifts" not in shown
    assert "whose uploads to it get 503" in shown
    (cli.root / "unmounted").rename(cli.root / "a")
    run(cli.sessions.core.mounts.mount(), cli.store)
    assert cli("holds", "list", "--json").json() == []


def test_a_hold_of_a_node_whose_worker_is_silent_says_so(cli: Deployment) -> None:
    cli.hold("mount:node-a/a", "root-missing")
    assert "not seen for a week" in cli("holds", "list").out
    beat(cli, "node-a", ago=9_030_000)
    assert "silent for 2h30m" in " ".join(cli("holds", "list").out.split())
    beat(cli, "node-a")
    assert "silent" not in cli("holds", "list").out
