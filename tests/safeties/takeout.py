"""`make safeties`: takes each safety out of a copy of the project, and sees a test fail that passes with it.

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
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests

from safeties.table import SAFETIES, Safety

ROOT = Path(__file__).parents[2]
AT_ONCE = 2
PARTS = ("shared", "workers", "tests", "examples", "benchmarks", "docs", "deploy", "pyproject.toml")
FAILED, PASSED = 1, 0  # pytest's exit statuses; any other says that nothing was tried


@dataclass(frozen=True, slots=True)
class Verdict:
    """`test`: the first that failed without the safety; `found`: and that passes with it."""

    found: bool
    said: str
    test: str
    seconds: float


def copy(folder: Path) -> None:
    """The project, in `folder`."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*_cache"))
        else:
            shutil.copy(ROOT / part, folder / part)


def take_out(safety: Safety, folder: Path) -> None:
    """From the copy in `folder`. Raises ValueError: its text doesn't stand there once."""
    file = folder / safety.file
    text = file.read_text()
    if text.count(safety.old) != 1:
        raise ValueError(f"{safety.file} has {safety.old!r} {text.count(safety.old)} times, not once")
    file.write_text(text.replace(safety.old, safety.new))


def run(folder: Path, safety: Safety, tests: list[str], *options: str) -> tuple[int, list[str]]:
    """(pytest's exit status, the tests that failed) in that copy."""
    path = os.pathsep.join(str(folder / part) for part in ("shared", "workers"))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-rf", *options, *tests]
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **safety.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: os.nice(10),
        check=False,
    )
    failed = [line.removeprefix("FAILED ") for line in done.stdout.splitlines() if line.startswith("FAILED tests/")]
    return done.returncode, [line.partition(" - ")[0] for line in failed]


def judge(safety: Safety) -> Verdict:
    """Without it a test must fail; the same test must pass where nothing else is different but that it is there."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sessionsweep-without-") as name:
        folder = Path(name)
        copy(folder)
        whole = (folder / safety.file).read_text()
        take_out(safety, folder)
        only = ("-k", safety.only) if safety.only else ()
        status, failed = run(folder, safety, [f"tests/{test}" for test in safety.tests], "-x", *only)
        if status != FAILED or not failed:
            said = "NOT FOUND" if status == PASSED else f"NOT TRIED ({status})"
            return Verdict(False, said, "", time.monotonic() - begun)
        (folder / safety.file).write_text(whole)
        status, _ = run(folder, safety, failed[:1])
        said = "found" if status == PASSED else "FAILS ANYHOW"
        return Verdict(status == PASSED, said, failed[0].removeprefix("tests/"), time.monotonic() - begun)


def main() -> int:
    """The exit status: 1 if the tests of any don't miss it."""
    word = os.environ.get("ONLY", "")
    chosen = [one for one in SAFETIES if word in f"{one.kind} {one.what} {one.file}"]
    found = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for safety, verdict in zip(chosen, pool.map(judge, chosen), strict=True):
            found += verdict.found
            print(f"{verdict.said:12} {verdict.seconds:4.0f} s  {safety.kind}: {safety.what}", flush=True)
            print(f"{'':20}{verdict.test}", flush=True)
    print(f"{len(chosen)} taken out, {found} found")
    return found < len(chosen) or not chosen


if __name__ == "__main__":
    sys.exit(main())
