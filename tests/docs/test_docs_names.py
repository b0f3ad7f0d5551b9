"""Holds the names on the pages against the code: the public API, the modules of ARCHITECTURE.md, links."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, anchors, name, prose

import sessionsweep
import sessionsweep.integrations.asgi
import sessionsweep.integrations.django
import sessionsweep.integrations.flask
import sessionsweep_workers
from sessionsweep_workers.names import TASKS

ARCHITECTURE = ROOT / "ARCHITECTURE.md"
API = ROOT / "docs" / "api.md"
FRAMEWORKS = [sessionsweep.integrations.asgi, sessionsweep.integrations.django, sessionsweep.integrations.flask]
PACKAGES = {"sessionsweep": ROOT / "shared/sessionsweep", "sessionsweep_workers": ROOT / "workers/sessionsweep_workers"}

_TICKED = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def ticked(page: Path) -> set[str]:
    """What stands in backticks, outside of code blocks."""
    return set(_TICKED.findall(prose(page)))


def resolves(dotted: str, base: str) -> bool:
    """Whether `base.dotted` is a module, or a name in one, or an attribute of such a class."""
    parts = f"{base}.{dotted}".split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for index, part in enumerate(parts[end:]):
            if not hasattr(found, part):
                # an attribute that only instances have: annotated in the class's body
                last = index == len(parts[end:]) - 1
                return last and inspect.isclass(found) and part in getattr(found, "__annotations__", {})
            found = getattr(found, part)
        return True
    return False


def test_api_page_and_all_name_the_same_things() -> None:
    names = {piece for text in ticked(API) for piece in re.findall(r"\b[A-Z]\w+", text)}
    assert sorted(set(sessionsweep.__all__) - names) == [], "public, but not on the page"
    classes = {n for n in names if re.fullmatch(r"(?:[A-Z]+[a-z]+)+", n) and n not in {"None", "False", "True"}}
    elsewhere = {n for package in FRAMEWORKS for n in package.__all__} | {"ValueError"}
    assert sorted(classes - set(sessionsweep.__all__) - elsewhere) == [], "on the page, but not public"


@pytest.mark.parametrize("public", [sessionsweep, *FRAMEWORKS, sessionsweep_workers])
def test_what_a_package_says_is_public_exists_and_stands_on_the_api_page(public: object) -> None:
    text = API.read_text(encoding="utf-8")
    for one in public.__all__:  # type: ignore[attr-defined]
        if not (public is sessionsweep_workers and one == "app"):  # `app` reads the environment
            assert hasattr(public, one)
        assert f"`{one}" in text, f"{one} is public, but not on {name(API)}"


def test_public_methods_stand_on_the_api_page() -> None:
    words = set(re.findall(r"\w+", API.read_text(encoding="utf-8")))
    for cls in (
        sessionsweep.Sessions,
        sessionsweep.Session,
        sessionsweep.SessionFile,
        sessionsweep.Stats,
        sessionsweep.Resource,
    ):
        public = {member for member in dir(cls) if not member.startswith("_")} - {"of", "file"}
        public -= {"readable", "writable", "seekable"}  # of any binary file
        assert sorted(public - words) == [], cls


def test_sync_and_async_have_the_same_methods() -> None:
    for sync, awaited in (
        (sessionsweep.Sessions, sessionsweep.AsyncSessions),
        (sessionsweep.Session, sessionsweep.AsyncSession),
    ):
        assert {m for m in dir(sync) if m[0] != "_"} == {m for m in dir(awaited) if m[0] != "_"}


@pytest.mark.parametrize("text", sorted(ticked(ARCHITECTURE)))
def test_every_name_in_the_architecture_exists(text: str) -> None:
    text = text.removesuffix("()").partition("(")[0]
    if "/" in text:
        if "…" in text or text.startswith(("EVALSHA",)):
            return
        places = [ROOT, ROOT / "docs", *PACKAGES.values()]
        assert any((place / text).exists() for place in places), f"no such file: {text}"
    elif _DOTTED.fullmatch(text):
        bases = ("sessionsweep", "sessionsweep_workers", "sessionsweep.store")
        known = text in TASKS or _absolute(text) or any(resolves(text, base) for base in bases)
        assert known, f"no such module, class or function: {text}"
    elif re.fullmatch(r"[a-z_]+", text) and text not in WORDS:
        assert resolves(text, "sessionsweep") or _somewhere(text), f"nothing is named {text}"


#: in backticks, but no names of ours
WORDS = {"now", "up"}


def _absolute(text: str) -> bool:
    head, _, rest = text.partition(".")
    return head in PACKAGES and resolves(rest, head)


def _somewhere(text: str) -> bool:
    """Whether a bare word is a module or a definition anywhere in the code."""
    return text in _defined()


@functools.cache
def _defined() -> set[str]:
    names = set()
    for path in (path for folder in PACKAGES.values() for path in folder.rglob("*.py")):
        names |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
    return names


@pytest.mark.parametrize(
    "gone", ["sessionsweep.gone", "engine.sweep.Gone", "sessions.sync.Sessions.gone", "store/lua/gone.lua", "gone_by"]
)
def test_a_name_that_is_gone_is_noticed(gone: str) -> None:
    with pytest.raises(AssertionError):
        test_every_name_in_the_architecture_exists(gone)


@pytest.mark.parametrize("page", [*PAGES, ARCHITECTURE], ids=name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)} links to {target}"
        if fragment and file.suffix == ".md":
            assert fragment in anchors(file), f"{name(page)} links to {target}: no such heading"
