"""The list of safeties stays true: each stands in the code once, and its tests exist. `make safeties` tries them."""

from __future__ import annotations

from pathlib import Path

import pytest

from safeties.table import SAFETIES, Safety

ROOT = Path(__file__).parents[2]
KINDS = {
    "re-check of due-ness", "marker check", "second sighting", "record first", "lease", "O_NOFOLLOW", "cap", "hold",
    "limit check", "operation id", "unreadable record", "books",
}  # fmt: skip


@pytest.mark.parametrize("safety", SAFETIES, ids=lambda safety: safety.what)
def test_each_stands_in_the_code_once_and_its_tests_exist(safety: Safety) -> None:
    assert (ROOT / safety.file).read_text().count(safety.old) == 1
    assert safety.new != safety.old
    for test in safety.tests:
        file, _, name = test.partition("::")
        assert name in (ROOT / "tests" / file).read_text()


def test_there_are_some_of_each_kind() -> None:
    assert {safety.kind for safety in SAFETIES} == KINDS
