"""What is known of a file on disk, in sentences: whose it is, and whether anything ever deletes it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from sessionsweep.deployment import Core
from sessionsweep.errors import VolumeError
from sessionsweep.model.holds import mount_scope
from sessionsweep.model.ids import RESOURCE_ID
from sessionsweep.model.resource import volume_location
from sessionsweep.operator import holds, volumes
from sessionsweep.operator.advice import advice
from sessionsweep.operator.explain_records import Explanation, of_resource
from sessionsweep.operator.queries import Life, show
from sessionsweep.operator.wording import brief
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.units import format_size
from sessionsweep.volumes import layout
from sessionsweep.volumes.marker import Marker
from sessionsweep.volumes.volume import Volume


def of_path(core: Core, store: Store, path: Path) -> Explanation:
    """What lies, or should lie, under an absolute path. Raises StoreError."""
    root = next((above for above in (path, *path.parents) if _marker(above) is not None), None)
    away = next((row for row in run(volumes.listed(core), store) if _is_below(path, row, root)), None)
    if away is not None:
        return _on_unusable(core, store, path, away)
    if root is None:
        said = "It lies on no volume: no folder above it has a marker. Nothing of sessionsweep ever looks there."
        return Explanation(f"file {path}", "not ours", (said,), path=str(path))
    marker = _marker(root)
    assert marker is not None
    parts = path.relative_to(root).parts
    volume = f"It lies on volume {marker.name or marker.volume_id} ({marker.volume_id})."
    if marker.deployment_id != store.execute(op.Meta()).get("deployment"):
        said = "The volume is another deployment's: this one never deletes anything there."
        return Explanation(f"file {path}", "not ours", (volume, said), path=str(path))
    if parts[:1] == (layout.KEPT,):
        said = "It was promoted: it is the app's own, and no pass ever opens that folder."
        return Explanation(f"file {path}", "promoted", (volume, said), path=str(path))
    if len(parts) != 4 or not _is_ours(parts):
        what = "It is the volume itself" if not parts else "No name there is one of ours"
        return Explanation(f"file {path}", "not ours", (volume, f"{what}: no pass deletes it."), path=str(path))
    session_id, resource_id = parts[2], parts[3]
    found = of_resource(core, store, session_id, resource_id, str(path))
    on_disk, exists = _on_disk(path)
    if found.state == "unknown" and exists:
        said_of = _orphan(core, store, session_id, volume_location(marker.volume_id), path)
        return Explanation(f"file {path}", "orphan", (volume, on_disk, *said_of), session_id, resource_id, str(path))
    missing = () if exists else ("Its bytes aren't there: the next pass that looks for them notes that it is gone.",)
    sentences = (volume, on_disk, *found.sentences, *(missing if found.state != "unknown" else ()))
    return Explanation(f"file {path}", found.state, sentences, session_id, resource_id, str(path), found.problems)


def _is_below(path: Path, row: volumes.VolumeRow, root: Path | None) -> bool:
    """Whether a path lies where this node's volume of that row should be, and isn't: no marker is nearer."""
    if not row.path or row.state == "here":
        return False
    there = Path(os.path.abspath(row.path))
    return path.is_relative_to(there) and (root is None or (there != root and there.is_relative_to(root)))


def _on_unusable(core: Core, store: Store, path: Path, row: volumes.VolumeRow) -> Explanation:
    """Of a path on a volume of this node that can't be used now: what is known of it without looking there."""
    called = f"this node's volume {row.name}" + (f" ({row.id})" if row.id else "")
    said = [f"It lies on {called}, which can't be used now ({row.state}): nothing there is looked at or deleted."]
    standing, _ = run(holds.listed(), store)
    mine = [hold for hold in standing if hold.scope == mount_scope(core.settings.node, row.name)]
    said += [f"Held by {hold.scope} ({hold.reason}): {hold.text}" for hold in mine]
    wrong = tuple(f"{hold.reason}: {advice(hold).remedy}" for hold in mine)
    parts = path.relative_to(os.path.abspath(row.path)).parts
    session_id, resource_id = parts[2:] if len(parts) == 4 and _is_ours(parts) else ("", "")
    if resource_id:
        found = of_resource(core, store, session_id, resource_id, str(path))
        said += found.sentences
    return Explanation(f"file {path}", row.state, tuple(said), session_id, resource_id, str(path), wrong)


def _marker(folder: Path) -> Marker | None:
    """The marker in a folder; None: there is none that can be read."""
    try:
        return Volume.read_marker(folder)
    except VolumeError:
        return None


def _orphan(core: Core, store: Store, session_id: str, location: str, path: Path) -> Iterator[str]:
    case = run(show(session_id), store)
    if case is not None and case.life is not Life.ENDED:
        yield (
            "No record names it, though its session lives: writes were lost. The next orphan pass gives it back to its "
            "session; nothing is deleted."
        )
        return
    age, least = _age(path), core.settings.orphan_min_age
    yield "Nobody owns it: no session and no record names it."
    if age < least:
        yield f"It is {brief(age)} old; before {brief(least)} (ORPHAN_MIN_AGE) it is left alone."
    yield (
        "An orphan pass notes it, and the second one that sees it unchanged, a grace period later, deletes it, unless "
        "it is locked. What the next one would do: sessionsweep sweep orphans --dry-run"
    )
    standing, _ = run(holds.listed(), store)
    for hold in standing:
        if hold.scope in ("all", "idle", "server", f"volume:{location[2:]}", f"orphans:{location[2:]}"):
            yield f"Destroying orphans is held by {hold.scope} ({hold.reason}): see sessionsweep holds list."


def _on_disk(path: Path) -> tuple[str, bool]:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return "There is nothing under that name.", False
    except OSError as error:
        return f"It can't be looked at: {error.strerror}.", True
    if not stat.S_ISREG(found.st_mode):
        return "It is no regular file, so it isn't deleted: something else stands where ours should be.", True
    links = "" if found.st_nlink == 1 else f", under {found.st_nlink} names: deleting removes this one only"
    return f"On disk: {format_size(found.st_size)}, changed {brief(_age(path))} ago{links}.", True


def _age(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.lstat().st_mtime)
    except OSError:
        return 0.0


def _is_ours(parts: tuple[str, ...]) -> bool:
    files, fan_out, session_id, resource_id = parts
    return (
        files == layout.FILES
        and layout.is_fan_out(fan_out)
        and layout.is_session_folder(session_id, fan_out)
        and RESOURCE_ID.match(resource_id) is not None
    )
