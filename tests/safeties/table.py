"""Each line that keeps a promise, how it is taken out, and a test that misses it. `make safeties` tries them all."""

from __future__ import annotations

from dataclasses import dataclass, field

LIBRARY = "shared/sessionsweep"
LUA = f"{LIBRARY}/store/lua"


@dataclass(frozen=True, slots=True)
class Safety:
    """`old` stands once in `file`; with `new` in its place one of `tests` (pytest's node ids below tests/) must fail.

    `env`: a named seed, where the fault is rare. `only`: an expression for pytest's -k.
    """

    kind: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    only: str = ""
    env: dict[str, str] = field(default_factory=dict)


SAFETIES: tuple[Safety, ...] = (
    # --- due-ness is read again
    Safety(
        "re-check of due-ness",
        "sweep: activity is read in the step that ends",
        f"{LUA}/sweep.lua",
        "  elseif now >= idle_end then\n    held =",
        "  elseif true then\n    held =",
        ("engine/test_passes.py", "store/test_store_sweeping.py"),
    ),
    Safety(
        "re-check of due-ness",
        "`end`: `only_due` is checked inside",
        f"{LUA}/end.lua",
        "  else return {0, false, 0, {}, now, 1} end",
        "  end",
        ("store/test_store_ending.py",),
    ),
    Safety(
        "re-check of due-ness",
        "`extend`: a due session is refused",
        f"{LUA}/extend.lua",
        "if over(prefix, header(raw), now) then return {0, now} end\n",
        "",
        ("store/test_store_sessions.py", "faults/test_ghosts.py"),
    ),
    Safety(
        "re-check of due-ness",
        "`register`: a due session gets no file",
        f"{LUA}/register.lua",
        "if over(prefix, h, now) then return {'ended', {}, 0} end\n",
        "",
        ("store/test_store_resources.py",),
    ),
    Safety(
        "re-check of due-ness",
        "`lease`: pins and back-off are waited out",
        f"{LUA}/lib/queueing.lua",
        "  return math.max(ended, till_of(value))",
        "  return ended",
        ("store/test_store_reclaim.py", "faults/test_stubborn.py"),
    ),
    # --- markers
    Safety(
        "marker check",
        "a volume's marker is compared each time its root is opened",
        f"{LIBRARY}/volumes/tree.py",
        "    if expected is not None and raw != expected:\n",
        "    if False:\n",
        ("engine/test_trust.py", "volumes/test_volume_marker.py"),
    ),
    Safety(
        "marker check",
        "a root without a marker is none",
        f"{LIBRARY}/volumes/mounting.py",
        "            if known is not None:\n",
        "            if False:\n",
        ("engine/test_trust.py", "volumes/test_volume_mounting.py"),
    ),
    Safety(
        "marker check",
        "deployment ids are compared",
        f"{LIBRARY}/engine/trust.py",
        '        if meta.get("deployment") != volume.deployment_id:\n',
        "        if False:\n",
        ("engine/test_trust.py",),
    ),
    Safety(
        "marker check",
        "time marks are compared",
        f"{LIBRARY}/engine/trust.py",
        "        if seen - mark > ROLLED_BACK:\n",
        "        if False:\n",
        ("engine/test_trust.py",),
    ),
    Safety(
        "marker check",
        "the volume's time mark is compared where the store's is raised",
        f"{LUA}/raise_mark.lua",
        "if seen - mark > most then return 0 end\n",
        "",
        ("store/test_store_deployment.py",),
    ),
    Safety(
        "marker check",
        "before each slice: the server's run, the deployment and the volume are read again",
        f"{LIBRARY}/engine/trust.py",
        "        facts = self._store.execute(op.Facts())\n        if facts.run_id != permit.run_id",
        "        return True\n        if facts.run_id != permit.run_id",
        ("engine/test_last_look.py", "faults/test_lost_writes.py"),
    ),
    Safety(
        "marker check",
        "a time mark is raised only in the run of the server that was asked",
        f"{LUA}/raise_mark.lua",
        "if run ~= '' and string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') ~= run then return 0 end\n",
        "",
        ("store/test_store_deployment.py",),
    ),
    # --- orphans
    Safety(
        "second sighting",
        "an orphan is seen twice, a grace apart",
        f"{LIBRARY}/engine/orphans.py",
        "            again = [found for found, seen in zip(files, seen_before, strict=True) if seen]\n",
        "            again = list(files)\n",
        ("engine/test_trust.py",),
    ),
    Safety(
        "second sighting",
        "the first sighting's age is looked at",
        f"{LUA}/sight.lua",
        "now - tonumber(first) >= age and 1 or 0",
        "1",
        ("store/test_store_repair.py",),
    ),
    Safety(
        "second sighting",
        "the owner is asked for again right before",
        f"{LIBRARY}/engine/orphans.py",
        '            if isinstance(answer, StoreError) or answer.session == "live" or any(answer.present):\n',
        "            if isinstance(answer, StoreError):\n",
        ("faults/test_lost_writes.py",),
    ),
    Safety(
        "second sighting",
        "… before each slice of those that go",
        f"{LIBRARY}/engine/orphans.py",
        "            for start in range(0, len(again), SLICE):\n"
        "                self._destroy(permit, partition, again[start : start + SLICE], result)\n",
        "            self._destroy(permit, partition, again, result)\n",
        ("engine/test_last_look.py",),
    ),
    Safety(
        "second sighting",
        "who is silent is seen so twice before it counts as dead",
        f"{LIBRARY}/engine/silence.py",
        "if now - first >= CONFIRM}",
        "}",
        ("engine/test_silence.py",),
    ),
    Safety(
        "second sighting",
        "an orphan is still what was sighted",
        f"{LIBRARY}/volumes/deletion.py",
        "        if sighted is not None and not _is_still(opened, sighted):\n",
        "        if False:\n",
        ("volumes/test_volume_deletion.py",),
    ),
    Safety(
        "cap",
        "more orphans than a healthy volume has stop the pass",
        f"{LIBRARY}/engine/orphans.py",
        "(scan.candidates > scan.cap and not scan.allowed)",
        "False",
        ("engine/test_trust.py", "faults/test_lost_writes.py"),
        "orphans_that_multiply or too_many_orphans",
    ),
    Safety(
        "cap",
        "a whole walk stays below the cap before anything goes",
        f"{LIBRARY}/engine/orphans.py",
        "if not scan.checked or (",
        "if (",
        ("engine/test_trust.py", "faults/test_lost_writes.py"),
        "orphans_that_multiply or too_many_orphans",
    ),
    # --- leases
    Safety(
        "lease",
        "reclaim: the lease is read again before each slice",
        f"{LIBRARY}/engine/reclaim.py",
        "if not held or not self._trust.still(permit):",
        "if not self._trust.still(permit):",
        ("engine/test_passes.py",),
    ),
    Safety(
        "lease",
        "what is leased is not due before the lease is over",
        f"{LUA}/lease.lua",
        "      redis.call('ZADD', queue, string.format('%.0f', now + duration), sid)\n      redis.call('RPUSH'",
        "      redis.call('RPUSH'",
        ("store/test_store_reclaim.py",),
    ),
    # --- descriptors and locks
    Safety(
        "O_NOFOLLOW",
        "folders: openat2 refuses links",
        f"{LIBRARY}/volumes/descriptors.py",
        "_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08 ",
        "_RESOLVE = 0x01 ",
        ("volumes/test_volume_deletion.py", "volumes/test_volume_races.py"),
    ),
    Safety(
        "O_NOFOLLOW",
        "folders, without openat2: O_NOFOLLOW on each component",
        f"{LIBRARY}/volumes/descriptors.py",
        '_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NOFOLLOW | _CLOEXEC',
        '_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CLOEXEC',
        ("volumes/test_volume_deletion.py", "volumes/test_volume_races.py"),
    ),
    Safety(
        "O_NOFOLLOW",
        "a file that is deleted is opened without following",
        f"{LIBRARY}/volumes/deletion.py",
        '_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | ',
        "_NOFOLLOW = ",
        ("volumes/test_volume_deletion.py",),
    ),
    Safety(
        "O_NOFOLLOW",
        "a file that is read is opened without following",
        f"{LIBRARY}/volumes/descriptors.py",
        "_FILE = _NOFOLLOW | _CLOEXEC",
        "_FILE = _CLOEXEC",
        ("volumes/test_volume_files.py", "volumes/test_volume_moving.py", "volumes/test_volume_races.py"),
    ),
    Safety(
        "O_NOFOLLOW",
        "only regular files are opened and removed",
        f"{LIBRARY}/volumes/deletion.py",
        "        if not is_regular(seen.st_mode):\n",
        "        if False:\n",
        ("volumes/test_volume_deletion.py", "faults/test_stubborn.py"),
    ),
    Safety(
        "O_NOFOLLOW",
        "under the lock the name still is the inode",
        f"{LIBRARY}/volumes/deletion.py",
        "            or named.st_ino != opened.st_ino\n",
        "",
        ("volumes/test_volume_deletion.py",),
    ),
    Safety(
        "O_NOFOLLOW",
        "a file in use is busy",
        f"{LIBRARY}/volumes/deletion.py",
        "            fcntl.flock(descriptor, _LOCK)\n        except BlockingIOError:\n"
        "            return Removal(session_id, resource_id, Outcome.BUSY)\n        except OSError as error:\n"
        "            if error.errno",
        "            pass\n        except OSError as error:\n            if error.errno",
        ("volumes/test_volume_deletion.py", "faults/test_stubborn.py"),
    ),
    # --- holds
    Safety(
        "hold",
        "a restarted server ends nobody for idleness",
        f"{LUA}/lib/hold.lua",
        "    if seen and seen ~= run then since, until_ = now, math.max(until_, now + hold) end\n",
        "",
        ("store/test_store_sweeping.py", "engine/test_trust.py"),
    ),
    Safety(
        "hold",
        "who seems idle is not refused while idle ends are held",
        f"{LUA}/lib/over.lua",
        " and not idle_held(prefix, now))",
        ")",
        ("store/test_store_held.py", "sessions/test_held.py"),
    ),
    Safety(
        "hold",
        "nor while nobody has noted yet that the server is another one",
        f"{LUA}/lib/over.lua",
        "  return seen and seen ~=",
        "  return false and seen ~=",
        ("store/test_store_held.py", "sessions/test_held.py"),
    ),
    Safety(
        "hold",
        "who is too old is refused whatever is held",
        f"{LUA}/lib/over.lua",
        "  return now >= old_end or (now >= idle_end",
        "  return (now >= idle_end",
        ("store/test_store_held.py",),
    ),
    Safety(
        "hold",
        "a job attaches to who only seems idle",
        f"{LIBRARY}/sessions/lifecycle.py",
        "    if record is None or peeked.is_due:\n",
        "    if record is None or record.is_due(peeked.now, idle_held=False):\n",
        ("sessions/test_held.py", "sessions/test_life.py"),
    ),
    Safety(
        "hold",
        "orphans wait for the hold",
        f"{LIBRARY}/engine/orphans.py",
        "        if self._trust.idle_held(facts.now):\n",
        "        if False:\n",
        ("faults/test_lost_writes.py",),
    ),
    Safety(
        "hold",
        "a hold on record stops all destruction",
        f"{LIBRARY}/engine/trust.py",
        "            if scope in holds:\n",
        "            if False:\n",
        ("engine/test_trust.py", "cli/test_cli_volumes.py"),
    ),
    Safety(
        "hold",
        "a hold that another worker makes is seen before each slice",
        f"{LIBRARY}/engine/trust.py",
        "        if ALL in holds or volume_scope(permit.volume.id) in holds:\n",
        "        if False:\n",
        ("engine/test_last_look.py",),
    ),
    Safety(
        "hold",
        "a step of the server's clock is a hold",
        f"{LIBRARY}/engine/trust.py",
        "            if abs(jump) > CLOCK_JUMP:\n",
        "            if False:\n",
        ("engine/test_trust.py", "faults/test_server_faults.py"),
    ),
    Safety(
        "hold",
        "an intent begun under another run of the server is assumed live",
        f"{LUA}/overdue.lua",
        "  if v.state == 'i' and v.created <= since then\n",
        "  if false then\n",
        ("store/test_store_repair.py", "store/test_store_sweeping.py", "faults/test_lost_writes.py"),
    ),
    # --- limits
    Safety(
        "limit check",
        "places of sessions are counted",
        f"{LUA}/reserve.lua",
        "if not mine and limit > 0 and taken >= limit then\n",
        "if false then\n",
        ("store/test_store_places.py", "faults/test_limits.py"),
    ),
    Safety(
        "limit check",
        "a place that lapsed binds nobody",
        f"{LUA}/create.lua",
        "if not_after > 0 and now > not_after then return {5, now} end\n",
        "",
        ("store/test_store_sessions.py", "store/test_store_ending.py"),
    ),
    Safety(
        "limit check",
        "what ended is not made again while a reservation may last",
        f"{LUA}/create.lua",
        "if taken and now < tonumber(taken) then return {0, now} end\n",
        "",
        ("store/test_store_ending.py",),
    ),
    Safety(
        "limit check",
        "files of a session are counted",
        f"{LUA}/register.lua",
        "h.resources + 1 - max_resources, h.bytes + size - max_bytes, rid)",
        "0, h.bytes + size - max_bytes, rid)",
        ("store/test_store_resources.py", "faults/test_limits.py"),
    ),
    Safety(
        "limit check",
        "bytes of a session are counted",
        f"{LUA}/register.lua",
        "h.resources + 1 - max_resources, h.bytes + size - max_bytes, rid)",
        "h.resources + 1 - max_resources, 0, rid)",
        ("store/test_store_resources.py", "faults/test_limits.py"),
    ),
    Safety(
        "limit check",
        "a user's files are counted",
        f"{LUA}/quota.lua",
        "if not was and max_resources > 0 and held + 1 > max_resources then",
        "if false then",
        ("store/test_store_places.py",),
    ),
    # --- said again
    Safety(
        "operation id",
        "`register` again is the same resource",
        f"{LUA}/register.lua",
        "  if v.state == 'i' or v.state == 'l' then return {'ok', {}, v.till} end\n  return {'unknown', {}, 0}",
        "",
        ("store/test_store_repeats.py",),
    ),
    Safety(
        "operation id",
        "`create` again is the same session",
        f"{LUA}/create.lua",
        "if there then return {string.sub(there, 3, 18) == mac and 1 or 0, now, there, sid} end\n",
        "",
        ("store/test_store_repeats.py",),
    ),
    Safety(
        "operation id",
        "`lease` again is the same batch",
        f"{LUA}/lease.lua",
        "local again = redis.call('LRANGE', batch, 0, -1)\n",
        "local again = {}\n",
        ("store/test_store_repeats.py", "store/test_store_reclaim.py"),
    ),
    Safety(
        "operation id",
        "`rotate` again is the same token",
        f"{LUA}/rotate.lua",
        "if mac == new_mac then return {1, now, raw} end\n",
        "",
        ("store/test_store_repeats.py",),
    ),
    Safety(
        "operation id",
        "`rotate` wants the old secret",
        f"{LUA}/rotate.lua",
        "if not known then return {0, now} end\n",
        "",
        ("store/test_store_sessions.py",),
    ),
    Safety(
        "operation id",
        "`settle` counts only what was there, and each once",
        f"{LUA}/settle.lua",
        "  local value = not seen[rid] and values[n] ",
        "  local value = values[n] ",
        ("store/test_store_reclaim.py", "store/test_store_repeats.py"),
    ),
)
