"""What locations are called and where they lie: a volume's name instead of its id, a file's path instead of two ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sessionsweep.deployment import Core
from sessionsweep.errors import VolumeError
from sessionsweep.model.ids import VOLUME_ID
from sessionsweep.model.resource import KINDS, ResourceRecord, volume_location
from sessionsweep.model.rows import json_object
from sessionsweep.operator import nodes
from sessionsweep.settings import VolumeSpec
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask, work
from sessionsweep.volumes import layout
from sessionsweep.volumes.volume import Volume


class NoSuchVolumeError(VolumeError):
    """The store knows no volume of that name or id."""

    def __init__(self, name_or_id: str) -> None:
        super().__init__(f"The store knows no volume {name_or_id!r}: see `sessionsweep volumes list`.")


@dataclass(frozen=True, slots=True)
class Names:
    """By location: the names of all volumes that anybody told of, and the roots of those that this node mounts."""

    names: Mapping[str, str]
    roots: Mapping[str, str]

    def label(self, location: str) -> str:
        """A volume's name, with its id where several have that name; any other location as it is."""
        name = self.names.get(location, "")
        if not name:
            return location
        return f"{name} ({volume_id_of(location)})" if self._is_shared(name) else name

    def handle(self, location: str) -> str:
        """What a command takes for exactly that location: the volume's name, or its id where several have that name."""
        name = self.names.get(location, "")
        return volume_id_of(location) or location if not name or self._is_shared(name) else name

    def _is_shared(self, name: str) -> bool:
        return Counter(self.names.values())[name] > 1

    def path(self, session_id: str, record: ResourceRecord) -> str:
        """Where a file lies: absolute where its volume is mounted here, else below the volume's root. For people and
        their programs, never to destroy anything. Empty for what is no file on a volume."""
        if record.kind != KINDS["file"] or not volume_id_of(record.location):
            return ""
        below = layout.relative(session_id, record.resource_id)
        root = self.roots.get(record.location)
        return below if root is None else f"{root}/{below}"

    def locations(self, name_or_id: str) -> list[str]:
        """The locations of the volumes meant: all of that name, or the one with that id; or a location itself.

        Raises:
            NoSuchVolumeError: there is none.
        """
        found = [location for location, name in self.names.items() if name == name_or_id]
        if volume_location(name_or_id) in self.names:
            found = [volume_location(name_or_id)]
        elif name_or_id in self.names:
            found = [name_or_id]
        if not found:
            raise NoSuchVolumeError(name_or_id)
        return sorted(found)


def volume_id_of(location: str) -> str:
    """The volume's id, or nothing where the location is none of a volume."""
    kind, _, rest = location.partition(".")
    return rest if kind == "v" and VOLUME_ID.match(rest) else ""


def names(core: Core) -> Flow[Names]:
    """Asks the tables, the heartbeats and this node's markers. Opens no volume, makes none."""
    found: dict[str, str] = {}
    # the least sure first: what a node calls a volume, then what the volume was mounted as last
    for row, volume_id in (yield from ask(op.Table("mounts"))).items():
        found[volume_location(volume_id)] = row.partition("/")[2]
    for node in (yield from nodes.listed(core)):
        found.update((volume_location(volume_id), name) for volume_id, name in node.volumes.items())
    for volume_id, row in (yield from ask(op.Table("vols"))).items():
        known = volume_name(row)
        found[volume_location(volume_id)] = known or found.get(volume_location(volume_id), "")
    roots: dict[str, str] = {}
    for spec in core.settings.volumes:
        marked = yield from work(partial(marker_id, spec))
        if marked:
            roots[volume_location(marked)] = spec.path
            found[volume_location(marked)] = found.get(volume_location(marked)) or spec.name
    return Names(found, roots)


def volume_name(row: str) -> str:
    """The name in a row of `vols`; nothing where it is damaged."""
    name = json_object(row).get("name")
    return name if isinstance(name, str) else ""


def marker_id(spec: VolumeSpec) -> str:
    """The id on the marker below a configured root; nothing where there is none that can be read."""
    try:
        marker = Volume.read_marker(Path(spec.path))
    except VolumeError:
        return ""
    return "" if marker is None else marker.volume_id
