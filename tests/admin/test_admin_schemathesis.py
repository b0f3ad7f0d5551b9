"""The admin API against what it says of itself: requests that its description allows, and many that it doesn't.

A few of each by default, the same ones every time; SCHEMATHESIS_EXAMPLES=200 tries that many for each endpoint.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from admin_client import WRITE, Admin

from sessionsweep.admin import access

FEW = 2
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", FEW))
#: What a parameter means beyond its type, so that 422 is the right answer to most texts of it. Requests that must
#: be accepted are made of these; those that must be refused, of the description as it is.
MEANT: dict[str, dict[str, Any]] = {
    "since": {"type": "string", "pattern": "^[1-9]m$"},  # of what is kept by the minute, too
    "idle_for": {"type": "string", "pattern": "^[1-9][0-9]?[smh]$"},
    "bytes_over": {"type": "string", "pattern": "^[1-9][0-9]?(kB|MiB)$"},
    "by": {"enum": ["minute", "hour", "day"]},
    "session": {"type": "string", "pattern": "^00[0-9a-f]{18}$"},
    "user": {"type": "string", "pattern": "^[A-Za-z0-9 <>]{1,60}$"},
    "user_id": {"type": "string", "pattern": "^[A-Za-z0-9 <>]{1,60}$"},
}
MADE = ("cursor", "last-event-id", "Last-Event-ID")  # only a listing makes one: forged ones are refused
#: 404: an id that was made up names nothing. 409: no workers take orders here, and all are told so.
DOCUMENTED = [200, 202, 401, 403, 404, 409]


@pytest.fixture
def patient(make_admin: Callable[..., Admin], monkeypatch: pytest.MonkeyPatch) -> Admin:
    """An admin side with something in it, and no limit on wrong tokens, which is tried elsewhere."""
    monkeypatch.setattr(access, "WRONG_A_MINUTE", 1_000_000)
    admin = make_admin(idle_timeout=6000, max_duration=60_000)
    for user in ("ana", "<script>", None):
        admin.node.session_with_file(100, user=user)
    return admin


def run(admin: Admin, described: dict[str, Any], folder: Path, *options: str) -> str:
    """A run of schemathesis with every check; what it printed. It ends with exit status 0, or the test fails."""
    schema = folder / "openapi.json"
    schema.write_text(json.dumps(described))
    (folder / "schemathesis.toml").write_text(
        f"[checks.positive_data_acceptance]\nexpected-statuses = {json.dumps([str(one) for one in DOCUMENTED])}\n"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", str(schema),
            "--url", str(admin.http.base_url), "--header", f"X-Admin-Token: {WRITE}", "--checks", "all",
            "--max-examples", str(EXAMPLES), "--seed", "20260", "--generation-database", "none", "--no-shrink",
            "--request-timeout", "30", "--continue-on-failure", "--warnings", "off", *options,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    return done.stdout


def described(admin: Admin) -> dict[str, Any]:
    """What the admin side says of itself."""
    answer: dict[str, Any] = admin.http.get("/admin/openapi.json").json()
    return answer


def test_what_it_allows_is_accepted(patient: Admin, tmp_path: Path) -> None:
    schema = described(patient)
    for path in schema["paths"].values():
        for operation in path.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [one for one in parameters if one["name"] not in MADE]
            for one in operation["parameters"]:
                one["schema"] = MEANT.get(one["name"], one["schema"])
    for model in schema["components"]["schemas"].values():
        for name in {"user_id", "scope"} & set(model.get("required", ())):
            model["properties"][name] = MEANT["user_id"]
    phases = "coverage,fuzzing,stateful" if EXAMPLES > FEW else "coverage"
    told = run(patient, schema, tmp_path, "--mode", "positive", "--phases", phases)
    assert f"{sum(map(len, schema['paths'].values()))} selected" in told
    assert patient.get("/stats")["imbalance"] == 0


def test_what_it_does_not_allow_is_refused(patient: Admin, tmp_path: Path) -> None:
    phases = "coverage,fuzzing" if EXAMPLES > FEW else "fuzzing"
    run(patient, described(patient), tmp_path, "--mode", "negative", "--phases", phases)
    assert patient.get("/stats")["imbalance"] == 0
