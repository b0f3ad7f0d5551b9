"""Volumes on a real disk and on tmpfs, opened both with openat2 and by the portable walk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from volume_trees import DEPLOYMENT

from sessionsweep.model.ids import new_resource_id, new_session_id
from sessionsweep.volumes import descriptors
from sessionsweep.volumes.volume import Volume

SHM = Path("/dev/shm")


@pytest.fixture(params=["disk", "tmpfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty folder on each kind of file system."""
    if request.param == "disk":
        yield tmp_path
        return
    if not os.access(SHM, os.W_OK):
        pytest.fail("/dev/shm isn't writable, so nothing can be tried on tmpfs: mount a tmpfs there")
    folder = Path(tempfile.mkdtemp(dir=SHM, prefix="volumes-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.initialize(tmp_path / "v", "a", DEPLOYMENT)


@pytest.fixture(params=["openat2", "portable"])
def opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of opening folders."""
    if request.param == "portable":
        monkeypatch.setattr(descriptors, "_open_below", descriptors._walk_below)
    else:
        monkeypatch.setattr(descriptors, "_open_below", descriptors._openat2())
    return str(request.param)


@pytest.fixture
def sid() -> str:
    return new_session_id("00")


@pytest.fixture
def rid() -> str:
    return new_resource_id(".wav")
