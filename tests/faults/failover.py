"""A primary, a replica that lags, and a real Sentinel that promotes it; a proxy leads to whom Sentinel names."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import redis

from faults.servers import DURABLE, FaultyServer
from sessionsweep_workers.devstack.ports import LOOPBACK, free_port
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.processes import LocalProcess, wait_until

NAME = "ours"


class Failover:
    """Starts all three below `folder`; a context manager. `lag` and `promote` make the fault."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._stack = ExitStack()
        self.primary = FaultyServer(folder / "primary")
        follows = {
            "replicaof": f"{LOOPBACK} {self.primary.port}",
            "masterauth": self.primary.password,
            "repl-diskless-sync-delay": "0",
        }
        self.replica = EmbeddedServer(
            data_dir=folder / "replica",
            extra_config=DURABLE | follows,
            password=self.primary.password,
            binary=os.environ.get("TEST_REDIS_SERVER"),
        )
        self._port = free_port()
        self._configuration = folder / "sentinel.conf"  # Sentinel writes its findings into it
        self._sentinel = LocalProcess(
            "sentinel",
            [*self.primary.argv[:-1], str(self._configuration), "--sentinel"],
            folder,
            env=self.primary.environment,
            cwd=folder,
            ready_when=self._sees_both,
        )

    def _sees_both(self) -> bool:
        try:
            with redis.Redis(host=LOOPBACK, port=self._port, socket_timeout=1) as sentinel:
                return bool(sentinel.sentinel_slaves(NAME))
        except redis.RedisError:
            return False

    def __enter__(self) -> Failover:
        with self._stack:
            self._stack.enter_context(self.primary)
            self._stack.enter_context(self.replica)
            self._configuration.write_text(
                f"port {self._port}\nbind {LOOPBACK}\nprotected-mode no\n"
                f"sentinel monitor {NAME} {LOOPBACK} {self.primary.port} 1\n"
                f"sentinel auth-pass {NAME} {self.primary.password}\n"
                f"sentinel down-after-milliseconds {NAME} 300\nsentinel failover-timeout {NAME} 3000\n"
            )
            self._configuration.chmod(0o600)
            self._stack.enter_context(self._sentinel)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def caught_up(self) -> None:
        """Waits until the replica has all that the primary acknowledged."""
        with self.primary.client() as primary:
            primary.set("caught-up", 1)  # WAIT speaks of what its own connection wrote: without a write, of nothing
            primary.unlink("caught-up")
            wait_until(lambda: primary.wait(1, 100) == 1, what="the replica follows")

    def lag(self) -> None:
        """From now on the replica gets nothing: it is stopped, as by a network that fails, and what the primary wrote
        for it dies with the primary."""
        assert self.replica.pid is not None
        os.kill(self.replica.pid, signal.SIGSTOP)
        with self.primary.client() as primary:
            primary.client_kill_filter(_type="replica")

    def promote(self) -> str:
        """The primary dies, the replica is heard again, and Sentinel makes it the primary; its URL."""
        self.primary.kill()
        assert self.replica.pid is not None
        os.kill(self.replica.pid, signal.SIGCONT)

        def promoted() -> bool:
            with redis.Redis(host=LOOPBACK, port=self._port, socket_timeout=1) as sentinel:
                named = sentinel.sentinel_get_master_addr_by_name(NAME)
            with redis.Redis.from_url(self.replica.url) as client:
                return named is not None and named[1] == self.replica.port and client.role()[0] == b"master"

        wait_until(promoted, 30, "Sentinel promotes the replica")
        return self.replica.url
