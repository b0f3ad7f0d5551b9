"""What a process that measures itself does on a full disk: scenarios for a private mount namespace.

Run by test_metrics_full_disk.py as `unshare -m python crowded_scenarios.py SCENARIO`, with a PROMETHEUS_MULTIPROC_DIR
on which a disk of 64 kB is mounted here first. Each prints what was counted, and what a scrape tells.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

DISK = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])


def fill() -> None:
    """Leaves not a byte."""
    with (DISK / "upload").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def told(name: str, **labels: str) -> float | None:
    """What a scrape of any process tells."""
    from sessionsweep.observe.prometheus import exposed

    return exposed().get_sample_value(f"sessionsweep_{name}", labels)


def begun_on_it() -> None:
    """The disk is full when a process begins: it works, and no scrape fails."""
    fill()
    from sessionsweep import Sessions, Settings
    from sessionsweep.observe.prometheus import meter

    sessions = Sessions(Settings(redis_url="memory://", metrics=True))
    for _ in range(3):
        _, token = sessions.create()
        sessions.open(token).end()
    operations = meter()._operations.labels("create", "ok")
    print(operations._value.get(), told("operations_total", operation="create", outcome="ok"))


def filled_later() -> None:
    """It fills up while a process counts: what it told stays told, and it counts on."""
    from sessionsweep.observe.prometheus import meter

    measured = meter()
    measured.limit("BEFORE")
    fill()
    for n in range(500):
        measured.limit(f"LIMIT_{n}")
    measured.limit("BEFORE")
    print(measured._limits.labels("BEFORE")._value.get(), told("limits_hit_total", limit="BEFORE"))


def opened_by_an_app_before() -> None:
    """An app's own figures opened the file, as prometheus_client does it: full of holes."""
    from prometheus_client import Counter

    own = Counter("own", "An app's.", ("n",))
    own.labels("0").inc()
    fill()
    from sessionsweep.observe.prometheus import meter

    measured = meter()
    for n in range(500):
        own.labels(str(n)).inc()
        measured.limit(f"LIMIT_{n}")
    from sessionsweep.observe.prometheus import exposed

    print(own.labels("0")._value.get(), exposed().get_sample_value("own_total", {"n": "0"}))


def forked_on_it() -> None:
    """Children of a process that has measured: each begins files of its own, and finds no room for them."""
    from sessionsweep.observe.prometheus import meter

    measured = meter()
    measured.limit("ALL")
    fill()
    for _ in range(2):
        child = os.fork()
        if not child:
            signal.alarm(60)
            for _ in range(3):
                measured.limit("ALL")
                measured.operation("create", "ok", 0.1)
            for thread in set(threading.enumerate()) - {threading.current_thread()}:
                thread.join()  # they log
            os._exit(int(measured._limits.labels("ALL")._value.get()) == 3)
        assert os.waitpid(child, 0)[1] == 1 << 8, "a child was killed, or lost count"
    (DISK / "upload").unlink()
    child = os.fork()
    if not child:
        measured.limit("ALL")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(measured._limits.labels("ALL")._value.get(), told("limits_hit_total", limit="ALL"))


SCENARIOS = {call.__name__: call for call in (begun_on_it, filled_later, opened_by_an_app_before, forked_on_it)}


class Counting(logging.StreamHandler):  # type: ignore[type-arg]
    """As apps have them: it counts what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        from prometheus_client import REGISTRY, Counter

        lines = REGISTRY._names_to_collectors.get("lines_total") or Counter("lines", "Logged.")
        lines.inc()  # type: ignore[attr-defined]
        super().emit(record)


if __name__ == "__main__":
    logging.basicConfig(handlers=[Counting(sys.stderr)])
    DISK.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", DISK], check=True)
    SCENARIOS[sys.argv[1]]()
