"""`python -m benchmarks.load soak|load`: runs it, writes the report as JSON, prints its tables and what falls short."""

from __future__ import annotations

import argparse
import json
import platform
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import load, soak
from benchmarks.load.faults import Fault
from benchmarks.load.openloop import PERCENTILES, Measured
from benchmarks.load.tables import table, verdicts
from benchmarks.load.visitors import CAME_BACK, ENDED
from sessionsweep.model.snapshots import ENDED_BY
from sessionsweep.model.states import EndReason

RESULTS = Path(__file__).parents[1] / "results"
MILLISECONDS = [f"{name} ms" for name in PERCENTILES]


def main() -> int:
    """0: every verdict is met or not judged; 1: one falls short."""
    args = _arguments()
    if args.folder:
        return _run(args, args.folder)
    with tempfile.TemporaryDirectory(prefix="sessionsweep-load-") as folder:
        return _run(args, Path(folder))


def _run(args: argparse.Namespace, folder: Path) -> int:
    seconds, before = args.minutes * 60, soak.machine()
    print(f"{args.what}, seed {args.seed}", file=sys.stderr, flush=True)
    outcome: soak.Outcome | load.Outcome
    if args.what == "load":
        step, turn = min(20.0, max(5.0, seconds / 12)), min(30.0, seconds / 6)
        beside = seconds if args.beside is None else args.beside * 60
        plan = load.Plan(
            args.seed, seconds, step, turn, beside=beside, first=args.rate or load.FIRST, top=args.top, kills=args.kills
        )
        outcome = load.load(plan, folder)
    else:
        long = soak.Plan(args.seed, seconds, args.rate or soak.RATE, warm_up=min(soak.WARM_UP, seconds / 4))
        outcome = soak.soak(soak.short(args.seed) if args.short else long, folder)
    after = soak.machine()
    report = {**outcome.as_json(), "machine": {"python": platform.python_version(), "before": before, "after": after}}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")

    tables = _soak(outcome) if isinstance(outcome, soak.Outcome) else _load(outcome)
    print("\n\n".join((*tables, verdicts(outcome.verdicts))))
    for text in outcome.wrong[:20]:
        print(f"wrong: {text}")
    loads = f"load {before['load'][0]:.1f} before, {after['load'][0]:.1f} after, {before['cpus']} cpus"
    print(f"\nseed {args.seed}; {loads}; {args.json}")
    return 1 if any(one.said == "SHORT" for one in outcome.verdicts) else 0


def _soak(outcome: soak.Outcome) -> list[str]:
    heads = ("role", "lives", "RSS median MB", "RSS max MB", "descriptors", "threads")
    rows = [
        (role, one["lives"], one["rss_median"] / 1e6, one["rss_max"] / 1e6, one["fds_max"], one["threads_max"])
        for role, one in outcome.as_json()["roles"].items()
    ]
    counts = outcome.record.counts
    rests = f"visitors: {counts[CAME_BACK]} {CAME_BACK}; {counts[ENDED]} sessions {ENDED}"
    ended = f"by the books {outcome.books.get(ENDED_BY[EndReason.IDLE], 0)} ended idle"
    missed = f"faults that found nothing to harm: {len(outcome.missed)}; that never bit: {outcome.never}"
    return [
        _faults(outcome.faults),
        missed,
        table(heads, rows),
        _latencies({"while soaking": outcome.traffic}),
        f"{rests}, {ended}",
    ]


def _load(outcome: load.Outcome) -> list[str]:
    steps = [
        (one["side"], one["rate"], "held" if one["held"] else "not held", one["p50"], one["p99"], one["failed"])
        for one in outcome.steps
    ]
    beside = outcome.beside
    rows = [(name, *found.values(), beside["cpu_ms_a_request"][name]) for name, found in beside["latency_ms"].items()]
    ratios = [(f"ours to theirs, {name}", value) for name, value in beside["ratios"].items()]
    sides = {load.Up.name: outcome.ours, load.FlaskSession.name: outcome.theirs}
    stretches = {f"{name}, {what}": one for name, found in sides.items() for what, one in found.measured().items()}
    tried = [(one["side"], one["rate"], "held" if one["held"] else "not held", one["p99"]) for one in outcome.tried]
    return [
        table(("side", "rate/s", "", "p50 ms", "p99 ms", "failed"), steps),
        f"side by side at {beside['rate']}/s; failed, and in no percentile: {beside['failed']}",
        table(("side", *MILLISECONDS, "processor ms a request"), rows),
        table(("ratio", ""), ratios),
        table(("for the whole time", "rate/s", "", "p99 ms"), tried),
        _latencies(stretches),
        *(
            f"{name}, kills that found nobody: {len(found.missed)}\n{_faults(found.faults)}"
            for name, found in sides.items()
        ),
        f"processor seconds of the side that rested: { ({name: found.beside for name, found in sides.items()}) }",
        f"files left: ours {outcome.left['ours']}, theirs {outcome.left['theirs']}; sessions owed: {outcome.ours.owed}",
    ]


def _faults(done: Sequence[Fault]) -> str:
    heads = ("fault", "role", "did", "at s", "lasted s", "requests after s", "debt falls after s", "back after s")
    return table(heads, [(f.kind, f.role, f.did, f.at, f.lasted, f.web, f.debt, f.back) for f in done])


def _latencies(found: dict[str, Measured]) -> str:
    rows = []
    for name, one in found.items():
        told = one.as_json()
        late = told["generator_late_ms"]["p99"]
        rows.append((name, one.rate, one.count, one.failures, *told["latency_ms"].values(), late, one.longest_gap))
    heads = ("stretch", "rate/s", "answered", "failed", *MILLISECONDS, "generator late p99 ms", "longest gap s")
    caption = "latencies of the requests that were answered as they should be; a failed one is in no percentile:"
    return f"{caption}\n{table(heads, rows)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.load", description=__doc__)
    parser.add_argument("what", choices=("soak", "load"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of traffic (soak), of each long stretch (load)")
    parser.add_argument("--short", action="store_true", help="a soak of ten seconds, every deadline shortened")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats a run's decisions (default: a new one)")
    rates = (
        f"requests a second: of the soak (default: {soak.RATE:.0f}), of the load test's first step ({load.FIRST:.0f})"
    )
    parser.add_argument("--rate", type=float, help=rates)
    parser.add_argument("--top", type=float, default=load.TOP, help="requests a second of no step more (load)")
    parser.add_argument("--no-kills", action="store_false", dest="kills", help="no stretches with kills (load)")
    parser.add_argument("--beside", type=float, help="minutes of both sides in turns (load; default: --minutes)")
    parser.add_argument("--folder", type=Path, help="kept afterwards (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="where the report goes")
    args = parser.parse_args()
    args.json = args.json or RESULTS / f"{args.what}.json"
    return args


if __name__ == "__main__":
    sys.exit(main())
