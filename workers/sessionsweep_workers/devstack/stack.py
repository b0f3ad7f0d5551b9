"""What `sessionsweep up` runs: a server, two web nodes, a worker for each, beat and Flower, all on loopback.

    stage 0   redis               the embedded server, unless SESSIONSWEEP_REDIS_URL names another
    stage 1   worker-a, worker-b  each mounts the volume of its node, and both mount `shared`
    stage 2   web-a, web-b, beat, flower, admin

A web node and the worker beside it are one node (`node-a`): the same name, the same volumes. All
SESSIONSWEEP_ settings of the environment hold for all processes, but VOLUMES and NODE, which make the nodes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sessionsweep.admin.access import Doorkeeper
from sessionsweep.engine.server import refuse_eviction
from sessionsweep.errors import ConfigurationError, StoreError
from sessionsweep.sessions.connect import make_store
from sessionsweep.settings import Settings, redact_url

from .folder import DataFolder
from .ports import LOOPBACK, free_port, is_free
from .process import ProcessSpec
from .readiness import Readiness, answers, logs
from .server import EmbeddedServer
from .supervisor import Supervisor

SHARED = "shared"
SILENCE = 60.0  # seconds without a word after which a worker or beat hangs
LISTENERS = ("web-a", "web-b", "flower", "redis", "admin")  # what gets port_base, port_base + 1, …
FLOWER_USER = "admin"
#: Tasks that Flower remembers, 7 kB each. Its own default, 100,000, is reached in a day, and saved every ten seconds.
FLOWER_TASKS = "1000"
_NEEDED = ("celery", "fastapi", "flask", "flower", "jinja2", "limits", "prometheus_client", "uvicorn", "waitress")
_PYTHON = (sys.executable, "-P")  # -P: a folder named `redis` where `up` is run must not hide the package
_CELERY = (*_PYTHON, "-m", "celery", "-A", "sessionsweep_workers")
_QUIET_CELERY = (*_PYTHON, "-m", f"{__package__}.quiet", "-q", "-A", "sessionsweep_workers")
_ADMIN = ("SESSIONSWEEP_ADMIN_TOKEN", "SESSIONSWEEP_ADMIN_TOKEN_FILE")  # for the admin side alone
_SECRET = ("SESSIONSWEEP_SECRET_KEY", *_ADMIN)  # of the environment: in no file of ours


@dataclass(frozen=True, slots=True)
class Node:
    """One node: a web process and a worker. `volumes` maps names to roots, its own volume first."""

    letter: str
    volumes: Mapping[str, Path]

    @property
    def name(self) -> str:
        return f"node-{self.letter}"

    @property
    def web(self) -> str:
        return f"web-{self.letter}"

    @property
    def worker(self) -> str:
        return f"worker-{self.letter}"

    @property
    def volumes_setting(self) -> str:
        """SESSIONSWEEP_VOLUMES of its processes; new files go to the first."""
        return ",".join(f"{name}={path}" for name, path in self.volumes.items())


def run(data_dir: Path | None = None, port_base: int | None = None, *, verbose: bool = False) -> int:
    """Run the whole stack until SIGINT, SIGTERM or SIGHUP; call it in the main thread.

    Args:
        data_dir: keeps everything for the next run; None: a temporary folder, removed at the end.
        port_base: ports are this and the next four (see `LISTENERS`); None: free ones, the last run's
            if they are.
        verbose: show all that the programs say; else what was done, warnings and errors.

    Returns:
        0 after a clean stop, 1 if something could not be started.

    Raises:
        ConfigurationError: a setting is impossible, a port is taken, a package is missing, another stack
            holds the folder, or the server of SESSIONSWEEP_REDIS_URL can't be used.
    """
    _check_packages()
    with DataFolder(data_dir) as folder:
        return Stack(folder, port_base, os.environ, verbose=verbose).run()


class Stack:
    """The declared processes over one data folder, and what is said about them."""

    def __init__(
        self, folder: DataFolder, port_base: int | None, environ: Mapping[str, str], *, verbose: bool = False
    ) -> None:
        self._folder = folder
        self._verbose = verbose
        self._environ = environ
        state = folder.load_state()
        self._ports = choose_ports(port_base, state.get("ports", {}))
        self._passwords = {
            name: str(state.get("passwords", {}).get(name) or secrets.token_urlsafe(24))
            for name in ("redis", "flower", "flower-cookie")
        }
        folder.save_state({"ports": self._ports, "passwords": self._passwords})
        shared = folder.folder("volumes", SHARED)
        self._nodes = tuple(
            Node(letter, {letter: folder.folder("volumes", letter), SHARED: shared}) for letter in ("a", "b")
        )
        self._server: EmbeddedServer | None = None
        self._redis_url = environ.get("SESSIONSWEEP_REDIS_URL", "")
        if not self._redis_url:
            self._server = EmbeddedServer(
                folder.path / "redis",
                self._ports["redis"],
                {} if verbose else {"loglevel": "warning"},
                password=self._passwords["redis"],
            )
            self._redis_url = self._server.url
        self._shared_env = self._environment()
        self._check_settings()
        self._supervisor = Supervisor(
            self.specs(),
            on_ready=self._announce,
            on_stopping=self._take_leave,
            pass_fds=(folder.lock_fd,),
        )
        self._announced = False

    def run(self) -> int:
        """See `run` of this module."""
        try:
            names = ", ".join(spec.name for spec in self.specs())
            self._say(f"Starting {names}" + ("" if self._verbose else "; --verbose shows all that they say"))
            if os.geteuid() == 0:
                self._say("You are root: good enough to try it out; to serve anybody, run it as a user of its own.")
            status = self._supervisor.run()
            kept = "" if self._folder.temporary else f" What it kept is in {self._folder.path}."
            with contextlib.suppress(OSError):  # nobody reads any more
                self._say(f"All is stopped.{kept}")
            return status
        finally:
            _mute_if_nobody_reads()

    def url(self, name: str) -> str:
        """The address of a listener, without credentials."""
        return f"http://{LOOPBACK}:{self._ports[name]}"

    def specs(self) -> list[ProcessSpec]:
        """All processes, declared."""
        specs = []
        celery = _CELERY if self._verbose else _QUIET_CELERY
        quiet = [] if self._verbose else ["--quiet"]
        level = "INFO" if self._verbose else "WARNING"
        if self._server is not None:
            specs.append(
                ProcessSpec(
                    "redis",
                    self._server.argv,
                    env=self._server.environment,
                    stdin=self._server.configuration(),
                    ready=Readiness(self._server.answers, timeout=300.0),  # it may load a large file
                )
            )
        for node in self._nodes:
            # Threads: one pid is one worker, and no pool process is left when it is killed.
            options = ["-n", f"{node.worker}@%h", "-P", "threads", "-c", "4", "-l", level]
            specs.append(
                ProcessSpec(
                    node.worker,
                    [*celery, "worker", *options, "--without-mingle", "--without-gossip"],
                    env=self._env_of(node),
                    stage=1,
                    ready=logs(r"\bready\.$"),
                    silence=SILENCE,
                )
            )
        specs += [
            ProcessSpec(
                node.web,
                [*_PYTHON, "-m", f"{__package__}.web", "--port", str(self._ports[node.web]), *quiet],
                env=self._env_of(node),
                stage=2,
                ready=answers(self._ports[node.web], "/healthz"),
            )
            for node in self._nodes
        ]
        schedule = self._folder.path / "beat-schedule"
        specs.append(
            ProcessSpec(
                "beat",
                [*celery, "beat", "-l", level, "--schedule", str(schedule)],
                env=self._shared_env,
                stage=2,
                ready=logs(r"beat: Starting|\bready\.$"),
                silence=SILENCE,
            )
        )
        specs.append(
            ProcessSpec(
                "flower",
                [*celery, "flower", *([] if self._verbose else ["--logging=warning"])],
                env={**self._shared_env, **self._flower_env()},
                stage=2,
                ready=answers(self._ports["flower"], "/healthcheck"),
            )
        )
        listen = ["--host", LOOPBACK, "--port", str(self._ports["admin"]), "--no-proxy-headers", "--no-access-log"]
        specs.append(
            ProcessSpec(
                "admin",
                [
                    *(*_PYTHON, "-m", "uvicorn", "--factory", "sessionsweep.admin:create_admin", *listen),
                    *([] if self._verbose else ["--log-level", "warning"]),
                ],
                env={**self._env_of(self._nodes[0]), **self._admin_env()},
                stage=2,
                ready=answers(self._ports["admin"], "/admin/healthz"),
            )
        )
        return specs

    def status(self) -> dict[str, Any]:
        """What stands in `up.json`."""
        pid = self._supervisor.pid
        user = f"{FLOWER_USER}:{self._passwords['flower']}@"
        return {
            "redis_url": self._redis_url,
            "flower_url": self.url("flower").replace("//", f"//{user}", 1),
            "supervisor": {"pid": os.getpid()},
            "beat": {"pid": pid("beat")},
            "redis": {"pid": pid("redis") if self._server is not None else None},
            "flower": {"pid": pid("flower")},
            "admin_url": self.url("admin"),
            "admin": {"pid": pid("admin")},
            "web": [
                {"name": n.web, "url": self.url(n.web), "pid": pid(n.web), "volume": next(iter(n.volumes))}
                for n in self._nodes
            ],
            "workers": [{"name": n.worker, "pid": pid(n.worker), "volumes": list(n.volumes)} for n in self._nodes],
            "volumes": {name: str(path) for node in self._nodes for name, path in node.volumes.items()},
        }

    # what the processes are told

    def _environment(self) -> dict[str, str]:
        # Foreign CELERY_ and FLOWER_ variables would override what is declared here.
        env = {k: v for k, v in self._environ.items() if not k.startswith(("CELERY_", "FLOWER_"))}
        for name in ("SESSIONSWEEP_VOLUMES", "SESSIONSWEEP_NODE", "NOTIFY_SOCKET", *_ADMIN):
            env.pop(name, None)
        env["SESSIONSWEEP_REDIS_URL"] = self._redis_url
        if not env.get("SESSIONSWEEP_SECRET_KEY") and not env.get("SESSIONSWEEP_SECRET_KEY_FILE"):
            env["SESSIONSWEEP_SECRET_KEY_FILE"] = str(self._folder.secret_key())
        env["PYTHONUNBUFFERED"] = "1"  # lines appear when they are said
        return env

    def _env_of(self, node: Node) -> dict[str, str]:
        nodes = ",".join(f"{n.name}={self.url(n.web)}" for n in self._nodes)
        return {
            **self._shared_env,
            "SESSIONSWEEP_VOLUMES": node.volumes_setting,
            "SESSIONSWEEP_NODE": node.name,
            "VOICE_NOTES_NODES": nodes,  # where the example sends a request for another node's file
        }

    def _flower_env(self) -> dict[str, str]:
        return {
            "FLOWER_ADDRESS": LOOPBACK,
            "FLOWER_PORT": str(self._ports["flower"]),
            # In the environment, as anybody may read a command line.
            "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{self._passwords['flower']}",
            "FLOWER_COOKIE_SECRET": self._passwords["flower-cookie"],
            "FLOWER_PERSISTENT": "true",
            "FLOWER_DB": str(self._folder.folder("flower") / "flower"),
            "FLOWER_STATE_SAVE_INTERVAL": "10000",  # ms; what a kill may cost it
            "FLOWER_MAX_TASKS": FLOWER_TASKS,
        }

    def _admin_env(self) -> dict[str, str]:
        """The user's own token, or one that is made and kept in the data folder."""
        given = {name: self._environ[name] for name in _ADMIN if self._environ.get(name)}
        return given or {"SESSIONSWEEP_ADMIN_TOKEN_FILE": str(self._folder.admin_token())}

    def _check_settings(self) -> None:
        """Refuse here, once, what each process would refuse on its own."""
        if self._redis_url == "memory://":
            raise ConfigurationError(
                "SESSIONSWEEP_REDIS_URL=memory:// is one process's memory, and `up` runs several processes; "
                "unset it for the embedded server, or give a server's URL."
            )
        key_file = self._shared_env.get("SESSIONSWEEP_SECRET_KEY_FILE")
        key: dict[str, Any] = {"secret_key_file": key_file} if key_file else {}
        for node in self._nodes:
            settings = Settings(redis_url=self._redis_url, volumes=node.volumes_setting, node=node.name, **key)
        admin = {name.removeprefix("SESSIONSWEEP_").lower(): value for name, value in self._admin_env().items()}
        Doorkeeper(Settings(redis_url=self._redis_url, **key, **admin))
        if self._server is None:
            _check_server(settings)

    # what is said

    def _announce(self) -> None:
        self._folder.write_status(self.status())
        if self._announced:
            return
        self._announced = True
        self._folder.write_environment(self._for_the_command_line())
        kept = "temporary: removed at the end" if self._folder.temporary else "kept"
        where = f"{LOOPBACK}:{self._ports['redis']}" if self._server else redact_url(self._redis_url)
        lines = [(node.web, f"{self.url(node.web)}  files on volume {node.letter}") for node in self._nodes]
        lines += [
            ("flower", str(self.status()["flower_url"])),
            ("dashboard", f"{self.url('admin')}/admin/  log in with the admin token"),
            ("admin", f"{self.url('admin')}/admin/sessions  {self._about_the_token()}"),
            ("redis", f"{where}  its URL with the password is in up.json"),
            ("data", f"{self._folder.path}  ({kept}; all pids and addresses: up.json)"),
            ("cli", f". {shlex.quote(str(self._folder.environment))}; sessionsweep stats"),
        ]
        self._say("\n".join(f"{name:<9}  {text}" for name, text in lines))
        self._say("All is ready. Ctrl-C stops it.")

    def _about_the_token(self) -> str:
        if any(self._environ.get(name) for name in _ADMIN):
            return "the token is SESSIONSWEEP_ADMIN_TOKEN's"
        return f"X-Admin-Token: {self._folder.admin_token().read_text().strip()}"

    def _for_the_command_line(self) -> dict[str, str]:
        """The settings of the first node, but for secrets that are the user's own."""
        env = self._env_of(self._nodes[0])
        return {k: v for k, v in env.items() if k.startswith("SESSIONSWEEP_") and k not in _SECRET}

    def _take_leave(self) -> None:
        self._folder.remove_status()
        self._say("Stopping; Ctrl-C again stops at once.")

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def choose_ports(port_base: int | None, last: Mapping[str, int]) -> dict[str, int]:
    """A port for each of `LISTENERS`.

    Raises:
        ConfigurationError: one of the fixed ones is taken or impossible.
    """
    if port_base is None:
        ports: dict[str, int] = {}
        for name in LISTENERS:
            old = last.get(name)
            taken = frozenset(ports.values())
            keep = isinstance(old, int) and old not in taken and is_free(old)
            ports[name] = old if keep and old is not None else free_port(taken)
        return ports
    if not 1024 <= port_base <= 65536 - len(LISTENERS):
        raise ConfigurationError(f"--port-base {port_base} must be from 1024 to {65536 - len(LISTENERS)}.")
    ports = {name: port_base + offset for offset, name in enumerate(LISTENERS)}
    for name, port in ports.items():
        if not is_free(port):
            raise ConfigurationError(
                f"--port-base {port_base}: port {port} for {name} is in use; choose another or none."
            )
    return ports


def _check_server(settings: Settings) -> None:
    """Whether the user's own server can be used, asked before anything is started on it.

    Raises:
        ConfigurationError: it can't; with its URL, the password hidden, and what to do.
    """
    store = make_store(settings)
    try:
        refuse_eviction(store)
    except StoreError as error:
        why = str(error.__cause__ or error).rstrip(".")
        raise ConfigurationError(
            f"SESSIONSWEEP_REDIS_URL={redact_url(settings.redis_url)} can't be used: {why}. Start that server or "
            "correct the URL; or unset the variable, and `up` starts a server of its own."
        ) from error
    finally:
        store.close()


def _check_packages() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"`sessionsweep up` needs {', '.join(missing)}: pip install 'sessionsweep[up]'.")


def _mute_if_nobody_reads() -> None:
    """After a broken pipe, let Python's last flush go nowhere instead of failing."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
