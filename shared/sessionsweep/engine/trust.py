"""Whether anything may be destroyed now: the checks before each destroy batch, and the holds they make.

Absence is not evidence. An empty, wrong or rolled-back store, an unmounted or swapped volume, a restarted server or a
jumping clock all look like "nobody owns this"; each is told apart here and stops destruction, loudly.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from sessionsweep.deployment import Core, partitions
from sessionsweep.errors import HeldError, VolumeUntrustedError
from sessionsweep.model.holds import ALL, IDLE, Hold, mark_of, mount_scope, volume_scope
from sessionsweep.store import operations as op
from sessionsweep.store.flow import run
from sessionsweep.store.protocol import Store
from sessionsweep.volumes.mounting import put_hold
from sessionsweep.volumes.volume import Volume

log = logging.getLogger(__name__)

ROLLED_BACK = 300_000  # ms: the store's high-water mark this far behind a volume's means an old snapshot
AHEAD = 60_000  # ms: a volume's mark this far ahead of the server's clock was told by no server, but for a skew
CLOCK_JUMP = 5_000  # ms


@dataclass(frozen=True)
class Permit:
    """Destruction on one volume was allowed, by this run of the server."""

    volume: Volume
    run_id: str


class Trust:
    """The checks of one process. Keeps only what it last saw of the clock."""

    def __init__(self, core: Core, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._core = core
        self._store = store
        self.monotonic = monotonic
        # run id, server's ms, our monotonic clock before it was asked and after it answered
        self._last: tuple[str, int, float, float] | None = None

    def permit(self, volume: Volume) -> Permit:
        """Allows destruction on a volume, or says why not.

        Raises:
            HeldError: it is stopped; a hold is on record.
        """
        facts = self.watch_server()
        holds = self._store.execute(op.Table("holds"))
        for scope in (ALL, volume_scope(volume.id)):
            if scope in holds:
                raise HeldError(str(Hold.read(scope, holds[scope])))
        try:
            volume.verify()
        except VolumeUntrustedError as problem:
            self._core.mounts.forget(volume.name)
            self._hold(mount_scope(self._core.settings.node, volume.name), problem.reason, str(problem))
        # before the store's mark, which is raised first: read the other way round, a mark that another worker raises in
        # between (or while this process is paused) looks like a roll-back and stops everything
        try:
            seen = volume.high_water() or 0
        except VolumeUntrustedError as problem:
            self._hold_state(volume, f"{problem} Then:")
        meta = self._store.execute(op.Meta())
        if meta.get("deployment") != volume.deployment_id:
            known = meta.get("deployment")
            self._hold(
                volume_scope(volume.id),
                "foreign-deployment",
                f"volume {volume.name!r} at {volume.root} belongs to deployment {volume.deployment_id}, but the store "
                + (f"is deployment {known}" if known else "knows no deployment: it was emptied, or is another one")
                + f". If the store is the right one: sessionsweep volumes adopt {volume.name}",
            )
        mark = mark_of(self._store.execute(op.Table("marks")), meta, volume.id)
        if seen - mark > ROLLED_BACK:
            now = self._store.execute(op.Facts()).now
            if seen - now > AHEAD:
                # a snapshot sets the store's mark back, not its clock; and one volume must not stop all the others
                self._hold_state(
                    volume,
                    f"the time mark in the state file of volume {volume.name!r} at {volume.root} lies "
                    f"{(seen - now) // 1000} s ahead of the server's clock, so whether the store was rolled back can't "
                    "be told. Once you know that it is current (was the clock set back?), on a node that mounts it:",
                )
            self._hold(
                ALL,
                "rolled-back",
                f"the store's time mark is {(seen - mark) // 1000} s behind volume {volume.name!r}: an old snapshot "
                "was loaded. Sessions created since are unknown to it, and tokens logged out since live again. If this "
                "is meant: sessionsweep holds lift all; to end every session: sessionsweep users end --all",
            )
        return Permit(volume, facts.run_id)

    def still(self, permit: Permit) -> bool:
        """Re-read before each destroy batch, as the last word with the store: the same server run, not emptied since,
        no hold that another worker made meanwhile, and the same volume under the same path. What was asked since the
        permit was answered by that run."""
        holds = self._store.execute(op.Table("holds"))
        if ALL in holds or volume_scope(permit.volume.id) in holds:
            return False
        facts = self._store.execute(op.Facts())
        if facts.run_id != permit.run_id or facts.deployment != permit.volume.deployment_id:
            return False
        try:
            permit.volume.verify()
        except VolumeUntrustedError:
            return False
        return True

    def mark_time(self, name: str | None = None) -> dict[str, str]:
        """Writes the store's time as a high-water mark to the store and to each volume (or the one named) that is
        trusted. Answers which volumes can't be written: their ids and the errors' names.

        Each volume has a mark of its own in the store: one that was not marked for long can't tell a roll-back, and
        would hide it from the others if they shared one. It is compared where it is raised: the store may have been
        replaced since the permit.
        """
        failed: dict[str, str] = {}
        for volume in self._core.mounts.here():
            if name is not None and volume.name != name:
                continue
            with self._noted(volume, failed):
                permit = self.permit(volume)
                seen = volume.high_water() or 0
                if marked := self._store.execute(op.RaiseMark(volume.id, seen, ROLLED_BACK, permit.run_id)):
                    volume.set_high_water(marked)
        return failed

    @contextlib.contextmanager
    def _noted(self, volume: Volume, failed: dict[str, str]) -> Iterator[None]:
        """One volume that is held or can't be written keeps no other from its mark."""
        try:
            yield
        except HeldError:
            return
        except (OSError, VolumeUntrustedError) as error:
            log.warning("no time mark on volume %s: %s", volume.name, error)
            if isinstance(error, OSError):
                failed[volume.id] = errno.errorcode.get(error.errno or 0, "EIO")

    def watch_server(self) -> op.ServerFacts:
        """Notes a restarted server or a jumping clock: idle ends and orphan destruction stop for HOLD."""
        before = self.monotonic()
        facts = self._store.execute(op.Facts())
        after = self.monotonic()
        meta = self._store.execute(op.Meta())
        if meta.get("run_id") != facts.run_id:
            # the hold comes first: were it noted first and this process died, nobody would hold
            if "run_id" in meta:
                self._hold_idle(
                    "restarted", "the server restarted or failed over and may have forgotten touches", facts
                )
            self._store.execute(op.SetMeta({"run_id": facts.run_id, "run_since": str(facts.now)}))
        last = self._last
        if last is not None and last[0] == facts.run_id:
            passed = facts.now - last[1]
            # both answers may have been slow: what may have passed here at least and at most is no jump
            jump = passed - min(max(passed, (before - last[3]) * 1000), (after - last[2]) * 1000)
            if abs(jump) > CLOCK_JUMP:
                self._hold_idle("clock-jumped", f"the server's clock moved by {jump / 1000:.1f} s on its own", facts)
        self._last = (facts.run_id, facts.now, before, after)
        return facts

    def idle_held(self, now: int) -> bool:
        """Whether orphan destruction waits, as idle ends do."""
        row = self._store.execute(op.Table("holds")).get(IDLE)
        if row is None:
            return False
        until = Hold.read(IDLE, row).until
        if until and until <= now:
            # the one that was read: another worker may have noticed another restart since
            self._store.execute(op.TableDrop("holds", IDLE, row))
            return False
        return True

    def show_idle_hold(self, until: int) -> None:
        """Puts on record that partitions hold their idle ends until then (ms), if no hold says so: a row that was lost,
        or somebody who wrote to a partition only, must not stop them in silence."""
        row = self._store.execute(op.Table("holds")).get(IDLE)
        now = self._store.execute(op.Facts()).now
        stands = row is not None and not 0 < Hold.read(IDLE, row).until <= now
        if stands or until <= now:
            return
        text = "partitions hold their idle ends, and what was the cause is not on record"
        hold = Hold(IDLE, "restarted", text, now, self._core.settings.node, until)
        self._store.execute(op.TablePut("holds", IDLE, hold.encode()))
        log.warning("idle ends are held for %s s: %s", (until - now) / 1000, text)

    def _hold_idle(self, reason: str, what: str, facts: op.ServerFacts) -> None:
        duration = self._core.hold
        for partition in run(partitions(self._core), self._store):
            self._store.execute(op.HoldIdle(partition, duration))
        text = (
            f"{what}: idle ends and orphan destruction wait {duration / 1000:.0f} s for live clients to be seen again"
        )
        hold = Hold(IDLE, reason, text, facts.now, self._core.settings.node, facts.now + duration)
        self._store.execute(op.TablePut("holds", IDLE, hold.encode()))
        log.warning("idle ends are held (%s) for %s s", reason, duration / 1000)

    def _hold_state(self, volume: Volume, text: str) -> NoReturn:
        scope = volume_scope(volume.id)
        self._hold(scope, "state-unreadable", f"{text} sessionsweep holds lift {scope}")

    def _hold(self, scope: str, reason: str, text: str) -> NoReturn:
        run(put_hold(scope, reason, text, self._core.settings.node), self._store)
        raise HeldError(text)
