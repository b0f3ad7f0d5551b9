"""Why a resource can't be deleted, in words: what each stored error means, and where to look."""

from __future__ import annotations

import errno
import os

#: The error of a failed attempt (an errno's name, or a code of ours) → what it means and what to look at.
MEANINGS = {
    "EPERM": "not permitted; is the file or its folder immutable or append-only (lsattr), or another user's?",
    "EACCES": "permission denied; may the worker's user read the file and write its folder?",
    "EROFS": "the file system is read-only; see its mount options, and dmesg for why it became so",
    "EIO": "the disk fails; see dmesg",
    "ESTALE": "the file server no longer knows the file; mount it again",
    "EBUSY": "something is mounted there, or the system uses it",
    "ETXTBSY": "it is a program that runs",
    "ELOOP": "a link stands where a folder or file of ours should be",
    "not-regular": "no regular file stands where ours should be",
    "not-a-folder": "a link or file stands where a folder of ours should be",
    "other-device": "another file system is mounted over it",
    "changed": "another file took its name while it was being deleted",
    "bad-id": "its record holds an impossible id",
}


def meaning(error: str) -> str:
    """What an error means; nothing where it says so itself."""
    if error in MEANINGS:
        return MEANINGS[error]
    number = getattr(errno, error, None) if error.isupper() else None
    return os.strerror(number).lower() if isinstance(number, int) else ""


def explained(error: str) -> str:
    """The error with its meaning: `EIO: the disk fails; see dmesg`."""
    said = meaning(error)
    return f"{error}: {said}" if said else error or "no error was told"
