"""README.md names tests for every promise: they exist, and those that lie here say in their own words what they try."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROW = re.compile(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
TABLE = {int(number): re.findall(r"`([^`]+)::([^`]+)`", tests) for number, tests in ROW.findall(
    (HERE / "README.md").read_text()
)}  # fmt: skip


def said(docstring: str | None) -> set[int]:
    """The promises that a docstring names: `Promise 8: …`, `Promises 3, 6 and 24: …`, `Promises 1, 2 in one storm`."""
    found = re.search(r"[Pp]romises? ((?:\d+(?:, | and )?)+)", docstring or "")
    return {int(number) for number in re.findall(r"\d+", found[1])} if found else set()


def _tests_of(path: Path) -> dict[str, set[int]]:
    """The tests of a module and the promises that each names, itself or by its module."""
    tree = ast.parse(path.read_text())
    whole = said(ast.get_docstring(tree))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {one.name: said(ast.get_docstring(one)) or whole for one in functions if one.name.startswith("test_")}


@pytest.mark.parametrize("number", range(1, 26))
def test_every_promise_has_tests_that_exist(number: int) -> None:
    assert TABLE.get(number), f"promise {number} has no test"
    for file, name in TABLE[number]:
        path = HERE.parent / file
        assert path.exists(), file
        tests = _tests_of(path)
        assert name in tests, f"{file} has no {name}"
        if path.parent == HERE:
            assert number in tests[name], f"{file}::{name} doesn't say that it tries promise {number}"


def test_what_tests_here_say_stands_in_the_table() -> None:
    for path in sorted(HERE.glob("test_*.py")):
        tried = {number for numbers in _tests_of(path).values() for number in numbers}
        listed = {
            number
            for number, tests in TABLE.items()
            if any(Path(file) == Path("faults") / path.name for file, _ in tests)
        }
        assert tried == listed, path.name
