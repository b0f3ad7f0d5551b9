"""Flower, as `up` starts it, remembers so many tasks and no more: it runs for days beside workers that never rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sessionsweep_workers.devstack.folder import DataFolder
from sessionsweep_workers.devstack.stack import FLOWER_TASKS, Stack

ASK = """
from flower.command import apply_env_options
from tornado.options import options
apply_env_options()
print(options.max_tasks)
"""


def test_flower_takes_its_bound_from_what_up_tells_it(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        (flower,) = (spec for spec in Stack(folder, None, {}).specs() if spec.name == "flower")
    asked = subprocess.run(
        [sys.executable, "-c", ASK], env=dict(flower.env), capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip() == FLOWER_TASKS
