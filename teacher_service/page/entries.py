"""The cache browser: entries by teacher and run, one with all that is known of it, and exports."""

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from cache import CompletionStore
from teacher_service.cache_routes import export_chunks, not_stored
from teacher_service.errors import BadRequest
from teacher_service.incoming import teacher_of
from teacher_service.page.entry_view import entry_view
from teacher_service.page.rendering import PRIVATE, PageRoute, page
from teacher_service.replies import NDJSON

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cache.selection import Selection

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_USES = 200
_KEY = re.compile("[0-9a-f]{64}")


@router.get("/page/entries")
async def entries(
    request: Request, teacher: str = "", run: str = "", before: int | None = None
) -> Response:
    """A page of entries, the latest first."""
    await teacher_of(request).write_notes()
    store = teacher_of(request).store
    found = await asyncio.to_thread(_list, store, teacher, run, before)
    return page(request, "entries.html", **found, teacher_asked=teacher, run=run, before=before)


@router.get("/page/entries/{key}")
async def entry(request: Request, key: str, whole: bool = False) -> Response:
    """Everything about one key, given in full or by its first digits."""
    await teacher_of(request).write_notes()
    found = await asyncio.to_thread(_entry, teacher_of(request).store, key, whole=whole)
    return page(request, "entry.html", **found, whole=whole)


@router.get("/page/export")
async def export(
    request: Request,
    key: Annotated[Sequence[str], Query()] = (),
    teacher: str = "",
    run: str = "",
) -> Response:
    """The entries that were chosen, as `taco cache export` writes them."""
    await teacher_of(request).write_notes()
    chosen = partial(_chosen, keys=key, teacher=teacher, run=run)
    chunks = export_chunks(teacher_of(request).store, chosen)
    first = await asyncio.to_thread(next, chunks)
    headers = {**PRIVATE, "Content-Disposition": 'attachment; filename="completions.ndjson"'}
    return StreamingResponse(chain([first], chunks), headers=headers, media_type=NDJSON)


def _chosen(connection: "Connection", keys: Sequence[str], teacher: str, run: str) -> "Selection":
    """Certain entries; else all that fit the filter.

    Raises:
        BadRequest: a key is none.
    """
    from cache.browsing import keys_used_by
    from cache.selection import Selection, teacher_ids

    if teacher:
        with not_stored():
            teacher_ids(connection, teacher)
    if not all(map(_KEY.fullmatch, keys)):
        raise BadRequest("a key is 64 hexadecimal digits")
    chosen: Sequence[bytes] | None = [bytes.fromhex(each) for each in keys] or None
    if run and not chosen:
        chosen = keys_used_by(connection, run)
    return Selection(teacher=teacher or None, keys=chosen)


def _list(store: CompletionStore, teacher: str, run: str, before: int | None) -> dict[str, Any]:
    from cache.browsing import latest, used_by
    from cache.reports import read_teachers

    with store.snapshot() as connection:
        names = sorted({one.name for one in read_teachers(connection)})
        if run:
            lines = used_by(connection, run, before)
        else:
            with not_stored():
                lines = latest(connection, teacher or None, before)
        return {"lines": lines, "teachers": names}


def _entry(store: CompletionStore, start: str, *, whole: bool) -> dict[str, Any]:
    from cache.ledger import uses_of_key
    from cache.records import records_of
    from cache.reports import read_teachers
    from cache.selection import find_key

    with store.snapshot() as connection:
        with not_stored():
            key = find_key(connection, start)
        view = entry_view(records_of(connection, [key])[key], whole=whole)
        [teacher] = [one for one in read_teachers(connection) if one.digest == view.teacher]
        uses = uses_of_key(connection, key, _USES + 1)
        return {"entry": view, "by": teacher, "uses": uses[:_USES], "more_uses": len(uses) > _USES}
