"""A client of the admin side, with a token for each scope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from support.nodes import Node

WRITE, READ, OVER = "w-" + "a" * 40, "r-" + "b" * 40, "o-" + "c" * 40


@dataclass
class Admin:
    """The admin side of one node's deployment."""

    node: Node
    http: httpx.Client

    def get(self, path: str, **params: Any) -> Any:
        """A reading answer's JSON."""
        answer = self.http.get(f"/admin{path}", params=params, headers={"X-Admin-Token": READ})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        """An order's answer."""
        answer = self.http.post(f"/admin{path}", json=body, headers={"X-Admin-Token": WRITE})
        assert answer.status_code == status, answer.text
        return answer.json()
