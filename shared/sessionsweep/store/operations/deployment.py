"""Operations beside the partitions: books of users and of all sessions, and what is known of the deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sessionsweep.store.operations.base import Operation


@dataclass(frozen=True, slots=True)
class Reserved:
    """`ok`: a place is reserved until `deadline`. Otherwise `suspects` are members to look at: places that may be
    free, oldest first (lapsed reservations, then the oldest sessions), and `count` how many are taken."""

    ok: bool
    deadline: int
    count: int
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserve(Operation[Reserved]):
    """Reserves a session's place in a book (`user` None: the book of all) for `duration`. Again = success.

    `limit` 0: none. `bound` (ms): a place that the session has there already counts as bound then, if it was bound
    earlier, so that what the session owes for an earlier time with this user doesn't take it away.
    """

    user: str | None
    session_id: str
    limit: int
    duration: int = 60_000
    suspects: int = 50
    bound: int = 0
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Confirm(Operation[bool]):
    """A reservation becomes a lasting place. Places made by users without a limit are made by this alone.

    `bound`: when its session was bound to it (ms; of several bindings the latest counts). 0: now, and a place that
    lasts already stays as it is.
    """

    user: str | None
    session_id: str
    bound: int = 0
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class GiveBack(Operation[bool]):
    """Removes a place; a session's, or with `resource_id` one resource's share of the user's quota (`*`: all of them).

    `before` (ms): only if the place is of a binding until then, or a reservation that had lapsed by then; for whoever
    looked at that time and saw that the session isn't this user's: what it did since is left alone. 0: in any case,
    for whoever knows that the session has ended or that the place is its own.
    """

    user: str | None
    session_id: str
    resource_id: str = ""
    before: int = 0
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Place:
    """A session's place in a book, and where it stands there: `at` grows from the oldest to the newest."""

    session_id: str
    at: int


@dataclass(frozen=True, slots=True)
class BookPage(Operation[tuple[Place, ...]]):
    """Places of a book, oldest first: those that stand at `since` behind the session `after`, and all behind these.

    Going on at the last place answered misses none that is there throughout, whoever comes and goes meanwhile.
    """

    user: str | None
    since: int = 0
    after: str = ""
    limit: int = 100
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Share:
    """`status`: ok (the resource may be registered until `deadline`, ms), limit:resources, limit:bytes, gone.

    `suspects`: at a limit, the shares (`<session> <resource>`) whose resource should be registered by now; each may be
    left over from one that never was, or that went with its session. Of more than 500 shares, some of 500 by chance.
    """

    status: str
    deadline: int = 0
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReserveQuota(Operation[Share]):
    """Reserves one resource's count and bytes in its user's quota, before it is registered.

    0 for a maximum: none. Again with another size: sets it, and leaves its deadline. `present`: only that; a share that
    isn't there, for its session has ended or is another user's by now, is `gone` and stays so.
    """

    user: str
    session_id: str
    resource_id: str
    size: int
    max_resources: int = 0
    max_bytes: int = 0
    duration: int = 60_000
    present: bool = False
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the engine must know of the server, read in one step. `policy`: its maxmemory-policy ("" if it won't say);
    `deployment`: the id of the one whose data it holds ("" if of none: it is new, or was emptied)."""

    run_id: str
    now: int
    version: str = ""
    policy: str = ""
    deployment: str = ""


@dataclass(frozen=True, slots=True)
class Facts(Operation[ServerFacts]):
    """The server's run id, time and memory, from INFO and TIME, and whose data it holds."""

    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Meta(Operation[Mapping[str, str]]):
    """All fields of the deployment's `meta`."""

    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class SetMeta(Operation[bool]):
    """Sets fields of `meta`; with `only_new`, each only if absent. `raise_only`: a number that never goes back."""

    fields: Mapping[str, str]
    only_new: bool = False
    raise_only: bool = False
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RaiseMark(Operation[int]):
    """Raises a volume's row of the table `marks` to now (ms), which it answers; 0: it lies more than `most` ms behind
    what the volume has seen, and stays. A volume without a row is held against `high_water` of `meta`.

    `run_id`: of the server that was asked before `seen` was read; another one raises nothing (0): whoever was paused in
    between, or sends it again, must not raise the mark of an old copy to now. Empty: any.
    """

    volume_id: str
    seen: int
    most: int
    run_id: str = ""
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Table(Operation[Mapping[str, str]]):
    """A small table of the deployment: `holds`, `vols`, `mounts`, `n` (nodes), `p` (web processes), `marks`."""

    name: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TablePut(Operation[bool]):
    """Sets a row of such a table; with `only_new` only if absent. Answers whether the row was new."""

    name: str
    row: str
    value: str
    only_new: bool = False
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TableDrop(Operation[bool]):
    """Removes a row; with `only` only if it says just that: what somebody has written since stays."""

    name: str
    row: str
    only: str | None = None
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TakeLease(Operation[bool]):
    """Takes or renews a lease by name for `duration`; False: another holder has it."""

    name: str
    token: str
    duration: int
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DropLease(Operation[bool]):
    """Gives a lease back, if it is still this token's."""

    name: str
    token: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Counters(Operation[Mapping[str, int]]):
    """The books of a partition; model/books.py names the fields."""

    partition: str
    repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Count(Operation[int]):
    """Adds to counters that the engine alone keeps (sweeps run, orphans destroyed …)."""

    partition: str
    amounts: Mapping[str, int]
