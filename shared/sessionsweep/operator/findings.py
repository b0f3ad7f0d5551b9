"""What somebody should know of a deployment: what it is, how grave, in plain words, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How grave a finding is."""

    OK = "ok"
    NOTE = "note"  # nothing to do: worth knowing
    WARNING = "warning"  # works, but will hurt: see to it in daylight
    FAILURE = "failure"  # something isn't served, cleaned or safe now
    UNKNOWN = "unknown"  # it could not be asked


class Code(StrEnum):
    """What was looked at, as a stable name for programs; what it found stands in the finding's text."""

    # the store's and the broker's server
    ANSWERS = "answers"
    VERSION = "version"
    EVICTION = "eviction"
    MEMORY = "memory"
    PERSISTENCE = "persistence"
    REPLICA = "replica"
    CLOCK = "clock"
    ACCESS = "access"
    # the deployment
    SETTINGS = "settings"
    NO_WORKER = "no-worker"
    WORKER = "worker"
    SWEEP = "sweep"
    BEAT = "beat"
    MARKS = "marks"
    RUN_FAILED = "run-failed"
    HOLD = "hold"
    BOOKS = "books"
    DEAD_LETTERS = "dead-letters"
    UNREADABLE = "unreadable"
    QUEUE = "queue"
    # a volume
    VOLUME = "volume"
    DISK = "disk"
    UNWRITABLE = "unwritable"
    UNATTENDED = "unattended"
    NOT_MOUNTED = "not-mounted"
    NOT_ANSWERING = "not-answering"
    FAILING = "failing"
    IN_USE = "in-use"
    OBSERVED = "observed"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `area`: of which server, volume or part. `fix` is empty where there is nothing to
    do."""

    code: Code
    level: Level
    area: str
    text: str
    fix: str = ""

    @property
    def sentence(self) -> str:
        """What it is and what mends it, in one."""
        return f"{self.text}: {self.fix}" if self.fix else self.text


def ok(code: Code, area: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(code, Level.OK, area, text)


def note(code: Code, area: str, text: str, fix: str = "") -> Finding:
    """Nothing to do, but somebody may wonder."""
    return Finding(code, Level.NOTE, area, text, fix)


def warning(code: Code, area: str, text: str, fix: str) -> Finding:
    """See to it in daylight."""
    return Finding(code, Level.WARNING, area, text, fix)


def failure(code: Code, area: str, text: str, fix: str) -> Finding:
    """See to it now."""
    return Finding(code, Level.FAILURE, area, text, fix)


def unknown(code: Code, area: str, text: str, fix: str = "") -> Finding:
    """It could not be asked: that is neither good nor bad."""
    return Finding(code, Level.UNKNOWN, area, text, fix)
