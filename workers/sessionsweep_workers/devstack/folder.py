"""The data folder of a stack: who holds it, what it remembers from run to run, and where it says what runs.

    up.lock      held (flock) by the stack's supervisor and all of its processes, as long as one lives
    up.json      what runs, for programs; there only while all of it is ready
    env          settings for the command line, to be read by a shell; there as long as up.json
    state.json   ports and passwords, so that a later run on the folder has the same addresses
    secret-key   signs the sessions' tokens, unless the environment sets a key
    redis/       the embedded server's append-only file
    flower/      Flower's memory
    volumes/     one folder for each volume

Everything is readable by its owner only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from sessionsweep.errors import ConfigurationError

PREFIX = "sessionsweep-up-"
_PATIENCE = 2.0  # seconds for the processes of a killed predecessor to be gone


class DataFolder:
    """An open data folder; a context manager that gives it up, and removes it if it is temporary.

    Args:
        path: the folder, made if it doesn't exist; None: a temporary one.

    Raises:
        ConfigurationError: another stack holds it, or it can't be made or written to.
    """

    def __init__(self, path: Path | None) -> None:
        self.temporary = path is None
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX)) if path is None else path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock_fd = os.open(self.path / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"--data-dir {self.path} can't be used: {error}") from error
        try:
            self._take_lock()
        except BaseException:
            os.close(self.lock_fd)
            raise
        self.remove_status()  # a killed predecessor's

    @property
    def status(self) -> Path:
        """The path of `up.json`."""
        return self.path / "up.json"

    @property
    def environment(self) -> Path:
        """The path of `env`."""
        return self.path / "env"

    def _take_lock(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(self.lock_fd, 32, 0).decode(errors="replace").strip()
                # Its supervisor is gone and its last processes are going: they hold the lock until they are.
                if _alive(holder) or time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"--data-dir {self.path} is in use by another `sessionsweep up` (pid {holder}); "
                        "stop that or choose another folder."
                    ) from None
                time.sleep(0.02)
            else:
                os.ftruncate(self.lock_fd, 0)
                os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)
                return

    def folder(self, *names: str) -> Path:
        """A folder below, made if it doesn't exist."""
        path = self.path.joinpath(*names)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def secret_key(self) -> Path:
        """The file with the key that signs tokens, made at the first call."""
        path = self.path / "secret-key"
        if not path.exists():
            self._write(path, secrets.token_urlsafe(48) + "\n")
        return path

    def admin_token(self) -> Path:
        """The file with the token of the admin side, made at the first call."""
        path = self.path / "admin-token"
        if not path.exists():
            self._write(path, secrets.token_urlsafe(32) + "\n")
        return path

    def load_state(self) -> dict[str, Any]:
        """What `save_state` saved last; empty if nothing, or if it can't be read."""
        with contextlib.suppress(OSError, ValueError):
            state = json.loads((self.path / "state.json").read_text())
            if isinstance(state, dict):
                return state
        return {}

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Remember ports and passwords for the next run."""
        self._write(self.path / "state.json", json.dumps(state, indent=2) + "\n")

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Write `up.json`, atomically: a reader sees the old or the new, whole."""
        self._write(self.status, json.dumps(status, indent=2) + "\n")

    def write_environment(self, variables: Mapping[str, str]) -> None:
        """Write `env`: lines for a shell that export these."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())]
        self._write(self.environment, "".join(lines))

    def remove_status(self) -> None:
        """Take `up.json` and `env` away: nothing is ready any more."""
        self.status.unlink(missing_ok=True)
        self.environment.unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        temporary = path.with_name(f"{path.name}.new")
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def close(self) -> None:
        """Take `up.json` and `env` away and give the folder up; remove it if it is temporary."""
        self.remove_status()
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
