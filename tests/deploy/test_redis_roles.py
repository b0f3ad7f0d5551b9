"""The compose file's Redis: its configuration starts a real server; each role may do its work and no more."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from sessionsweep import Sessions, Settings
from sessionsweep.model.ids import new_session_id
from sessionsweep.store.keys import Keys
from sessionsweep.store.operations import CreateSession, PeekSession
from sessionsweep.store.redis.sync import RedisStore
from sessionsweep_workers.devstack.server import find_server_binary
from sessionsweep_workers.devstack.spawn import spawn, stop
from support.processes import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
ROLES = ("web", "worker", "beat", "flower", "admin")
CELERY = ("worker", "beat", "admin")

Connect = Callable[[str], "redis.Redis"]


@pytest.fixture(scope="module")
def passwords() -> dict[str, str]:
    return {role: secrets.token_hex(16) for role in ROLES}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, passwords: dict[str, str]) -> Iterator[Path]:
    """A server on a UNIX socket, with deploy/'s configuration and users."""
    folder = tmp_path_factory.mktemp("redis")
    users = folder / "users.acl"
    users.write_text(_users(passwords))
    socket = folder / "socket"
    child = spawn(
        [
            str(find_server_binary()), str(DEPLOY / "redis" / "redis.conf"), "--dir", str(folder),
            "--aclfile", str(users), "--port", "0", "--unixsocket", str(socket),
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: child.poll() is not None or _answers(socket), 10, "the server answers")
        assert child.poll() is None, "the server refused its configuration"
        yield socket
    finally:
        stop(child)


def _environment(passwords: dict[str, str]) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        **{f"REDIS_{role.upper()}_PASSWORD": password for role, password in passwords.items()},
    }


def _users(passwords: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", str(DEPLOY / "redis" / "acl.sh")],
        env=_environment(passwords), capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout


def _answers(socket: Path) -> bool:
    try:
        with redis.Redis(unix_socket_path=str(socket), username="health", password="any") as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def connect(server: Path, passwords: dict[str, str]) -> Iterator[Connect]:
    clients: list[redis.Redis] = []

    def make(role: str) -> redis.Redis:
        client = redis.Redis(unix_socket_path=str(server), username=role, password=passwords[role])
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def test_no_password_stands_in_the_users_file(passwords: dict[str, str]) -> None:
    text = _users(passwords)
    assert not [password for password in passwords.values() if password in text]
    assert all(f"user {role} on #" in text for role in ROLES)


def test_a_short_password_is_refused(passwords: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", str(DEPLOY / "redis" / "acl.sh")],
        env=_environment({**passwords, "beat": "short"}), capture_output=True,
        text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert "REDIS_BEAT_PASSWORD has fewer than 16 characters" in done.stderr


def test_the_server_keeps_everything_it_is_told(connect: Connect) -> None:
    info = connect("web").info()
    assert info["maxmemory_policy"] == "noeviction"
    assert info["aof_enabled"] == 1


def test_nobody_enters_without_a_password(server: Path) -> None:
    for user in ({}, {"username": "web", "password": "wrong"}, {"username": "default", "password": "x"}):
        with (
            redis.Redis(unix_socket_path=str(server), **user) as client,
            pytest.raises(redis.RedisError) as caught,
        ):
            client.get("ss:{00}:s:x")
        assert isinstance(caught.value, redis.AuthenticationError | NoPermissionError)


def test_health_may_only_ping(server: Path) -> None:
    with redis.Redis(unix_socket_path=str(server), username="health", password="any") as client:
        assert client.ping()
        for command in (("INFO",), ("GET", "ss:{00}:s:x"), ("CLIENT", "LIST"), ("EVAL", "return 1", "0")):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


@pytest.mark.parametrize("role", ["web", "worker", "beat", "admin"])
def test_roles_of_the_library_reach_its_keys_by_script(connect: Connect, role: str) -> None:
    client = connect(role)
    key = Keys("ss").session("00" + "0" * 18)
    sha = client.script_load("redis.call('SET', KEYS[1], ARGV[1]) return redis.call('TIME')[1]")
    assert int(client.evalsha(sha, 1, key, "x")) > 0
    assert client.unlink(key) == 1
    assert client.info("server")["run_id"]
    client.publish("ss:nudge:v", "1")
    with client.pubsub() as listener:
        listener.subscribe("ss:nudge:v")
        assert listener.get_message(timeout=5)["type"] == "subscribe"


@pytest.mark.parametrize("role", ["web", "worker", "admin"])
def test_the_store_works_as_that_role(server: Path, passwords: dict[str, str], role: str) -> None:
    store = RedisStore(f"unix://{role}:{passwords[role]}@{server}")
    session_id = new_session_id("00")
    store.execute(CreateSession(session_id, b"m" * 32, idle=60_000, max=60_000, width=10_000))
    assert store.execute(PeekSession(session_id)).record is not None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"), ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "SET", "maxmemory", "1"),
        ("SHUTDOWN", "NOSAVE"),
        ("ACL", "LIST"), ("MONITOR",), ("SWAPDB", "0", "1"), ("SCRIPT", "FLUSH"), ("SLAVEOF", "NO", "ONE"),
        ("CLIENT", "KILL", "TYPE", "normal"), ("GET", "other:key"), ("SET", "other:key", "1"),
        ("EVAL", "return redis.call('GET', 'other:key')", "0"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_role_harms_the_server_or_reads_anothers_keys(connect: Connect, role: str, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.ResponseError, match=r"(?i)permission|ACL failure|NOPERM|can't access"):
        connect(role).execute_command(*command)


@pytest.mark.parametrize("role", CELERY)
def test_celery_roles_reach_the_brokers_keys(connect: Connect, role: str) -> None:
    client = connect(role)
    client.lpush("ss:celery:queue", "m")
    assert client.brpop(["ss:celery:queue"], timeout=1) == (b"ss:celery:queue", b"m")
    with client.pubsub() as listener:
        listener.psubscribe("ss:celery:/0.celeryev/worker.*")
        assert listener.get_message(timeout=5)["type"] == "psubscribe"


def test_a_web_node_reads_and_sends_no_task(connect: Connect) -> None:
    client = connect("web")
    with pytest.raises(NoPermissionError):
        client.lpush("ss:celery:queue", "m")
    with pytest.raises(NoPermissionError):
        client.publish("ss:celery:/0.celery.pidbox", "m")


def test_a_web_node_hears_that_its_streams_are_to_close(server: Path, passwords: dict[str, str]) -> None:
    url = f"unix://web:{passwords['web']}@{server}"
    here, there = (Sessions(Settings(redis_url=url, secret_key="k" * 32, node="web-a")) for _ in range(2))
    session, _ = here.create(user="ana")
    closed = threading.Event()
    with session.stream("chat", close=lambda reason: closed.set()):
        assert [one.session_id for one in there.connections("ana")] == [session.id]
        there.end(session.id)
        assert closed.wait(20)
    here.close()
    there.close()


def test_flower_reads_no_session(connect: Connect) -> None:
    client = connect("flower")
    client.lpush("ss:celery:queue", "m")
    assert client.rpop("ss:celery:queue") == b"m"
    for command in (("GET", "ss:{00}:s:x"), ("HGETALL", "ss:{g}:meta"), ("LRANGE", "ss:{00}:o", "0", "-1")):
        with pytest.raises(NoPermissionError):
            client.execute_command(*command)
