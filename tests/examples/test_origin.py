"""What an anonymous client sends that is no address, or no JSON that anybody means: refused, and no fault of ours."""

from __future__ import annotations

import pytest
from web_nodes import WebNode

#: Python's parsers raise for each: an address with half a bracket, or a wrong one.
NO_ADDRESSES = ["http://[", "http://[::1", "http://[v.x]", "http://]"]


@pytest.mark.parametrize("origin", NO_ADDRESSES)
@pytest.mark.parametrize("path", ["/login", "/\nERROR root: forged"])
def test_what_is_no_address_is_foreign(nodes: list[WebNode], origin: str, path: str) -> None:
    answer = nodes[0].app.test_client().post(path, data={"user": "ana"}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json == {"error": "This request comes from another site."}


def test_its_own_origin_is_not(nodes: list[WebNode]) -> None:
    client = nodes[0].app.test_client()
    assert client.post("/login", data={"user": "ana"}, headers={"Origin": "http://localhost"}).status_code == 200


@pytest.mark.parametrize("path", ["/login", "/speak"])
def test_json_that_nests_too_deeply_is_a_bad_request(nodes: list[WebNode], path: str) -> None:
    body = b'{"user":' + b"[" * 200_000
    answer = nodes[0].app.test_client().post(path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert "nest" in (answer.json or {})["error"]
