"""A program that supervises small programs as the tests declare them: `supervised.py SPECS_JSON STATE`.

STATE is a file that gets `{name: pid}` whenever all are ready.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from sessionsweep_workers.devstack.process import ProcessSpec
from sessionsweep_workers.devstack.readiness import AT_ONCE, Readiness, accepts, answers, logs
from sessionsweep_workers.devstack.supervisor import Supervisor


def readiness(declared: dict[str, object]) -> Readiness:
    """`{"log": …}`, `{"port": …}`, `{"http": …, "path": …}` or nothing."""
    timeout = float(str(declared.get("timeout", 20)))
    if "log" in declared:
        return logs(str(declared["log"]), timeout)
    if "http" in declared:
        return answers(int(str(declared["http"])), "/", timeout)
    if "port" in declared:
        return accepts(int(str(declared["port"])), timeout)
    return AT_ONCE


def main() -> int:
    """Run until stopped."""
    state = Path(sys.argv[2])
    specs = [
        ProcessSpec(
            item["name"],
            [sys.executable if word == "python" else word for word in item["argv"]],
            env={**os.environ, **item.get("env", {})},
            stage=item.get("stage", 0),
            ready=readiness(item),
            stdin=item["stdin"].encode() if "stdin" in item else None,
            silence=item.get("silence"),
        )
        for item in json.loads(sys.argv[1])
    ]

    def on_ready() -> None:
        temporary = state.with_suffix(".new")
        temporary.write_text(json.dumps({spec.name: supervisor.pid(spec.name) for spec in specs}))
        temporary.replace(state)

    supervisor = Supervisor(specs, on_ready=on_ready)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
