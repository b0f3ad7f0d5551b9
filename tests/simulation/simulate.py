"""`make simulate`: many schedules, in two processes at low priority; tells how far it is, and each that fails.

SCHEDULES=100000 how many; RUN=2 draws others; SEED=1-17 repeats one and shows its last steps; FIRST=5000 goes on there.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests

from simulation.schedule import Report, run

PROCESSES = 2
TELL = 500  # schedules between two lines


def folder() -> Path:
    """Where this process builds its disks: in memory where the system has such a place."""
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
    return base / f"simulated-{os.getpid()}"


def one(seed: str) -> Report:
    """Runs one. What breaks it off is a fault, too: a disk that can't come back to the place where somebody wrote."""
    try:
        return run(seed, folder())
    except Exception as error:
        report = Report(seed)
        report.wrong = [repr(error)]
        return report


def _be_nice() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 10)


def many(seeds: list[str]) -> Iterator[Report]:
    """Runs all, in no order."""
    with multiprocessing.get_context("fork").Pool(PROCESSES, _be_nice) as pool:
        yield from pool.imap_unordered(one, seeds, chunksize=20)


def main() -> int:
    """The exit status: 1 if any failed."""
    if seed := os.environ.get("SEED"):
        report = one(seed)
        print(report)
        return bool(report.wrong)
    first, count = int(os.environ.get("FIRST", "0")), int(os.environ.get("SCHEDULES", "100000"))
    name = os.environ.get("RUN", "1")
    begun, failed, steps, happened = time.monotonic(), 0, 0, Counter[str]()
    for number, report in enumerate(many([f"{name}-{n}" for n in range(first, first + count)]), 1):
        happened.update(report.happened)
        steps += report.words
        failed += bool(report.wrong)
        if report.wrong:
            print(f"{report.seed}: {'; '.join(report.wrong)}", flush=True)
        if number % TELL == 0 or number == count:
            spent = time.monotonic() - begun
            print(f"{number} of {count} schedules, {steps} words, {failed} failed, {spent:.0f} s", flush=True)
    print(", ".join(f"{what}: {times}" for what, times in happened.most_common()))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
