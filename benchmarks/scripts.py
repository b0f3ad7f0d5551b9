"""P8: how long the longest call of each script blocks the server, and what a touch costs it against a GET."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.deployment import Deployment, resource_id
from benchmarks.goals import Goal, Row, Scale
from benchmarks.sweep_rate import raise_idle
from sessionsweep.engine.sweep import BATCH as STEP
from sessionsweep.model.session import mac_of
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op
from sessionsweep.store.redis.resp import pack
from sessionsweep.store.redis.wire import WIRE

LARGEST = 1000  # resources of one session: the most that the settings allow
VOLUME = "v.0123456789abcdef"


def longest_script(scale: Scale) -> list[Row]:
    """Processor time of the server's main thread: what other processes of a busy machine take doesn't count."""
    with Deployment(cleanup_interval=1) as d:
        d.fill(scale.sessions)
        rows = [_touch(d)]
        longest = _calls(d, 10 if scale.quick else 30)
    for name, times in longest.items():
        worst = max(times)
        rows.append(Row("P8", f"longest {name}", f"{worst:.2f} ms", f"median {statistics.median(times):.2f} ms",
                        worst, Goal(most=5.0)))  # fmt: skip
    return rows


def _touch(d: Deployment) -> Row:
    """Processor time of the server's main thread a call, pipelined 50 deep as under load.

    Not `usec_per_call`: it leaves out reading, parsing and answering, which are most of a GET.
    """
    secret, key = "x" * 43, d.sessions.core.keys[0]
    ids = [d.sessions.core.new_id() for _ in range(1000)]
    d.many([op.CreateSession(sid, mac_of(secret, sid, key), 3_600_000, 0, d.sessions.core.width) for sid in ids])
    wire, keys = WIRE[op.OpenSession], d.store.keys
    opens = [wire.pack(op.OpenSession(sid, (mac_of(secret, sid, key),)), keys, d.store._sha) for sid in ids]
    gets = [pack(["GET", keys.session(sid)]) for sid in ids]
    d.many([op.OpenSession(ids[0], (b"",))])  # the script is loaded
    ours, theirs, ratios = list[float](), list[float](), list[float]()
    for _ in range(15):
        ours.append(server_time(d, opens, 3))
        theirs.append(server_time(d, gets, 12))
        ratios.append(ours[-1] / theirs[-1])
    return Row("P8", "server time of a touch against a GET", f"{statistics.median(ours):.2f} us",
               f"{statistics.median(theirs):.2f} us", statistics.median(ratios), Goal(most=7.0))  # fmt: skip


def server_time(d: Deployment, packed: list[bytes], repeats: int) -> float:
    """Microseconds of processor time a command."""
    channel = d.store._connections.take()
    before = _main_thread(d)
    for _ in range(repeats):
        for begin in range(0, len(packed), 50):
            channel.send(b"".join(packed[begin : begin + 50]))
            for _ in range(50):
                channel.reply()
    spent = _main_thread(d) - before
    d.store._connections.put(channel)
    return spent * 1e6 / (len(packed) * repeats)


def _main_thread(d: Deployment) -> float:
    cpu = d.client.info("cpu")
    return float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"])


def _calls(d: Deployment, repeats: int) -> dict[str, list[float]]:
    core = d.sessions.core
    times: dict[str, list[float]] = {}
    # what the question itself costs is taken off
    asking = statistics.median(-_main_thread(d) * 1000 + _main_thread(d) * 1000 for _ in range(50))

    def timed(name: str, call: Callable[[], object]) -> object:
        before = _main_thread(d)
        answer = call()
        times.setdefault(name, []).append(max(0.0, (_main_thread(d) - before) * 1000 - asking))
        return answer

    def run(name: str, operation: op.Operation[object]) -> object:
        return timed(name, lambda: d.store.execute(operation))

    for _ in range(repeats):
        sid, _ = _largest(d)
        extra = op.Register(sid, resource_id(), "f", VOLUME, 1024, max_resources=LARGEST, max_bytes=10**12)
        run(f"register at the limit of {LARGEST:,}, evicting one", extra)
        many_bytes = op.Register(
            sid, resource_id(), "f", VOLUME, (LARGEST - 1) * 1024, max_resources=LARGEST, max_bytes=LARGEST * 1024
        )
        evicted = 0
        while True:  # a call lets some go, and says that there are more
            made = run(f"step of a register that evicts {LARGEST:,}", many_bytes)
            assert isinstance(made, op.Registered)
            evicted += len(made.evicted)
            if made.status != "again":
                break
        assert evicted >= LARGEST - 1, made.status
        sid, rids = _largest(d)
        ended = run("end", op.EndSession(sid, "logout"))
        assert isinstance(ended, op.Ended)
        assert ended.owed == LARGEST
        lease = op.Lease("00", VOLUME, "lease-" + sid, 60_000, 200)
        leased = run(f"lease of 200 out of {LARGEST:,}", lease)
        assert isinstance(leased, op.Leased)
        attempts = tuple(op.Attempt(rid, Outcome.DELETED) for rid in rids[:200])
        run("settle of 200", op.Settle(sid, VOLUME, attempts))
        failed = tuple(op.Attempt(rid, Outcome.FAILED, 1000, "EIO") for rid in rids[200:400])
        run("settle of 200 failures", op.Settle(sid, VOLUME, failed))
        run("listing of the largest session's resources", op.ListResources(sid))
        _clear_queue(d)
    _sweeps(d, core.width, repeats, timed)
    return times


def _largest(d: Deployment) -> tuple[str, list[str]]:
    sid = d.fill(1)[0]
    rids = [resource_id() for _ in range(LARGEST)]
    for begin in range(0, LARGEST, 200):
        d.many([op.Register(sid, rid, "f", VOLUME, 1024, live=True, max_resources=LARGEST, max_bytes=10**12)
                for rid in rids[begin : begin + 200]])  # fmt: skip
    return sid, rids


def _clear_queue(d: Deployment) -> None:
    d.client.delete(d.store.keys.queue("00", VOLUME))


def _sweeps(d: Deployment, width: int, repeats: int, timed: Callable[[str, Callable[[], object]], object]) -> None:
    """Steps of the engine's batch: due sessions that own nothing, and due ones that own files at two places."""
    core = d.sessions.core
    for owning in (False, True):
        count = STEP * repeats
        ids = d.fill(count, idle=0.001)
        if owning:
            raise_idle(d, ids, 600_000)
            for sid in ids:
                d.many([op.Register(sid, resource_id(), "f", f"v.{n % 2:016}", 1024, live=True) for n in range(100)])
            raise_idle(d, ids, 1)
        d.wait_until(d.now() + 1 + 2 * width)
        step = op.SweepStep("00", width, core.grace, core.hold, STEP)
        name = f"sweep step of {STEP}" + (", 100 files each at 2 places" if owning else "")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            swept = timed(name, lambda: d.store.execute(step))  # noqa: B023
            assert isinstance(swept, op.Swept)
            if not swept.more:
                break
