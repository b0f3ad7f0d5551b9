"""`GET /admin/receipts`: every receipt page by page, and what it refuses; the receipt on a session's page."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from admin_client import READ, WRITE, Admin

from sessionsweep.model.resource import volume_location
from sessionsweep.model.states import Outcome
from sessionsweep.store import operations as op


def ended(admin: Admin, number: int) -> list[str]:
    ids = []
    for n in range(number):
        session, _, _ = admin.node.session_with_file(n, user="ana")
        session.end()
        ids.append(session.id)
    return ids


def receipts(admin: Admin, limit: int, **query: str) -> list[dict[str, Any]]:
    """Every receipt, page by page: a page may be short, or empty, with a cursor."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for _ in range(300):
        page = admin.get("/receipts", limit=limit, **query, **cursor)
        assert len(page["receipts"]) <= limit
        found += page["receipts"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}
    pytest.fail("the pages don't end")


def log_in(admin: Admin, path: str) -> str:
    """A page of the dashboard, read by somebody who has just come in."""
    ours = {"Origin": str(admin.http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert admin.http.post("/admin/ui/login", data={"token": WRITE, "next": ""}, headers=ours).status_code == 303
    shown = admin.http.get(path)
    assert shown.status_code == 200
    return shown.text


def test_pages_hold_every_receipt_and_no_more_than_was_asked_for(admin: Admin) -> None:
    ids = ended(admin, 23)
    admin.node.session_with_file()  # lives
    admin.node.reclaim.run_once()
    found = receipts(admin, 5)
    assert sorted({one["session_id"] for one in found}) == sorted(ids)
    one = next(one for one in found if one["session_id"] == ids[9])
    assert (one["user_id"], one["reason"], one["owned"], one["bytes_owned"], one["owed"]) == ("ana", "logout", 1, 9, 0)
    (place,) = one["locations"]
    assert (place["volume"], place["deleted"], place["bytes_deleted"]) == ("a", 1, 9)


def test_since_leaves_out_what_ended_before(admin: Admin) -> None:
    ended(admin, 2)
    admin.node.advance(100)
    (late,) = ended(admin, 1)
    assert [one["session_id"] for one in receipts(admin, 100, since="50s")] == [late]


def test_a_session_whose_record_was_lost_began_nobody_knows_when(admin: Admin) -> None:
    session, _, _ = admin.node.session_with_file(9)
    with redis.Redis.from_url(admin.node.store.url) as client:
        assert client.delete(f"{admin.node.settings.namespace}:{{{session.id[:2]}}}:s:{session.id}") == 1
    assert admin.node.store.execute(op.Mend(session.id, 10_000, 0)).what == "buried"
    admin.node.reclaim.run_once()
    (told,) = receipts(admin, 100)
    assert (told["reason"], told["created_at"], told["deleted"]) == ("lost", None, 1)
    page = log_in(admin, f"/admin/ui/sessions/{session.id}")
    assert "unknown: its record was lost" in page
    assert "1970" not in page
    assert "Nothing is owed." in page


@pytest.mark.parametrize(
    "query",
    [{"cursor": "x"}, {"cursor": "00.-1"}, {"cursor": "ff.0"}, {"cursor": f"00.{2**64}"}, {"cursor": "00.1.*"},
     {"cursor": "00.1" + "." * 100}, {"since": "soon"}, {"since": "-1"}, {"limit": 0}, {"limit": 1001},
     {"limit": "many"}, {"cursor": "x" * 201}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(admin: Admin, query: dict[str, object]) -> None:
    answer = admin.http.get("/admin/receipts", params=query, headers={"X-Admin-Token": READ})  # type: ignore[arg-type]
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_forged_cursor_finds_nothing_that_is_not_there(admin: Admin) -> None:
    ids = ended(admin, 3)
    page = admin.get("/receipts", cursor="00.123456789")
    assert {one["session_id"] for one in page["receipts"]} <= set(ids)


def test_without_a_token_there_are_no_receipts(admin: Admin) -> None:
    assert admin.http.get("/admin/receipts").status_code == 401


def test_a_sessions_page_shows_its_receipt_and_strangers_text_as_text(admin: Admin) -> None:
    session, rid, _ = admin.node.session_with_file(50)
    session.end()
    location = volume_location(admin.node.core.mounts.here()[0].id)
    failed = op.Attempt(rid, Outcome.FAILED, 1, "EIO: <script>alert(1)</script>")
    admin.node.store.execute(op.Settle(session.id, location, (failed,), tries=1))
    told = admin.get(f"/sessions/{session.id}")
    assert (told["owned"], told["locations"][0]["failures"]) == (1, 1)
    shown = log_in(admin, f"/admin/ui/sessions/{session.id}")
    assert "Dead letters" in shown
    assert "<dt>Owed yet</dt><dd>0 resources and 1 dead letter</dd>" in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert" not in shown
