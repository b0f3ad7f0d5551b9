"""Runs every Python block of the README and of docs/ against a real store, in order, one namespace a page."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pages import PAGES, Snippet, name, snippets

from sessionsweep import Sessions
from sessionsweep.sessions.streams import Streams

KEY = "docs-key-" + "k" * 40


@pytest.fixture
def environment(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a reader has set before trying a page: a server, a key, a volume, a node's name.

    A page ends with its process; here no thread of its apps goes on listening when it is over.
    """
    monkeypatch.setenv("SESSIONSWEEP_REDIS_URL", redis_url)
    monkeypatch.setenv("SESSIONSWEEP_NAMESPACE", namespace)
    monkeypatch.setenv("SESSIONSWEEP_SECRET_KEY", KEY)
    monkeypatch.setenv("SESSIONSWEEP_VOLUMES", f"a={tmp_path / 'a'}")
    monkeypatch.setenv("SESSIONSWEEP_NODE", "node-a")
    monkeypatch.chdir(tmp_path)
    made: list[Streams] = []
    begin = Streams.begin

    def remembered(streams: Streams) -> None:
        made.append(streams)
        begin(streams)

    monkeypatch.setattr(Streams, "begin", remembered)
    yield
    for streams in made:
        streams.stop()


def run_page(page: Path, blocks: list[Snippet]) -> None:
    """Executes the blocks in one module; `await` may stand at the top level. All coroutines run in one event loop."""
    module = ModuleType("__docs__")
    sys.modules[module.__name__] = module  # frameworks look there for the types that a view's annotations name
    try:
        with asyncio.Runner() as runner:
            for block in blocks:
                # the page's own lines: a traceback names them
                source = "\n" * (block.line - 1) + block.code
                code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                if code.co_flags & inspect.CO_COROUTINE:
                    runner.run(_awaited(code, module))
                else:
                    exec(code, module.__dict__)
    finally:
        del sys.modules[module.__name__]


async def _awaited(code: object, module: ModuleType) -> None:
    await eval(code, module.__dict__)  # type: ignore[arg-type]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=name)
def test_every_python_block_of_a_page_runs(page: Path) -> None:
    run_page(page, snippets(page))


def test_the_runner_runs_what_a_page_says(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```python\nimport asyncio\nawait asyncio.sleep(0)\nx = 1\n```\n<!-- test\nassert x == 2\n-->"
    )
    with pytest.raises(AssertionError) as failure:
        run_page(page, snippets(page))
    assert failure.traceback[-1].lineno == 8, "the traceback names the page's line"


@pytest.mark.usefixtures("environment")
def test_the_pages_examples_reach_the_real_store() -> None:
    readme = PAGES[0]
    run_page(readme, snippets(readme))
    with_sessions = Sessions.from_env()
    try:
        assert with_sessions.stats().total_sessions_created == 3
    finally:
        with_sessions.close()
