"""Why something is still there, or no longer: of a session, a resource or a file its owner, its state, what comes next.

Reads only; asks a bounded number of questions.
"""

from __future__ import annotations

import os
from pathlib import Path

from sessionsweep.deployment import Core
from sessionsweep.errors import SessionSweepError
from sessionsweep.model.ids import RESOURCE_ID, is_session_id
from sessionsweep.operator import dead_letters, owed
from sessionsweep.operator.explain_files import of_path
from sessionsweep.operator.explain_records import LOOKS, PAGE, Explanation, of_resource, of_session
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store

__all__ = ["Explanation", "NothingKnownError", "explain"]


class NothingKnownError(SessionSweepError):
    """Neither an id nor a path of anything that is known here; the message says what would be."""


def explain(core: Core, store: Store, what: str) -> Explanation:
    """Explains a session's id, a resource's (alone if it is owed or dead, else `SESSION/RESOURCE`), or a path.

    Raises:
        NothingKnownError: it is none of these. StoreError
    """
    if is_session_id(what):
        return of_session(core, store, what)
    session_id, slash, resource_id = what.partition("/")
    if slash and is_session_id(session_id) and RESOURCE_ID.match(resource_id):
        return of_resource(core, store, session_id, resource_id)
    if os.sep in what or os.path.lexists(what):
        return of_path(core, store, Path(os.path.abspath(what)))
    if RESOURCE_ID.match(what):
        return of_resource(core, store, _owner_of(core, store, what), what)
    hint = " A token is secret: give only the part before the dot." if "." in what else ""
    raise NothingKnownError(
        "That is no session's id (20 lower-case letters and digits), no resource's (16, then the suffix that it was "
        f"made with, such as .wav), no SESSION/RESOURCE, and no path that exists.{hint}"
    )


def _owner_of(core: Core, store: Store, resource_id: str) -> str:
    """The session of a dead letter or of something owed, found among the first LOOKS of each."""
    for letter in run(dead_letters.listed(core, LOOKS), store):
        if letter.record.resource_id == resource_id:
            return letter.session_id
    cursor: str | None = None
    while True:
        page = owed.listed(core, store, cursor=cursor, limit=PAGE, looks=LOOKS)
        for one in page.resources:
            if one.record.resource_id == resource_id:
                return one.session_id
        cursor = page.next_cursor
        if cursor is None or page.looked_at >= LOOKS:
            suffix = "" if "." in resource_id else " A suffix, such as .wav, is part of an id."
            raise NothingKnownError(
                f"No dead letter and nothing owed has the id {resource_id}.{suffix} For what a session owns: "
                "sessionsweep explain SESSION/RESOURCE, or the file's path."
            )
