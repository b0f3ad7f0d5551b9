"""Volumes for operators: which there are, made, taken into this deployment, or forgotten for good."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sessionsweep.deployment import Core, partitions
from sessionsweep.errors import ConfigurationError, VolumeError, VolumeUntrustedError
from sessionsweep.model.holds import Hold, mount_scope, orphans_scope, volume_scope
from sessionsweep.model.ids import VOLUME_ID
from sessionsweep.model.resource import volume_location
from sessionsweep.model.rows import json_object
from sessionsweep.model.states import Outcome
from sessionsweep.operator import naming, nodes
from sessionsweep.operator.queries import backlog
from sessionsweep.settings import VolumeSpec
from sessionsweep.store import operations as op
from sessionsweep.store.flow import Flow, ask, work
from sessionsweep.volumes.mounting import Mounts, deployment_id
from sessionsweep.volumes.space import Space, space_at
from sessionsweep.volumes.volume import Volume

SCAN = 200  # keys a step of `forget`


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """One volume as operators see it; `path` where this node is to mount it, `disk` where it does.

    `state`: `here`, `elsewhere` (a live worker mounts it), `silent` (only workers that are silent do), `absent` (none
    does), `unmade` (configured here, no marker yet), or the reason why it can't be used here.
    """

    id: str  # empty while unmade
    name: str
    state: str
    path: str = ""
    nodes: tuple[str, ...] = ()  # whose workers mount it, by heartbeats within NODE_TIMEOUT
    ephemeral: bool = False
    owing_sessions: int = 0
    hold: str = ""  # the reason of a hold on it
    disk: Space | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` closed."""

    volume_id: str
    name: str
    resources: int
    bytes: int


def listed(core: Core) -> Flow[list[VolumeRow]]:
    """Every volume that the store or a worker's heartbeat tells of, and those that this node should mount. Opens no
    volume, makes none."""
    vols = yield from ask(op.Table("vols"))
    mounts = yield from ask(op.Table("mounts"))
    holds = {scope: Hold.read(scope, row) for scope, row in (yield from ask(op.Table("holds"))).items()}
    owing = {row.location: row.sessions for row in (yield from backlog(core))}
    names = yield from naming.names(core)
    seen = yield from nodes.listed(core)
    deployment = (yield from ask(op.Meta())).get("deployment")
    here: dict[str, tuple[VolumeSpec, str, Space | None]] = {}
    rows = []
    for spec in core.settings.volumes:
        volume_id, state, disk = yield from work(partial(_look, spec, deployment))
        hold = holds.get(mount_scope(core.settings.node, spec.name))
        if not volume_id and f"{core.settings.node}/{spec.name}" in mounts:
            # known from before, and not there now: the same row as its volume's, not a second one
            volume_id = mounts[f"{core.settings.node}/{spec.name}"]
            state = hold.reason if hold is not None else "marker-missing" if state == "unmade" else state
        if volume_id:
            here[volume_id] = spec, state, disk
        else:
            reason = hold.reason if hold else ""
            rows.append(VolumeRow("", spec.name, state, spec.path, (), spec.ephemeral, hold=reason))
    told = {volume_id for node in seen for volume_id in node.volumes}
    for volume_id in sorted({*vols, *told, *here}):
        mounting = [node for node in _mounting(core, seen) if volume_id in node.volumes]
        state = "elsewhere" if any(node.alive for node in mounting) else "silent" if mounting else "absent"
        spec_here, state_here, disk = here.get(volume_id, (None, state, None))
        rows.append(
            VolumeRow(
                volume_id,
                names.names.get(volume_location(volume_id), "") if spec_here is None else spec_here.name,
                state_here,
                "" if spec_here is None else spec_here.path,
                tuple(node.name for node in mounting),
                _is_ephemeral(vols.get(volume_id, "{}")),
                owing.get(volume_location(volume_id), 0),
                _hold_on(volume_id, holds, mounts),
                disk,
            )
        )
    return rows


def knows_none() -> Flow[bool]:
    """Whether the store has no deployment: it is new or was emptied. What only others mount may then be unknown."""
    return "deployment" not in (yield from ask(op.Meta()))


def has_any(core: Core) -> Flow[bool]:
    """Whether this deployment uses volumes at all, as far as this node and the workers' heartbeats tell."""
    seen = yield from nodes.listed(core)
    return bool(core.settings.volumes) or any(node.volumes for node in seen)


def init(core: Core, spec: VolumeSpec) -> Flow[tuple[Volume, bool]]:
    """Makes an empty folder a volume of this deployment: (the volume, whether it was made just now).

    Raises:
        VolumeUntrustedError: not empty; another deployment's; or this node has mounted a volume of that name before.
        VolumeIOError: the folder can't be made or written.
    """
    marker = yield from work(partial(Volume.read_marker, Path(spec.path)))
    deployment = (yield from ask(op.Meta())).get("deployment")
    if marker is not None and marker.deployment_id != deployment:
        raise VolumeUntrustedError(
            "foreign-deployment",
            f"{spec.path} is volume {marker.volume_id} of deployment {marker.deployment_id}, not of this store's "
            f"({deployment or 'it has none yet'}). To take it over with all its files: sessionsweep volumes adopt "
            f"{spec.name}",
        )
    mounts = Mounts(core.settings.node, [spec])
    problems = yield from mounts.mount()
    if problems:
        raise problems[0]
    return mounts.here()[0], marker is None


def adopt(core: Core, name: str) -> Flow[Volume]:
    """The operator's word after an emptied store or a moved disk: the volume under this name is this deployment's.

    Its files stay. Those that the store knows no owner of are left to the orphan pass and its cap; a whole walk must
    stay below that before anything goes.

    Raises:
        ConfigurationError: VOLUMES has no such name.
        VolumeUntrustedError: no marker, one that can't be read, or a volume that another process holds exclusively.
    """
    spec = _configured(core, name)
    path = Path(spec.path)
    if (yield from work(partial(Volume.read_marker, path))) is None:
        raise VolumeUntrustedError(
            "marker-missing",
            f"{path} has no volume marker, so there is nothing to adopt: mount the disk, or make a new volume of an "
            f"empty folder: sessionsweep volumes init {spec}",
        )
    volume: Volume = yield from work(partial(Volume.open, path, spec.name, ephemeral=spec.ephemeral))
    deployment = yield from deployment_id()
    if volume.deployment_id != deployment:
        facts = yield from ask(op.Facts())
        # Another deployment's time mark says nothing about this store; ahead of ours it would look like a roll-back.
        yield from ask(op.SetMeta({"high_water": str(facts.now)}, only_new=True))
        mark = int((yield from ask(op.Meta()))["high_water"])
        if ((yield from work(volume.high_water)) or 0) > mark:
            yield from work(partial(volume.set_high_water, mark, lower=True))
        yield from ask(op.TableDrop("marks", volume.id))
        yield from ask(op.TableDrop("scans", volume.id))
        yield from work(partial(volume.restamp, deployment))
    about = json.dumps({"name": spec.name, "ephemeral": spec.ephemeral})
    yield from ask(op.TablePut("vols", volume.id, about))
    yield from ask(op.TablePut("mounts", f"{core.settings.node}/{spec.name}", volume.id))
    yield from ask(op.TableDrop("holds", volume_scope(volume.id)))
    yield from ask(op.TableDrop("holds", orphans_scope(volume.id)))
    yield from ask(op.TableDrop("holds", mount_scope(core.settings.node, spec.name)))
    return volume


def forget(core: Core, name_or_id: str) -> Flow[Forgotten]:
    """Closes everything that is owed or owned on a volume that is gone for good, as forgotten. Touches no file.

    Resumable: calling again closes the rest. The rows go last, so a crash leaves the volume listed.

    Raises:
        VolumeError: no such volume, several of that name, or one that a live node still mounts.
    """
    volume_id, name, rows = yield from _named(core, name_or_id)
    nodes = (yield from _mounting_nodes(core)).get(volume_id, [])
    if nodes:
        raise VolumeError(
            f"Volume {name} ({volume_id}) is mounted by {', '.join(nodes)}: its files are in use and reclaimed "
            "there. Take it out of SESSIONSWEEP_VOLUMES and restart, then forget it."
        )
    for spec in core.settings.volumes:
        marker = yield from work(partial(naming.marker_id, spec))
        if marker == volume_id:
            raise VolumeError(f"Volume {name} ({volume_id}) is mounted here, at {spec.path}: it isn't gone.")
    location = volume_location(volume_id)
    resources = size = 0
    for partition in (yield from partitions(core)):
        cursor = 0
        while True:
            # All keys, not the queue: live sessions' files and dead letters are in no queue.
            cursor, ids = yield from ask(op.ScanSessions(partition, cursor, SCAN))
            for session_id in ids:
                counted, freed = yield from _close(core, session_id, location)
                resources += counted
                size += freed
            if cursor == 0:
                break
    if not rows and not resources:
        raise naming.NoSuchVolumeError(name_or_id)
    for row, known in (yield from ask(op.Table("mounts"))).items():
        if known == volume_id:
            node, _, mounted_as = row.partition("/")
            yield from ask(op.TableDrop("holds", mount_scope(node, mounted_as)))
            yield from ask(op.TableDrop("mounts", row))
    yield from ask(op.TableDrop("holds", volume_scope(volume_id)))
    yield from ask(op.TableDrop("holds", orphans_scope(volume_id)))
    yield from ask(op.TableDrop("scans", volume_id))
    yield from ask(op.TableDrop("marks", volume_id))
    yield from ask(op.TableDrop("vols", volume_id))
    return Forgotten(volume_id, name, resources, size)


def _close(core: Core, session_id: str, location: str) -> Flow[tuple[int, int]]:
    """Settles all of one session's records at a location as forgotten: (records, bytes)."""
    counted = size = 0
    records = yield from ask(op.ListResources(session_id))
    attempts = [op.Attempt(r.resource_id, Outcome.FORGOTTEN) for r in records if r.location == location]
    for start in range(0, len(attempts), SCAN):
        part = tuple(attempts[start : start + SCAN])
        settle = op.Settle(session_id, location, part, retention=core.retention, own=True)
        settled = yield from ask(settle)
        counted += settled.counted
        size += settled.size
    return counted, size


def _named(core: Core, name_or_id: str) -> Flow[tuple[str, str, bool]]:
    """(id, name, whether a table names it) of the one volume meant. Where the tables' rows were lost, it is known by
    what sessions have there."""
    known = yield from ask(op.Table("vols"))
    names = {volume_id: naming.volume_name(row) for volume_id, row in known.items()}
    if name_or_id in names:
        return name_or_id, names[name_or_id], True
    mounts = yield from ask(op.Table("mounts"))
    if VOLUME_ID.match(name_or_id) and name_or_id in mounts.values():
        return name_or_id, next(row.partition("/")[2] for row, known in mounts.items() if known == name_or_id), True
    found = [volume_id for volume_id, name in names.items() if name == name_or_id]
    if len(found) == 1:
        return found[0], name_or_id, True
    if found:
        raise VolumeError(f"{len(found)} volumes are named {name_or_id!r}; give one's id: {', '.join(sorted(found))}.")
    if VOLUME_ID.match(name_or_id):
        for partition in (yield from partitions(core)):
            queues = yield from ask(op.Queues(partition))
            if any(queue.location == volume_location(name_or_id) for queue in queues):
                return name_or_id, "without a name", False
    raise naming.NoSuchVolumeError(name_or_id)


def _mounting(core: Core, seen: Sequence[nodes.Node]) -> list[nodes.Node]:
    """The nodes whose last heartbeat counts: a silent worker's files are in use until NODE_TIMEOUT says otherwise."""
    return [node for node in seen if node.seen_seconds_ago <= core.settings.node_timeout]


def _mounting_nodes(core: Core) -> Flow[Mapping[str, list[str]]]:
    """Volume id → nodes that mount it, by their heartbeats.

    Raises:
        VolumeError: one of these rows can't be read: that node may mount anything.
    """
    found: dict[str, list[str]] = {}
    for node in _mounting(core, (yield from nodes.listed(core))):
        if not node.readable:
            raise VolumeError(
                f"What node {node.name} mounts can't be told: its heartbeat can't be read. Its worker writes a new one "
                "within seconds; if there is no such node any more, upkeep drops the row in time."
            )
        for volume_id in node.volumes:
            found.setdefault(volume_id, []).append(node.name)
    return found


def _is_ephemeral(row: str) -> bool:
    return bool(json_object(row).get("ephemeral", False))


def _hold_on(volume_id: str, holds: Mapping[str, Hold], mounts: Mapping[str, str]) -> str:
    """The reason of a hold on the volume, or on one of its mounts."""
    scopes = [volume_scope(volume_id), orphans_scope(volume_id)]
    for row, known in mounts.items():
        node, _, name = row.partition("/")
        scopes += [mount_scope(node, name)] if known == volume_id else []
    return next((holds[scope].reason for scope in scopes if scope in holds), "")


def _configured(core: Core, name: str) -> VolumeSpec:
    for spec in core.settings.volumes:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in core.settings.volumes) or "none"
    raise ConfigurationError(
        f"SESSIONSWEEP_VOLUMES of this node ({core.settings.node}) has no volume {name!r} (it has: {known}); add it as "
        f"{name}=/path, or run this on the node that mounts it."
    )


def _look(spec: VolumeSpec, deployment: str | None) -> tuple[str, str, Space | None]:
    """(the volume's id or nothing, its state on this node, its disk)."""
    try:
        marker = Volume.read_marker(Path(spec.path))
    except VolumeUntrustedError as problem:
        return "", problem.reason, None
    if marker is None:
        return "", "unmade", None
    return marker.volume_id, "here" if marker.deployment_id == deployment else "foreign-deployment", _disk(spec.path)


def _disk(path: str) -> Space | None:
    try:
        return space_at(Path(path))
    except OSError:
        return None
