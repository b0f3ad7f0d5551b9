"""The health check of docker-compose.yml's beats: sound while any was seen within a minute."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from sessionsweep.store import operations as op
from sessionsweep.store.redis.sync import RedisStore

COMPOSE = (Path(__file__).parents[2] / "docker-compose.yml").read_text()


def is_healthy(url: str, namespace: str) -> bool:
    """What docker would say, with the role's environment."""
    found = re.search(r"x-beat-health:.*?- \|\n(.*?)\n  interval", COMPOSE, re.DOTALL)
    assert found is not None
    settings = {"REDIS_URL": url, "NAMESPACE": namespace, "SECRET_KEY": "k" * 32}
    env = {**os.environ, **{f"SESSIONSWEEP_{name}": value for name, value in settings.items()}}
    return subprocess.run([sys.executable, "-c", textwrap.dedent(found[1])], env=env, check=False).returncode == 0


def test_a_beat_is_sound_while_one_was_seen_within_a_minute(redis_url: str, namespace: str) -> None:
    assert COMPOSE.count("healthcheck: *beat-health") == COMPOSE.count("sessionsweep_workers, beat") == 2
    assert not is_healthy(redis_url, namespace)
    store = RedisStore(redis_url, namespace)
    now = store.execute(op.Facts()).now
    store.execute(op.SetMeta({"beat_seen": str(now)}))
    assert is_healthy(redis_url, namespace)
    store.execute(op.SetMeta({"beat_seen": str(now - 61_000)}))
    assert not is_healthy(redis_url, namespace)
    store.close()
