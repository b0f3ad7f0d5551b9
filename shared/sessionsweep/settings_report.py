"""How settings read to people: what is wrong with one, and how one stands; secrets never."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BeforeValidator, ValidationError
from pydantic.fields import FieldInfo

from sessionsweep.settings_values import redact_url
from sessionsweep.units import format_duration, format_size, parse_duration, parse_size

PREFIX = "SESSIONSWEEP_"
Source = Literal["argument", "environment", "file", "framework", "default"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of `config show`: a setting as it stands. `value` never shows a secret."""

    name: str
    variable: str
    value: str
    source: Source
    meaning: str


@dataclass(frozen=True, slots=True)
class DefaultText:
    """How a default that is computed reads in the documentation."""

    text: str


def nearest(name: str, known: Iterable[str], variable: bool = False) -> str:
    """What to do about an unknown setting; `variable` names the answer as the environment does."""
    matches = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    if matches:
        return f"did you mean {PREFIX + matches[0].upper() if variable else matches[0]}?"
    return "remove it; `sessionsweep config show` lists all settings"


def explain(error: ValidationError, arguments: Mapping[str, Any], known: Iterable[str]) -> str:
    """One line for each fault: the variable, what is wrong with the value, the fix."""
    lines = []
    for fault in error.errors(include_url=False):
        context = fault.get("ctx", {})
        if fault["type"] == "default_factory_not_called":
            continue  # it only follows from another fault
        if not fault["loc"]:
            lines.append(str(context.get("error", fault["msg"])))
            continue
        name = str(fault["loc"][0])
        if fault["type"] == "extra_forbidden":
            lines.append(f"{name} is not a setting; {nearest(name, known)}")
            continue
        where = f"{PREFIX}{name.upper()}" + (f" (here the argument {name})" if name in arguments else "")
        match fault["type"]:
            case "value_error":
                what = str(context["error"])
            case "literal_error":
                what = f"{fault['input']!r} is not one of {context['expected'].replace(' or ', ', ')}"
            case "greater_than_equal":
                what = f"{fault['input']!r} is too small; give at least {context['ge']:g}"
            case "less_than_equal":
                what = f"{fault['input']!r} is too large; give at most {context['le']:g}"
            case _:
                what = fault["msg"]
        lines.append(f"{where}: {what}")
    return "\n".join(lines)


def shown(name: str, field: FieldInfo, value: Any) -> str:
    """A setting's value as text for people, in the spelling in which it is set; secrets as `***`."""
    if value is None or value == ():
        return "none" if name == "trusted_proxies" and value == () else ""
    if name in ("secret_key", "admin_token"):
        return "***"
    if name in ("redis_url", "broker_url"):
        return redact_url(value)
    parser = next((item.func for item in field.metadata if isinstance(item, BeforeValidator)), None)
    if parser is parse_duration:
        return f"{value:g} ({format_duration(value)})" if value >= 60 else f"{value:g}"
    if parser is parse_size:
        return f"{value} ({format_size(value)})" if value >= 1000 else str(value)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def default_text(name: str, field: FieldInfo) -> str:
    """A setting's default as the documentation shows it (Markdown)."""
    for item in field.metadata:
        if isinstance(item, DefaultText):
            return item.text
    text = shown(name, field, field.default)
    value, blank, rest = text.partition(" ")
    return f"`{value}`{blank}{rest}" if text else "none"
