"""One request for a path exactly as it is written; clients else resolve dots before they send it."""

from __future__ import annotations

from http.client import HTTPConnection


def raw(url: str, path: str) -> tuple[int, bytes]:
    """What a GET answers: status and body."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
