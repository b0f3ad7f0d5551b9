"""P12: ending expired sessions while requests go on, against Django's `clearsessions` on SQLite."""

from __future__ import annotations

import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.deployment import Deployment
from benchmarks.goals import Goal, Row, Scale, per_second
from sessionsweep.engine.sweep import Sweep


def against_clearsessions(scale: Scale) -> list[Row]:
    """As many expired sessions on each side; SQLite's file on this machine's disk, as Django would have it."""
    count = 20_000 if scale.quick else 100_000
    paced, full, theirs, ratios = list[float](), list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder, Deployment(cleanup_interval=1) as d:
        table = _Django(Path(folder) / "sessions.sqlite3")
        sweep = Sweep(d.sessions.core, d.store)
        for _ in range(3):
            paced.append(_swept(d, sweep, count, 0.5))
            theirs.append(table.cleared(count))
            full.append(_swept(d, sweep, count, 1.0))
            ratios.append(paced[-1] / theirs[-1])
        table.close()
    other = per_second(statistics.median(theirs))
    at_once = statistics.median(a / b for a, b in zip(full, theirs, strict=True))
    return [
        Row("P12", f"expired sessions ended, {count:,}, default pacing, against clearsessions (SQLite)",
            per_second(statistics.median(paced)), other, statistics.median(ratios), Goal(least=1)),
        Row("P12", "… at full speed", per_second(statistics.median(full)), other, at_once),
        Row("P12", "… how long every writer waits meanwhile: one step, against the whole statement",
            "", f"{count / statistics.median(theirs) * 1000:.0f} ms", count / statistics.median(theirs) * 1000),
    ]  # fmt: skip


def _swept(d: Deployment, sweep: Sweep, count: int, effort: float) -> float:
    d.fill(count, idle=0.001)
    d.wait_until(d.now() + 1 + 2 * d.sessions.core.width)
    begun = time.perf_counter()
    result = sweep.run_once(budget=600, effort=effort)
    assert result.idle == count, result
    return count / (time.perf_counter() - begun)


class _Django:
    """Django's session table and the command that clears it."""

    def __init__(self, path: Path) -> None:
        import django
        from django.conf import settings

        if settings.configured:
            # P1 configured Django in this process, and it can't be done twice: the database is added
            settings.DATABASES = {"default": _database(path)}
            settings.INSTALLED_APPS = ["django.contrib.sessions"]
        else:
            settings.configure(
                DATABASES={"default": _database(path)},
                INSTALLED_APPS=["django.contrib.sessions"],
                SECRET_KEY="benchmark",
                USE_TZ=True,
            )
        django.setup()
        from django.core.management import call_command

        self._call = call_command
        call_command("migrate", verbosity=0)

    def cleared(self, count: int) -> float:
        """Expired sessions deleted a second, among as many live ones."""
        from django.contrib.sessions.models import Session

        now = datetime.now(UTC)
        Session.objects.all().delete()
        for expires in (now - timedelta(hours=1), now + timedelta(hours=1)):
            prefix = "x" if expires < now else "l"
            rows = [
                Session(session_key=f"{prefix}{n:031}", session_data="x" * 120, expire_date=expires)
                for n in range(count)
            ]
            Session.objects.bulk_create(rows, batch_size=300)
        begun = time.perf_counter()
        self._call("clearsessions", verbosity=0)
        seconds = time.perf_counter() - begun
        if (left := Session.objects.count()) != count:
            raise AssertionError(f"{left} sessions are left instead of {count}")
        return count / seconds

    def close(self) -> None:
        """Closes the database."""
        from django.db import connections

        connections.close_all()


def _database(path: Path) -> dict[str, str]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
