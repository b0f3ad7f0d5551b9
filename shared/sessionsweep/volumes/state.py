"""The high-water mark of the store's time that a volume remembers, by which a store rolled back to a snapshot
is seen.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from sessionsweep.errors import VolumeUntrustedError
from sessionsweep.model.ids import random_text
from sessionsweep.volumes import layout
from sessionsweep.volumes.descriptors import NotOursError, errno_name, open_replaced
from sessionsweep.volumes.marker import replace, write_whole

_LARGEST = 4096  # bytes


def read_high_water(root: int, device: int, path: Path) -> int | None:
    """The mark in ms of the store's time; None: none was ever set.

    Raises:
        VolumeUntrustedError: reason `state-unreadable`. Taking a damaged mark for none would let a
            rolled-back store destroy what it has forgotten.
    """
    try:
        descriptor = open_replaced(root, layout.STATE, device)
    except FileNotFoundError:
        return None
    except NotOursError as error:
        raise _unreadable(path, str(error)) from error
    except OSError as error:
        raise _unreadable(path, f"reading it failed with {errno_name(error)}") from error
    try:
        content = json.loads(os.read(descriptor, _LARGEST))
        mark = content["high_water_ms"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable(path, "its content is damaged") from error
    except OSError as error:
        raise _unreadable(path, f"reading it failed with {errno_name(error)}") from error
    finally:
        os.close(descriptor)
    if not isinstance(mark, int) or isinstance(mark, bool) or mark < 0:
        raise _unreadable(path, f"it says {mark!r}")
    return mark


def write_high_water(root: int, mark_ms: int) -> None:
    """Write the mark at once: a crash leaves the old one or the new one."""
    temporary = f"{layout.STATE}.{random_text(16)}"
    write_whole(root, temporary, json.dumps({"format": 1, "high_water_ms": mark_ms}).encode() + b"\n")
    replace(root, temporary, layout.STATE)


def _unreadable(path: Path, why: str) -> VolumeUntrustedError:
    return VolumeUntrustedError(
        "state-unreadable",
        f"The state file {path / layout.STATE} can't be trusted ({why}): whether the store was rolled back can't be "
        "told. Restore it, or remove it once you know that the store is current.",
    )
