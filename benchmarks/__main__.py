"""Runs the benchmarks, prints the table, writes it as JSON and says which goals fall short."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.goals import NONE, Benchmark, Row, Scale

#: id → module and function. Imported when it runs, so that one benchmark's libraries don't weigh on another.
BENCHMARKS = {
    "P1": ("requests_sync", "sync_open"),
    "P2": ("requests_async", "async_open"),
    "P3": ("round_trips", "round_trips"),
    "P4": ("memory", "memory"),
    "P5": ("sweep_idle", "empty_sweep"),
    "P6": ("sweep_rate", "sweep_rate"),
    "P7": ("sweep_latency", "latency_under_sweep"),
    "P8": ("scripts", "longest_script"),
    "P9": ("files", "delete_files"),
    "P10": ("orphans", "orphan_pass"),
    "P11": ("by_hand", "against_scan"),
    "P12": ("django_clear", "against_clearsessions"),
    "P13": ("through_celery", "through_celery"),
    "P14": ("in_memory", "in_memory"),
    "P15": ("admin_pages", "scrape"),
    "P16": ("admin_pages", "listing"),
    "P17": ("admin_pages", "overview"),
    "P18": ("measured", "measured"),
}
RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> int:
    """Exit status 0 whether or not goals are met: a loaded machine is no fault of the code. 1: a benchmark failed."""
    args = _arguments()
    scale, rows, failed, took = Scale(args.quick), list[Row](), dict[str, str](), dict[str, float]()
    load_before = os.getloadavg()
    for name in args.only or list(BENCHMARKS):
        begun = time.monotonic()
        print(f"{name} …", end=" ", flush=True, file=sys.stderr)
        try:
            found = _benchmark(name)(scale)
        except Exception as error:
            if args.debug:
                raise
            failed[name] = f"{type(error).__name__}: {error}"
            print(failed[name], file=sys.stderr)
            continue
        took[name] = round(time.monotonic() - begun, 1)
        print(f"{took[name]} s", file=sys.stderr)
        rows += found
    print(table(rows))
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": load_before,
        "load_after": os.getloadavg(),
        "quick": args.quick,
        "seconds": took,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    _write(args.json, rows, failed, machine)
    print(f"\nload {load_before[0]:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cpus; {args.json}")
    short = [row for row in rows if row.verdict == "SHORT"]
    for row in short:
        print(f"short: {row.id} {row.what}: {row.figure:.2f}, goal {row.goal}")
    for name, why in failed.items():
        print(f"failed: {name}: {why}")
    if rows and not short and not failed:
        print("every goal is met")
    return 1 if failed else 0


def table(rows: list[Row]) -> str:
    """The rows in columns."""
    cells = [("id", "what", "ours", "other side", "ratio", "goal", "")]
    for row in rows:
        goal = "" if row.goal == NONE else str(row.goal)
        cells.append((row.id, row.what, row.ours, row.other, f"{row.figure:.2f}", goal, row.verdict))
    widths = [max(len(line[column]) for line in cells) for column in range(7)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in cells)  # fmt: skip


def _benchmark(name: str) -> Benchmark:
    module, function = BENCHMARKS[name]
    found: Benchmark = getattr(import_module(f"benchmarks.{module}"), function)
    return found


def _write(path: Path, rows: list[Row], failed: dict[str, str], machine: dict[str, object]) -> None:
    """The figures of this run, beside those of the benchmarks that it left out, each with its own circumstances."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    measured = {row.id for row in rows}
    kept = [row for row in known.get("rows", []) if row["id"] not in measured]
    fresh = [{**asdict(row), "goal": str(row.goal), "verdict": row.verdict} for row in rows]
    runs = {name: run for name, run in known.get("runs", {}).items() if name in {row["id"] for row in kept}}
    everything = sorted(kept + fresh, key=lambda row: int(row["id"][1:]))
    answer = {"rows": everything, "runs": runs | dict.fromkeys(sorted(measured), machine), "failed": failed}
    path.write_text(json.dumps(answer, indent=1, ensure_ascii=False) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure the goals of docs/performance.md.")
    parser.add_argument("names", nargs="*", metavar="P1", help="which; all by default")
    parser.add_argument("--only", default="", help="the same, separated by commas")
    parser.add_argument("--quick", action="store_true", help="100,000 sessions instead of 1,000,000, fewer rounds")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go (default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="a benchmark that fails ends the run with its traceback")
    args = parser.parse_args()
    args.only = [name.upper() for name in [*args.names, *filter(None, args.only.split(","))]]
    for name in args.only:
        if name not in BENCHMARKS:
            parser.error(f"{name!r} is none of {', '.join(BENCHMARKS)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
