"""`make safeties`: takes each safety out of a copy of the project, and sees whether its tests fail.

ONLY=lease tries those of which kind, words or file have that word. Two at a time, at low priority.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests

from safeties.table import SAFETIES, Safety

ROOT = Path(__file__).parents[2]
AT_ONCE = 2
PARTS = ("shared", "workers", "tests", "examples", "benchmarks", "docs", "deploy", "pyproject.toml")
FAILED, PASSED = 1, 0  # pytest's exit statuses; any other says that nothing was tried


def without(safety: Safety, folder: Path) -> None:
    """A copy of the project in `folder` that lacks it."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*_cache"))
        else:
            shutil.copy(ROOT / part, folder / part)
    file = folder / safety.file
    text = file.read_text()
    if text.count(safety.old) != 1:
        raise ValueError(f"{safety.file} has {safety.old!r} {text.count(safety.old)} times, not once")
    file.write_text(text.replace(safety.old, safety.new))


def first_failure(safety: Safety) -> tuple[int, str, float]:
    """(pytest's exit status, the test that failed first, seconds)."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sessionsweep-without-") as name:
        folder = Path(name)
        without(safety, folder)
        path = os.pathsep.join(str(folder / part) for part in ("shared", "workers"))
        argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "-rf"]
        argv += [str(folder / "tests" / test) for test in safety.tests] + (["-k", safety.only] if safety.only else [])
        done = subprocess.run(
            argv,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, **safety.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: os.nice(10),  # noqa: PLW1509 - nothing else runs in the child
            check=False,
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    told = lines[0].partition(" - ")[0].partition(" ")[2] if lines else done.stdout[-300:]
    return done.returncode, told.replace(f"{folder}/", "").removeprefix("tests/"), time.monotonic() - begun


def main() -> int:
    """The exit status: 1 if the tests of any don't miss it."""
    word = os.environ.get("ONLY", "")
    chosen = [one for one in SAFETIES if word in f"{one.kind} {one.what} {one.file}"]
    missed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for safety, (status, test, seconds) in zip(chosen, pool.map(first_failure, chosen), strict=True):
            missed += status != FAILED
            verdict = "found" if status == FAILED else "NOT FOUND" if status == PASSED else f"NOT TRIED ({status})"
            print(f"{verdict:9} {seconds:5.0f} s  {safety.kind}: {safety.what}\n{'':19}{test}", flush=True)
    print(f"{len(chosen)} taken out, {len(chosen) - missed} found")
    return bool(missed) or not chosen


if __name__ == "__main__":
    sys.exit(main())
