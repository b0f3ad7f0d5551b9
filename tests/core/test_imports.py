"""What importing the core pulls in: it must stay usable, and quick to start, without any framework."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: What takes longer to import than all of the core: it comes with the first Settings, store or AsyncSessions.
LATER = {"pydantic", "pydantic_settings", "redis", "asyncio", "ssl"}
FOREIGN = (
    "celery",
    "kombu",
    "flask",
    "fastapi",
    "starlette",
    "django",
    "rich",
    "typer",
    "click",
    "flower",
    "tornado",
)


def _imported(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "statement", ["import sessionsweep", "from sessionsweep import *", "import sessionsweep.settings"]
)
def test_the_core_imports_no_framework(statement: str) -> None:
    loaded = _imported(statement)
    assert "sessionsweep" in loaded
    assert loaded.isdisjoint(FOREIGN), sorted(loaded & set(FOREIGN))


def test_the_core_imports_no_workers() -> None:
    assert "sessionsweep_workers" not in _imported("import sessionsweep; from sessionsweep import *")


@pytest.mark.parametrize("statement", ["import sessionsweep", "from sessionsweep import Sessions, SessionSweepError"])
def test_the_core_imports_nothing_heavy_before_it_is_used(statement: str) -> None:
    loaded = _imported(statement)
    assert loaded.isdisjoint(LATER), sorted(loaded & LATER)


@pytest.mark.parametrize(
    ("statement", "module"),
    [("sessionsweep.Settings", "pydantic"), ("sessionsweep.AsyncSessions", "asyncio")],
)
def test_what_is_imported_later_comes_with_its_first_use(statement: str, module: str) -> None:
    assert module in _imported(f"import sessionsweep; {statement}")


def test_the_probe_sees_a_framework() -> None:
    assert "celery" in _imported("import celery")
