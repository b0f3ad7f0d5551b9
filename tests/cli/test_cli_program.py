"""The program itself: exit status, messages instead of tracebacks, no colour into a pipe, no secret anywhere."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from importlib import metadata

import httpx
import pytest
from command_line import Deployment

from sessionsweep.settings import Settings


def test_config_show_tells_each_setting_and_its_source_and_no_secret(cli: Deployment) -> None:
    rows = {row["name"]: row for row in cli("config", "show", "--json").json()}
    assert set(rows) == set(Settings.model_fields)
    assert (rows["secret_key"]["value"], rows["admin_token"]["value"]) == ("***", "***")
    assert (rows["node"]["value"], rows["node"]["source"]) == ("node-a", "environment")
    assert rows["idle_timeout"]["source"] == "default"
    out = cli("config", "show").out
    assert all(row["variable"] in out for row in rows.values())


@pytest.mark.parametrize(
    ("words", "environ", "message"),
    [
        (["stats"], {"SESSIONSWEEP_REDIS_URL": "redis://:pass-word@127.0.0.1:1/0"}, "can't be reached"),
        (["stats"], {"SESSIONSWEEP_IDLE_TIMEOUT": "soon"}, "SESSIONSWEEP_IDLE_TIMEOUT"),
        (["stats"], {"SESSIONSWEEP_NONSENSE": "1"}, "SESSIONSWEEP_NONSENSE is not a setting"),
        (["config", "show"], {"SESSIONSWEEP_SECRET_KEY": "too-short-a-key"}, "SESSIONSWEEP_SECRET_KEY"),
        (["up", "--port-base", "80"], {"SESSIONSWEEP_SECRET_KEY": "", "SESSIONSWEEP_VOLUMES": ""}, "--port-base 80"),
    ],
)
def test_what_fails_says_why_in_one_message(
    cli: Deployment, words: list[str], environ: dict[str, str], message: str
) -> None:
    done = cli.program(*words, **environ)
    assert (done.status, done.out) == (1, "")
    assert message in done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert not any(secret in done.err for secret in ("pass-word", "too-short-a-key"))


def test_a_wrong_password_is_not_repeated(cli: Deployment) -> None:
    head, _, tail = cli.environ["SESSIONSWEEP_REDIS_URL"].partition("@")
    url = f"{head.rpartition(':')[0]}:wrong-password@{tail}"
    done = cli.program("stats", SESSIONSWEEP_REDIS_URL=url)
    assert done.status == 1
    assert done.err
    assert "wrong-password" not in done.err


@pytest.mark.parametrize("words", [["nonsense"], ["sweep", "everything"], ["stats", "--colour"], ["volumes", "init"]])
def test_wrong_usage_is_status_2(cli: Deployment, words: list[str]) -> None:
    done = cli.program(*words)
    assert (done.status, done.out) == (2, "")
    assert "Usage" in done.err


def test_it_tells_its_version_without_settings_or_a_server(cli: Deployment) -> None:
    done = cli.program("--version", SESSIONSWEEP_REDIS_URL="redis://127.0.0.1:1/0", SESSIONSWEEP_IDLE_TIMEOUT="soon")
    assert (done.status, done.out) == (0, f"sessionsweep {metadata.version('sessionsweep')}\n")


def test_a_pipe_gets_no_colour(cli: Deployment) -> None:
    cli.with_file(user="ana")
    cli.hold("all", "rolled-back")
    for words in (["sessions", "list"], ["stats"], ["holds", "list"], ["sweep", "idle"], ["--help"]):
        done = cli.program(*words, TERM="xterm-256color")
        assert "\x1b" not in done.out + done.err, words


def test_without_typer_it_says_what_to_install() -> None:
    hidden = (
        "import importlib.util as u, sys; real = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name in ('typer', 'rich') else real(name, *rest);"
        "from sessionsweep.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'sessionsweep[cli]'" in done.stderr


def test_the_library_loads_nothing_of_the_command_line() -> None:
    look = (
        "import sys, sessionsweep; sessionsweep.Sessions;"
        "unwanted = ('typer', 'rich', 'sessionsweep.cli', 'sessionsweep.operator');"
        "sys.exit(any(m == u or m.startswith(u + '.') for m in sys.modules for u in unwanted))"
    )
    assert subprocess.run([sys.executable, "-c", look], timeout=30, check=False).returncode == 0


def test_admin_says_where_the_dashboard_is_and_its_root_leads_there(cli: Deployment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONSWEEP_")}
    words = ["admin", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, "-c", "from sessionsweep.cli.main import main; main()", *words],
        env={**clean, **cli.environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stderr is not None
        told = [program.stderr.readline() for _ in range(2)]
        for line in program.stderr:
            if "Uvicorn running" in line:
                break
        answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=30)
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=60)
    assert told[0] == f"dashboard  http://127.0.0.1:{port}/admin/ (log in with a token)\n"
    assert told[1].startswith(f"API        http://127.0.0.1:{port}/admin/sessions (X-Admin-Token)")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/")


def test_ctrl_c_is_status_130_and_says_nothing_false(cli: Deployment) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # takes a connection, and never answers
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONSWEEP_")}
    url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
    with (
        silent,
        subprocess.Popen(
            [sys.executable, "-c", "from sessionsweep.cli.main import main; main()", "stats"],
            env={**clean, **cli.environ, "SESSIONSWEEP_REDIS_URL": url, "SESSIONSWEEP_SOCKET_TIMEOUT": "60"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        silent.settimeout(60)
        held, _ = silent.accept()
        with held:
            program.send_signal(signal.SIGINT)
            out, told = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, "")
    assert "Traceback" not in told
