"""`/admin/receipts`: what became of what ended sessions had."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from sessionsweep.admin.desk import Here, Reader
from sessionsweep.admin.problems import BadRequestError
from sessionsweep.admin.schemas import ReceiptOut, ReceiptsOut
from sessionsweep.operator import fields, naming, receipts
from sessionsweep.units import parse_duration

MOST = 1000  # receipts a page
router = APIRouter()


@router.get("/receipts")
def list_receipts(
    here: Here,
    reader: Reader,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
    since: Annotated[str | None, Query(max_length=32, description="Ended in the last `90m`, `1d`.")] = None,
) -> ReceiptsOut:
    """Ended sessions that owned something, in no order: what each had, and what became of it at each location."""
    try:
        seconds = None if since is None else parse_duration(since)
    except ValueError as error:
        raise BadRequestError(f"`since`: {error}") from None
    try:
        page = here.run(receipts.page(here.core, cursor, seconds, limit))
    except ValueError:
        raise BadRequestError("`cursor` is none that this listing returned; leave it out to begin anew.") from None
    names = here.run(naming.names(here.core))
    return ReceiptsOut(
        receipts=[ReceiptOut(**fields.of_receipt(one, names)) for one in page.receipts], next_cursor=page.next_cursor
    )
