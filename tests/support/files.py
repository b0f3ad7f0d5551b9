"""Looks at folders whose files are being deleted meanwhile."""

from __future__ import annotations

import os
from pathlib import Path


def files_below(folder: Path, suffix: str = "") -> list[Path]:
    """All files below a folder, by the end of their names. Unlike a glob it bears that a folder goes while it walks."""
    return [Path(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(suffix)]
