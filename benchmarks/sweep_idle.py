"""P5: what looking for due sessions costs when there are none, and what filing touched sessions again costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale
from benchmarks.measure import interleaved
from sessionsweep.model.ids import partition_of
from sessionsweep.store import operations as op

FEW = 1000
TIMEOUT = 1800.0  # seconds: the idle timeout for which the cost of filing again is given


def empty_sweep(scale: Scale) -> list[Row]:
    """A sweep step that finds nothing, against a GET, on a server with few sessions and on one with many."""
    with Deployment() as few, Deployment() as many:
        few.fill(FEW)
        many.fill(scale.sessions)
        sides = dict[str, Callable[[], object]]()
        for name, d in (("few", few), ("many", many)):
            core = d.sessions.core
            d.client.set("raw", b"x" * 72)
            sides[name] = partial(d.store.execute, op.SweepStep("00", core.width, core.grace, core.hold))
            sides[f"get {name}"] = partial(d.client.get, "raw")
        t = interleaved(sides, rounds=scale.rounds * 4, calls=100)
    ours, get = f"{1e6 / t.rate('many'):.0f} us", f"{1e6 / t.rate('get many'):.0f} us"
    return [
        Row("P5", f"a sweep that finds nothing among {scale.sessions:,}, against a GET", ours, get,
            1 / t.ratio("many", "get many"), Goal(most=1.5)),
        Row("P5", f"… its cost there against that among {FEW:,}", ours, f"{1e6 / t.rate('few'):.0f} us",
            1 / t.ratio("many", "few"), Goal(most=1.25)),
        _filing_again(scale),
    ]  # fmt: skip


def _filing_again(scale: Scale) -> Row:
    """Sessions whose slot has passed but that were touched since: each is filed at its true slot."""
    count = scale.sessions // 10
    with Deployment(cleanup_interval=1) as d:
        core = d.sessions.core
        ids = d.fill(count, idle=0.2)
        # what a touch does to a session that is due later than its slot says, without keeping 100,000 alive by requests
        for begin in range(0, count, 1000):
            pipeline = d.client.pipeline(transaction=False)
            for sid in ids[begin : begin + 1000]:
                pipeline.setrange(d.store.keys.session(sid), 24, (86_400_000).to_bytes(5, "big"))
            pipeline.execute()
        d.wait_until(d.now() + 200 + core.width)
        assert partition_of(ids[0]) == "00"
        step = op.SweepStep("00", core.width, core.grace, core.hold)
        d.client.get("raw")
        times, refiled = list[float](), 0
        while refiled < count:
            d.reset_server_time()
            d.client.get("raw")
            for _ in range(200):
                swept = d.store.execute(step)
                refiled += swept.refiled
                assert swept.idle == swept.expired == 0
                if not swept.more:
                    break
            else:
                times.append(d.server_time("evalsha")["evalsha"] / step.limit)
            if not swept.more:
                break
        assert refiled == count, f"{refiled} of {count} were filed again"
    micros = statistics.median(times)
    share = 1_000_000 * micros / 1e6 / TIMEOUT
    return Row("P5", "filing a touched session again, server time; share of a core for 1,000,000 live at 30 min",
               f"{micros:.1f} us", "", share)  # fmt: skip
