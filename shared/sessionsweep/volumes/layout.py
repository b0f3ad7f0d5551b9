"""Where a resource's bytes lie below a volume's root, computed from ids and from nothing else.

    <root>/.sessionsweep-volume           the marker (JSON), see marker.py
    <root>/.sessionsweep-state            the high-water mark of the store's time (JSON), see state.py
    <root>/files/<sid[2:4]>/<sid>/<rid>   a resource of a session; no other name is ours
    <root>/kept/<sid>-<rid>               promoted to the app; no pass ever opens this folder

The fan-out folder takes the first two random characters of the session's id (its first two name the
partition, which is the same for everyone in a small deployment): 32 × 32 folders.
"""

from __future__ import annotations

import re

from sessionsweep.model.ids import is_resource_id, is_session_id

MARKER = ".sessionsweep-volume"
STATE = ".sessionsweep-state"
FILES = "files"
KEPT = "kept"
TEMPORARY = re.compile(r"\.sessionsweep-(?:volume|state)\.[0-9a-z]{16}\Z")

FOLDER_MODE = 0o700
FILE_MODE = 0o600

FAN_OUT = re.compile(r"[0-9a-hjkmnp-tv-z]{2}\Z")


def fan_out(session_id: str) -> str:
    """The name of the folder that holds this session's folder."""
    return session_id[2:4]


def is_fan_out(name: str) -> bool:
    """Whether `name` is a folder that we may have made below `files`."""
    return FAN_OUT.match(name) is not None


def is_session_folder(name: str, fan_out_folder: str) -> bool:
    """Whether `name` is a session's folder and lies in the fan-out folder where it belongs."""
    return is_session_id(name) and fan_out(name) == fan_out_folder


def are_ids(session_id: str, resource_id: str) -> bool:
    """Whether a path may be computed from these two; they may come from a message or a damaged record."""
    return is_session_id(session_id) and is_resource_id(resource_id)


def relative(session_id: str, resource_id: str) -> str:
    """The path below the root, for messages and for programs that want a name. Never used to destroy
    anything.
    """
    return f"{FILES}/{fan_out(session_id)}/{session_id}/{resource_id}"


def kept_name(session_id: str, resource_id: str) -> str:
    """The name below `kept` of a promoted resource."""
    return f"{session_id}-{resource_id}"
