"""The volume's high-water mark only rises, survives crashes, and is never silently lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from volume_trees import reason_of

from sessionsweep.volumes.layout import STATE
from sessionsweep.volumes.volume import Volume


def test_rises_only_unless_told(volume: Volume) -> None:
    assert volume.high_water() is None
    volume.set_high_water(1000)
    volume.set_high_water(500)
    assert volume.high_water() == 1000
    volume.set_high_water(2000)
    assert Volume.open(volume.root, "a").high_water() == 2000
    volume.set_high_water(500, lower=True)
    assert volume.high_water() == 500
    assert sorted(os.listdir(volume.root)) == [".sessionsweep-state", ".sessionsweep-volume", "files", "kept"]


@pytest.mark.parametrize("times", [1, 5])
def test_a_mark_that_another_node_sets_while_it_is_read_is_read_again(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A volume that several nodes mount: each sets the mark, and each compares it."""
    volume.set_high_water(1000)
    other, really, left = Volume.open(volume.root, "a"), os.open, [2000 + n for n in range(times)]

    def after_another_has_set_it(name: object, *args: object, **options: object) -> int:
        if name == STATE and left:
            mark = left.pop(0)
            with monkeypatch.context() as patch:
                patch.setattr(os, "open", really)
                other.set_high_water(mark)
        return really(name, *args, **options)

    monkeypatch.setattr(os, "open", after_another_has_set_it)
    assert volume.high_water() == 2000 + times - 1
    assert not left


def test_a_mark_that_is_replaced_without_end_is_told(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    volume.set_high_water(1000)
    really = os.open

    def replaced(name: object, *args: object, **options: object) -> int:
        if name == STATE:
            (volume.root / "new").write_bytes(b"{}")
            (volume.root / "new").rename(volume.root / STATE)
        return really(name, *args, **options)

    monkeypatch.setattr(os, "open", replaced)
    assert reason_of(volume.high_water) == "state-unreadable"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"{",
        b"[" * 4000,
        b'{"high_water_ms": "1"}',
        b'{"high_water_ms": -1}',
        b'{"high_water_ms": true}',
    ],
)
def test_a_damaged_mark_is_not_no_mark(volume: Volume, content: bytes) -> None:
    volume.set_high_water(1000)
    (volume.root / ".sessionsweep-state").write_bytes(content)
    assert reason_of(volume.high_water) == "state-unreadable"
    assert reason_of(volume.set_high_water, 2000) == "state-unreadable"
    volume.set_high_water(2000, lower=True)  # an operator's word
    assert volume.high_water() == 2000


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_mark_that_is_no_file(volume: Volume, tmp_path: Path, kind: str) -> None:
    state = volume.root / ".sessionsweep-state"
    canary = tmp_path / "canary"
    canary.write_text('{"high_water_ms": 7}')
    if kind == "link":
        state.symlink_to(canary)
    elif kind == "fifo":
        os.mkfifo(state)
    else:
        state.mkdir()
    assert reason_of(volume.high_water) == "state-unreadable"
    assert canary.read_text() == '{"high_water_ms": 7}'


def test_a_failed_write_keeps_the_old_mark(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    volume.set_high_water(1000)

    def full(descriptor: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="ENOSPC"):
        volume.set_high_water(2000)
    assert volume.high_water() == 1000
    assert len(os.listdir(volume.root)) == 4
