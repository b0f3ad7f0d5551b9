"""What each reason of a hold means for whoever reads it at night: what it stops, what to do, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass

from sessionsweep.model.holds import ALL, IDLE, SERVER, Hold


@dataclass(frozen=True, slots=True)
class Advice:
    """Sentences about a hold, whose own text says what happened; `{scope}`, `{node}`, `{name}` are its own."""

    stops: str
    remedy: str
    ends: str


_IDLE = "idle ends, and deleting files without an owner; log-outs, absolute ends and what they leave go on"
_ALL = "all deleting, on every volume; sessions go on"
_VOLUME = "all deleting on this volume; sessions and other volumes go on"
_ORPHANS = "deleting files without an owner on this volume; what sessions leave there is deleted as ever"
_MOUNT = "deleting on that volume by {node}, whose uploads to it get 503; what is owed there waits, other volumes go on"
_BY_ITSELF = "by itself, within seconds after {node}'s worker can use the volume again"
_LIFTED = "when it is lifted: sessionsweep holds lift {scope}"
_ON_ITS_OWN = "nothing: it is a precaution. If you know that nothing was lost: sessionsweep holds lift idle"
_GONE = (
    " If it is gone for good, or {node} is not to have it any more: take {name} out of that node's "
    "SESSIONSWEEP_VOLUMES, restart the node, and sessionsweep volumes forget it"
)

REASONS = {
    "restarted": Advice(_IDLE, _ON_ITS_OWN, "by itself"),
    "clock-jumped": Advice(_IDLE, _ON_ITS_OWN, "by itself"),
    "rolled-back": Advice(
        _ALL,
        "if the old snapshot was not meant: load the newer data. If it was: sessionsweep users end --all (tokens that "
        "were logged out live again), then sessionsweep holds lift all",
        _LIFTED,
    ),
    "foreign-deployment": Advice(
        _VOLUME,
        "if it is the wrong Redis: correct SESSIONSWEEP_REDIS_URL on {node}. If it is the right one (emptied, or the "
        "disk is from elsewhere): sessionsweep volumes adopt its name, on {node}",
        "when the volume is adopted",
    ),
    "too-many-orphans": Advice(
        _ORPHANS,
        "look at them on {node}: sessionsweep sweep orphans --dry-run. If Redis lost its data: restore it, then lift. "
        "If they may go: lift",
        "when it is lifted (the next whole walk may destroy them): sessionsweep holds lift {scope}",
    ),
    "state-unreadable": Advice(
        _VOLUME,
        "restore that file on {node}; or, once you know that Redis has its newest data, remove it (not where it only "
        "lies ahead of the clock: lifting it on {node} mends that); then lift",
        _LIFTED,
    ),
    "memory-policy": Advice(
        "deleting files without an owner; all else goes on",
        "set the server's maxmemory-policy to noeviction, at run time and in its configuration",
        "by itself, at the next heartbeat of a worker after that",
    ),
    "marker-missing": Advice(_MOUNT, "mount its disk there." + _GONE, _BY_ITSELF),
    "root-missing": Advice(_MOUNT, "mount its disk there, or correct the path." + _GONE, _BY_ITSELF),
    "root-unreadable": Advice(_MOUNT, "let the worker's user read it, or repair the disk (dmesg).", _BY_ITSELF),
    "not-private": Advice(
        _MOUNT,
        "if the folder that it names was exchanged, put the right one back; then see that the service's user alone may "
        "write it (docs/deployment.md says who else may).",
        _BY_ITSELF,
    ),
    "marker-unreadable": Advice(_MOUNT, "restore the marker from a backup, or mount the right disk.", _BY_ITSELF),
    "marker-changed": Advice(
        _MOUNT, "another volume lies where this one lay: mount the right one; if it was meant: nothing.", _BY_ITSELF
    ),
    "marker-newer": Advice(_MOUNT, "upgrade sessionsweep on {node}: a newer version made the volume.", _BY_ITSELF),
    "files-missing": Advice(
        _MOUNT,
        "put its folder `files` back. An empty one made instead would have everything owed there called gone.",
        _BY_ITSELF,
    ),
    "twice-mounted": Advice(_MOUNT, "unmount the copy; {node} sees one volume under two names.", _BY_ITSELF),
    "in-use": Advice(_MOUNT, "stop the process with memory:// that has the volume for itself.", _BY_ITSELF),
}
_OTHERS = {
    ALL: Advice(_ALL, "see what it says", _LIFTED),
    IDLE: Advice(_IDLE, "see what it says", _LIFTED),
    "orphans": Advice(_ORPHANS, "see what it says", _LIFTED),
    SERVER: Advice("deleting files without an owner", "see what it says", "by itself once its cause is gone"),
}


def advice(hold: Hold) -> Advice:
    """What a hold stops, what to do, and when it ends."""
    kind, _, rest = hold.scope.partition(":")
    of_mount = Advice(_MOUNT, "see what it says", _BY_ITSELF)
    unknown = of_mount if kind == "mount" else _OTHERS.get(kind, Advice(_VOLUME, "see what it says", _LIFTED))
    found = REASONS.get(hold.reason, unknown)
    node, _, name = rest.partition("/") if kind == "mount" else (hold.node or "a node that mounts it", "", "")
    words = {"scope": hold.scope, "node": node, "name": name}
    stops, remedy, ends = (text.format_map(words) for text in (found.stops, found.remedy, found.ends))
    return Advice(stops, remedy.removesuffix("."), ends)
