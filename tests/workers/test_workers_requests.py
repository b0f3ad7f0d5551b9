"""Ids of requests come from messages: none of them may write another's row, or one that never makes room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessionsweep_workers import passes
from sessionsweep_workers.context import Context
from support.nodes import Node


@pytest.fixture
def context(make_node: Callable[..., Node]) -> Iterator[Context]:
    made = Context(make_node().settings)
    yield made
    made.store.close()


@pytest.mark.parametrize("request_id", ["last:x", "\nx", "x" * 65, "", "a.b", 7, {"a": 1}, "x\n", "é"])
def test_an_id_that_is_none_is_refused_before_anything_runs(context: Context, request_id: Any) -> None:
    with (
        pytest.raises(ValueError, match="request_id"),
        passes.recorded(context, "sessionsweep.sweep_idle", request_id),
    ):
        pytest.fail("it ran")


def test_ids_of_requests_and_of_their_parts_are_taken(context: Context) -> None:
    request_id = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    for row in (request_id, passes.part_of(request_id, "0" * 16)):
        with passes.recorded(context, "sessionsweep.sweep_idle", row) as about:
            about.done({})
    assert passes.read(context.store, request_id)
