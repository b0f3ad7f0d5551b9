"""Who may write a volume's folders: whoever else may could take the app's files away unseen, or put his in their place.

docs/decisions/0011-who-may-write-a-volume.md argues for each rule.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sessionsweep.errors import VolumeUntrustedError


def require_private(found: os.stat_result, path: Path, *, sticky: bool = False) -> None:
    """Refuse a folder that others may write. `sticky`: unless each name in it is its owner's alone to change.

    Raises:
        VolumeUntrustedError: reason `not-private`.
    """
    who = other_writers(found)
    if who and not (sticky and found.st_mode & stat.S_ISVTX):
        raise VolumeUntrustedError(
            "not-private",
            f"{path} may be written by {who} (mode {stat.S_IMODE(found.st_mode):04o}), who could exchange the files of "
            f"the volume: chmod go-w {path}, or give it to the group that this process runs as ({os.getegid()}).",
        )


def require_owner(found: os.stat_result, root: os.stat_result, path: Path) -> None:
    """Refuse a folder that somebody else has made in the volume's root.

    Raises:
        VolumeUntrustedError: reason `not-private`.
    """
    if not may_own(found.st_uid, root):
        raise VolumeUntrustedError(
            "not-private",
            f"{path} belongs to user {found.st_uid}, neither to the owner of the volume's root ({root.st_uid}) nor to "
            f"the user that this process runs as ({os.geteuid()}): was it exchanged? Put the right one back; if it is "
            f"the right one: chown -R {os.geteuid()} {path}",
        )


def other_writers(found: os.stat_result) -> str:
    """Who may write a folder besides its owner, root and those of our own group; empty: nobody."""
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    # a group with its user's number is that user's own, wherever accounts are made with their defaults
    if found.st_mode & stat.S_IWGRP and found.st_gid not in (os.getegid(), found.st_uid):
        return f"group {found.st_gid}"
    return ""


def may_own(uid: int, root: os.stat_result) -> bool:
    """Whether `uid` may have made our folder in the root: we, root, or who owns the root and can do anything there."""
    return uid in (os.geteuid(), 0, root.st_uid)
