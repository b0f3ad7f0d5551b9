"""A disk that carries a volume and the server's append-only file, and is full. Run in a private mount namespace by
test_redis_disk.py: `unshare -m python redis_disk_scenario.py FOLDER [SERVER]`.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import redis

from sessionsweep import Session, StoreUnavailableError
from sessionsweep.admin import metrics
from sessionsweep.operator import vitals
from sessionsweep.operator.doctor import examine
from sessionsweep.operator.findings import Code, Level
from sessionsweep.store import operations as op
from sessionsweep_workers.devstack.server import EmbeddedServer
from support.nodes import Node
from support.processes import wait_until

BIG = 1_000_000


def refusal(node: Node) -> str:
    """Fills what is left of a page, until the server refuses."""
    for _ in range(2000):
        try:
            node.sessions.create()
        except StoreUnavailableError as error:
            return str(error)
    raise AssertionError("the server still writes")


def takes_writes(node: Node) -> bool:
    with contextlib.suppress(StoreUnavailableError):
        node.sessions.create()
        return True
    return False


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    return ballast


def told(node: Node) -> tuple[list[str], dict[str, float]]:
    """What doctor says of it, and what is scraped."""
    said = [f"{one.text} -> {one.fix}" for one in examine(node.core, node.store) if one.code is Code.PERSISTENCE]
    assert all(one.level is Level.FAILURE or "AOF" not in one.text for one in examine(node.core, node.store))
    scraped = {
        sample.labels["file"]: sample.value
        for family in metrics._of(vitals.look(node.core, node.store))
        for sample in family.samples
        if sample.name == "sessionsweep_store_write_failed"
    }
    return said, scraped


def owing(node: Node) -> tuple[Session, Path]:
    """A session that has ended, and the file that it owes."""
    session, _, path = node.session_with_file(BIG)
    session.end()
    node.advance(5)
    return session, path


def reclaim(node: Node) -> None:
    with contextlib.suppress(StoreUnavailableError):
        node.reclaim.run_once()


def main(folder: Path, binary: str | None) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "none", str(folder)], check=True)
    with EmbeddedServer(folder / "redis", binary=binary) as server, contextlib.ExitStack() as stack:
        node = Node(server.url, "t", folder)
        stack.callback(node.close)
        node.mount()
        assert told(node)[1] == {"aof": 0, "snapshot": 0}

        _, path = owing(node)
        ballast = fill(folder)
        assert "the store's server can't write to its disk" in (error := refusal(node)), error
        assert "it goes on by itself (Errors writing to the AOF file: No space left on device" in error, error
        reclaim(node)
        assert path.exists(), "this is why the documents say: another disk"
        said, scraped = told(node)
        assert any("its AOF could not be written" in one and "make room on the disk" in one for one in said), said
        assert scraped == {"aof": 1, "snapshot": 0}
        ballast.unlink()
        wait_until(lambda: takes_writes(node), what="it goes on by itself")
        reclaim(node)
        assert not path.exists()
        assert told(node)[1] == {"aof": 0, "snapshot": 0}

        # nothing to spare: without its file it takes writes, and then writes a new one of all it holds
        session, path = owing(node)
        fill(folder)
        refusal(node)
        with redis.Redis.from_url(server.url) as client:
            client.config_set("appendonly", "no")
            reclaim(node)
            assert not path.exists()
            live, _ = node.sessions.create()
            client.config_set("appendonly", "yes")
            rewritten = "aof_rewrite_in_progress", "aof_rewrite_scheduled"
            wait_until(lambda: not any(client.info("persistence")[name] for name in rewritten), what="it is rewritten")
            assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
        assert told(node)[1] == {"aof": 0, "snapshot": 0}
        server.kill()
        server.restart()
        assert node.store.execute(op.PeekSession(live.id)).record is not None, "kept"
        assert node.store.execute(op.PeekSession(session.id)).record is None
    print("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
