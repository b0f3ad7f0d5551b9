"""Completion: commands, options and names of this node's volumes in a real bash; scripts for zsh and fish."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Deployment

BASH = r"""
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_sessionsweep_completion sessionsweep
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which `sessionsweep` is this one."""
    program = tmp_path / "bin" / "sessionsweep"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom sessionsweep.cli.main import main\nmain()\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def script(path: str, shell: str) -> str:
    """What the program prints for a shell to read."""
    environ = {**os.environ, "PATH": path, "_SESSIONSWEEP_COMPLETE": f"source_{shell}"}
    return subprocess.run(["sessionsweep"], env=environ, capture_output=True, text=True, timeout=60, check=True).stdout


def test_bash_completes_commands_options_and_volumes(cli: Deployment, path: str, tmp_path: Path) -> None:
    sourced = tmp_path / "completion.bash"
    sourced.write_text(script(path, "bash"))

    def complete(*words: str) -> set[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", BASH, "bash", str(sourced), "sessionsweep", *words],
            env={**os.environ, **cli.environ, "PATH": path, "SESSIONSWEEP_REDIS_URL": "redis://127.0.0.1:1/0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    assert complete("ho") == complete("--version", "ho") == {"holds"}
    assert complete("holds", "") == {"list", "lift"}
    assert {"--watch", "--json"} <= complete("holds", "list", "--")
    assert complete("volumes", "adopt", "") == {"a"}, "without a store: a Tab waits for none"


@pytest.mark.parametrize(
    ("shell", "begins"), [("zsh", "#compdef sessionsweep"), ("fish", "complete --command sessions")]
)
def test_scripts_for_other_shells(path: str, shell: str, begins: str) -> None:
    assert script(path, shell).startswith(begins)


def test_zsh_completes_at_the_first_tab(path: str) -> None:
    """Which loads the file: what is only defined there would wait for the second."""
    said = script(path, "zsh")
    assert re.search(r"^(\w+)\(\) \{$", said, re.MULTILINE)[1] == "_sessionsweep_completion"  # type: ignore[index]
    assert said.splitlines()[-1].startswith(
        "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _sessionsweep_completion "
    )
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=said, text=True, check=True, timeout=60)
