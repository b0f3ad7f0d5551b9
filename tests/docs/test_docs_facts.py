"""Holds what the pages state against the code: drawings, settings, tests, hold reasons, commands, scripts."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest
import typer
from pages import PAGES, ROOT, name

from sessionsweep.cli.app import app
from sessionsweep.integrations.flask.configured import OPTIONS
from sessionsweep.model.states import RESOURCE_TRANSITIONS, SESSION_TRANSITIONS
from sessionsweep.settings import PREFIX, Settings

CONCEPTS = ROOT / "docs/concepts.md"
OPERATIONS = ROOT / "docs/operations.md"
SECURITY = ROOT / "docs/security.md"

_DRAWING = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ARROW = re.compile(r"^ *(\S+) --> (\S+?)(?:: (\S+))?$", re.MULTILINE)
_REASON = re.compile(r'(?:VolumeUntrustedError|_hold|_hold_idle|put_hold)\(\s*(?:[^"]*,\s*)?"([a-z-]+)"')
OUTSIDE = "[*]"


def drawn() -> list[set[tuple[str, str, str]]]:
    """The arrows (from, to, label) of each state diagram on the concepts page."""
    return [set(_ARROW.findall(body)) for body in _DRAWING.findall(CONCEPTS.read_text(encoding="utf-8"))]


def word(state: StrEnum | None) -> str:
    """How a state is drawn; the end for a record that is gone."""
    return OUTSIDE if state is None else state.name.lower()


def test_the_drawing_of_sessions_is_the_table() -> None:
    sessions = drawn()[0] - {(OUTSIDE, "live", ""), ("forgotten", OUTSIDE, "")}
    assert sessions == {(word(a), word(b), "") for a, following in SESSION_TRANSITIONS.items() for b in following}


def test_the_drawing_of_resources_is_the_table() -> None:
    resources = drawn()[1] - {(OUTSIDE, "intent", "")}
    table = {(word(a), word(b), how) for a, ways in RESOURCE_TRANSITIONS.items() for how, b in ways.items()}
    assert resources == table


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_setting_on_a_page_exists(page: Path) -> None:
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields} | OPTIONS
    named = set(re.findall(rf"\b{PREFIX}[A-Z][A-Z_]*[A-Z]", page.read_text(encoding="utf-8")))
    assert sorted(named - known) == []


def test_every_test_on_the_security_page_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", SECURITY.read_text(encoding="utf-8")))
    assert len(named) > 20
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert sorted(one for one in named if not re.search(rf"def {one}\(", code)) == []


def test_every_reason_of_a_hold_is_explained() -> None:
    table = set(re.findall(r"`([a-z]+(?:-[a-z]+)+|restarted)`", OPERATIONS.read_text(encoding="utf-8")))
    raised = set()
    for path in (ROOT / "shared/sessionsweep").rglob("*.py"):
        if {"volumes", "engine"} & set(path.parts):
            text = path.read_text(encoding="utf-8")
            raised |= set(
                re.findall(r'(?:VolumeUntrustedError|_hold|_hold_idle|put_hold)\(\s*(?:[^"]*,\s*)?"([a-z-]+)"', text)
            )
    made_only_by_hand = {"not-empty"}  # an answer of `volumes init`, before there is a volume
    assert {"restarted", "rolled-back", "foreign-deployment", "marker-missing", "in-use"} <= raised, "the search works"
    assert sorted(raised - made_only_by_hand - table) == []


def test_every_command_is_shown() -> None:
    shown = OPERATIONS.read_text(encoding="utf-8")
    commands = set()
    for key, group in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        commands |= {f"{key} {sub}" for sub in getattr(group, "commands", {})} or {key}
    missing = {one for one in commands if f"$ sessionsweep {one}" not in shown}
    assert missing <= {"up", "sweep expired"}, "the first is in the README, the second is `sweep idle`"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_on_a_page_exists(page: Path) -> None:
    root = typer.main.get_command(app)
    for line in re.findall(r"sessionsweep ((?:[a-z][a-z-]+ ?)+)", page.read_text(encoding="utf-8")):
        words = line.split()
        if words[0] not in root.commands:  # type: ignore[attr-defined]
            continue  # prose
        group = root.commands[words[0]]  # type: ignore[attr-defined]
        subs = getattr(group, "commands", None)
        if subs and len(words) > 1:
            assert words[1] in subs, f"{name(page)}: sessionsweep {line}"
