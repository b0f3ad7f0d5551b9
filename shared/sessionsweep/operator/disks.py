"""What the nodes' workers tell of a volume's disk, and what it means: how full it is, and whether it can be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sessionsweep.operator import causes
from sessionsweep.operator.findings import Code, Finding, failure, ok, warning
from sessionsweep.operator.nodes import Node
from sessionsweep.units import format_duration, format_size
from sessionsweep.volumes.space import Space

FULL, FILLING = 0.9, 0.85  # of a disk; the alert rules tell of the first
NO_ROOM = ("ENOSPC", "EDQUOT")  # of writing; deleting needs none
READ_ONLY = "EROFS"  # of the whole file system; what else may be wrong is of the root, where the time is written


@dataclass(frozen=True, slots=True)
class Disk:
    """A volume's disk as the worker of one node that mounts it sees it."""

    node: str
    space: Space

    @property
    def sentence(self) -> str:
        """How full it is, in words."""
        return f"{self.space.full:.0%} full on {self.node}, {format_size(self.space.free)} free"


def told(seen: Sequence[Node], volume_id: str) -> tuple[Disk, ...]:
    """Of each node that lives, mounts the volume and has said."""
    return tuple(
        Disk(node.name, node.space[volume_id]) for node in _mounting(seen, volume_id) if volume_id in node.space
    )


def judge_space(area: str, seen: Sequence[Node], volume_id: str, idle_timeout: float) -> Iterator[Finding]:
    """A disk is told once, though several nodes mount it: as the one tells that sees it fullest."""
    if disks := told(seen, volume_id):
        worst = max(disks, key=lambda disk: (disk.space.full, disk.node))
        said = f"its disk on {worst.node} is {worst.space.full:.0%} full, {format_size(worst.space.free)} free"
        yield of_space(area, worst.space, said, idle_timeout)


def of_space(area: str, space: Space, said: str, idle_timeout: float) -> Finding:
    """How full a volume's disk is, `said` in words. `idle_timeout`: s, the setting's."""
    make_room = f"make room, or a larger disk; what may go: sessionsweep stats, {spare_sessions(idle_timeout)}"
    if space.full > FULL:
        refused = "uploads to it are refused" if not space.free else "soon uploads to it are refused"
        return failure(Code.DISK, area, f"{said}: {refused}", make_room)
    if space.full > FILLING:
        return warning(Code.DISK, area, said, make_room)
    return ok(Code.DISK, area, said)


def judge_writing(area: str, seen: Sequence[Node], volume_id: str) -> Iterator[Finding]:
    """Of each node whose worker could not write to the volume, unless that is told of its full disk."""
    for node in _mounting(seen, volume_id):
        error = node.unwritable.get(volume_id)
        if error is None or is_full_rather(node, volume_id):
            continue
        cause = causes.explained(error)
        fix = f"let the service's user write {node.volumes[volume_id]} on {node.name}, or repair and mount it again"
        if error in NO_ROOM:
            text = f"{node.name} can't write it ({cause}): no file can be kept there; deleting goes on"
            fix = f"make room on {node.name}: see df -i, and its quota"
        elif error == READ_ONLY:
            text = f"{node.name} can't write it ({cause}): files can be neither kept nor deleted"
        else:  # its folders may be written all the same
            text = f"{node.name} can't write its root ({cause}): perhaps files can be neither kept nor deleted"
        yield failure(Code.UNWRITABLE, area, text, fix)


def is_full_rather(node: Node, volume_id: str) -> bool:
    """Whether a node's worker could not write to the volume because its disk is full: one fault, told once."""
    space = node.space.get(volume_id)
    return node.unwritable.get(volume_id) in NO_ROOM and space is not None and space.full > FULL


def spare_sessions(idle_timeout: float) -> str:
    """The command that ends the sessions which are used least: those idle for a third of what they may be."""
    third = idle_timeout / 3
    unit = next((unit for unit in (3600, 60) if third >= unit), 1)
    whole = third // unit * unit
    return f"sweep idle --idle-for {format_duration(whole or third)}"


def _mounting(seen: Sequence[Node], volume_id: str) -> list[Node]:
    return [node for node in seen if node.alive and volume_id in node.volumes]
