"""What the tests of volumes put on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionsweep.errors import VolumeUntrustedError
from sessionsweep.volumes.volume import Volume

DEPLOYMENT = "d1"


def put(volume: Volume, session_id: str, resource_id: str, content: bytes = b"content") -> Path:
    """Create a file through the volume; its path."""
    with volume.create(session_id, resource_id) as file:
        file.write(content)
    return file.path


def session_path(volume: Volume, session_id: str) -> Path:
    """The session's folder."""
    return volume.root / "files" / session_id[2:4] / session_id


def reason_of(call: object, *args: object, **kwargs: object) -> str:
    """The reason of the VolumeUntrustedError that the call must raise."""
    with pytest.raises(VolumeUntrustedError) as caught:
        call(*args, **kwargs)  # type: ignore[operator]
    assert str(caught.value)
    return caught.value.reason
