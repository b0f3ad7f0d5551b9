"""A deployment with disks of its own, looked at as its operators do: pages, `doctor`, and a real Prometheus."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from sessionsweep_workers.devstack.ports import free_port
from support.processes import LocalProcess

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
PROGRAM = Path(sys.executable).with_name("sessionsweep")
TOKEN = "watched-" + "t" * 40


class Watched:
    """A running `up`. Volume `b` is a disk of its own and `shared` a small one, mounted where only it sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        self.disk = folder / "disk-b"
        env: dict[str, str | None] = {name: None for name in os.environ if name.startswith("SESSIONSWEEP_")}
        env |= {
            "SESSIONSWEEP_GRACE_PERIOD": "0",
            "SESSIONSWEEP_CLEANUP_INTERVAL": "1",
            "SESSIONSWEEP_ADMIN_TOKEN": TOKEN,
        }
        small = shlex.quote(str(self.volume("shared")))
        script = (
            f"umask 077 && mkdir -p {self._words(self.disk, self.volume('b'), self.volume('shared'))}"
            f" && mount -t tmpfs -o size=1m,mode=700 tmpfs {small} && {self._mount_b()}"
            f" && exec {self._words(PROGRAM, 'up', '--data-dir', self.folder)}"
        )
        self.process = LocalProcess(
            "watched",
            ["unshare", "--mount", "sh", "-c", script],
            folder,
            env=env,
            ready_when=(self.folder / "up.json").exists,
            ready_timeout=120,
        )
        self.http = httpx.Client(timeout=30)

    def volume(self, name: str) -> Path:
        """Its root, as the deployment sees it."""
        return self.folder / "volumes" / name

    def _words(self, *words: object) -> str:
        return shlex.join(map(str, words))

    def _mount_b(self) -> str:
        return self._words("mount", "--bind", self.disk, self.volume("b"))

    @property
    def status(self) -> dict[str, Any]:
        """up.json, read anew: restarted processes change their pids."""
        return json.loads((self.folder / "up.json").read_text())  # type: ignore[no-any-return]

    def inside(self, script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a shell's line where the deployment's disks are mounted."""
        argv = ["nsenter", "-t", str(self.process.pid), "-m", "sh", "-c", script]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=check)

    def mount_b(self) -> None:
        """The disk is there again."""
        self.inside(self._mount_b())

    def unmount_b(self) -> None:
        """Though it is in use."""
        self.inside(self._words("umount", "--lazy", self.volume("b")))

    def command(self, *words: str, node: str = "a") -> subprocess.CompletedProcess[str]:
        """The command line, as on that node."""
        environment = self._words(self.folder / "env")
        volumes = f"{node}={self.volume(node)},shared={self.volume('shared')}"
        of_node = self._words(f"SESSIONSWEEP_NODE=node-{node}", f"SESSIONSWEEP_VOLUMES={volumes}", PROGRAM, *words)
        return self.inside(f". {environment}; env {of_node}", check=False)

    def doctor(self) -> list[dict[str, str]]:
        """What it finds that isn't well."""
        answer = self.command("doctor", "--json")
        found = json.loads(answer.stdout)["findings"]
        return [one for one in found if one["level"] in ("failure", "warning", "unknown")]

    def overview(self) -> list[str]:
        """What the dashboard's first page says is to be looked at; nothing: all is well."""
        base = f"{self.status['admin_url']}/admin"
        answer = self.http.get(f"{base}/")
        if answer.status_code != 200 or "Log in" in answer.text:
            self.http.post(f"{base}/ui/login", data={"token": TOKEN, "next": ""}, headers={"Origin": base[:-6]})
            answer = self.http.get(f"{base}/")
        assert answer.status_code == 200, answer.text
        verdict = re.search(r'<section class="verdict.*?</section>', answer.text, re.DOTALL)
        assert verdict is not None, answer.text
        items = re.findall(r"<li>(.*?)</li>", verdict[0], re.DOTALL)
        texts = [re.sub(r"<[^>]+>", "", item.replace("<br>", " ")) for item in items]
        return [re.sub(r"\s+", " ", html.unescape(text)).strip() for text in texts]

    def visit(self) -> str:
        """Somebody leaves a file on `a` and one on `b`, and logs out: their session's id."""
        with self.visitor() as (visitor, session_id):
            visitor.post(f"{self.web('b')}/logout")
        return session_id

    def web(self, node: str) -> str:
        """A web node's address."""
        return next(str(web["url"]) for web in self.status["web"] if web["name"] == f"web-{node}")

    @contextmanager
    def visitor(self) -> Iterator[tuple[httpx.Client, str]]:
        """Somebody with a file on `a` and one on `b`, and their session's id."""
        with httpx.Client(timeout=30) as visitor:
            made = visitor.post(f"{self.web('a')}/files", files={"file": ("note.wav", b"RIFF" * 50, "audio/wav")})
            assert made.status_code == 201, made.text
            assert visitor.post(f"{self.web('b')}/speak", json={"text": "hello"}).status_code == 201
            yield visitor, str(made.json()["session_id"])

    def __enter__(self) -> Watched:
        self.process.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()
        self.process.stop(timeout=20)


class Prometheus:
    """A real one, which scrapes a deployment's admin side every second by our own rules, `for:` shortened to 1 s."""

    def __init__(self, folder: Path, admin_url: str) -> None:
        rules = re.sub(r"for: \d+\w+", "for: 1s", RULES.read_text())
        (folder / "alerts.yml").write_text(rules)
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "alerts.yml")],
            "scrape_configs": [
                {
                    "job_name": "sessionsweep",
                    "authorization": {"credentials": TOKEN},
                    "static_configs": [{"targets": [admin_url.removeprefix("http://")]}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        self.url = f"http://127.0.0.1:{free_port()}"
        argv = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        self.process = LocalProcess("prometheus", argv, folder, ready_when=self._is_ready, ready_timeout=60)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def firing(self) -> list[tuple[str, Mapping[str, str], str]]:
        """(name, labels, summary) of the alerts that somebody is told of."""
        found = httpx.get(f"{self.url}/api/v1/alerts", timeout=20).json()["data"]["alerts"]
        return [
            (one["labels"]["alertname"], one["labels"], one["annotations"]["summary"])
            for one in found
            if one["state"] == "firing"
        ]

    def __enter__(self) -> Prometheus:
        self.process.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stop(timeout=10)
