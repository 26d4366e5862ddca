"""The cache browser: entries by teacher and run, one with all that is known of it, and exports."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from cache import CompletionStore
from teacher_service.cache_routes import export_chunks, not_stored
from teacher_service.errors import BadRequest
from teacher_service.incoming import teacher_of
from teacher_service.page.entry_view import entry_view
from teacher_service.page.paths import Number
from teacher_service.page.rendering import PRIVATE, PageRoute, page
from teacher_service.page.searcher import Searcher
from teacher_service.replies import NDJSON

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cache.browsing import Sought
    from cache.selection import Selection
    from cache.word_index import WordIndex

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_EXPORT_PATIENCE_S = 10.0
_USES = 200
_KEY = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted; an empty text means any."""

    text: str
    teacher: str
    run: str

    @property
    def sought(self) -> "Sought | None":
        """As the store is searched; None where there is no word to look for."""
        from cache.browsing import Sought
        from cache.words import parse_search

        search = parse_search(self.text)
        return Sought(search, self.teacher or None, self.run or None) if search else None

    @property
    def words(self) -> Sequence[str]:
        """What is marked in the entries that were found."""
        sought = self.sought
        return [*sought.search.words, *sought.search.beginnings] if sought else []

    @property
    def query(self) -> str:
        """As part of a link."""
        return urlencode({"text": self.text, "teacher": self.teacher, "run": self.run})


def _filter(text: str = "", teacher: str = "", run: str = "") -> Filter:
    return Filter(text.strip(), teacher.strip(), run.strip())


_Asked: TypeAlias = Annotated[Filter, Depends(_filter)]


@router.get("/page/entries")
async def entries(request: Request, asked: _Asked, before: Number = None) -> Response:
    """A page of entries, the latest first."""
    await teacher_of(request).write_notes()
    searcher: Searcher = request.app.state.searcher
    if asked.text:
        await searcher.catch_up()
    store = teacher_of(request).store
    found = await asyncio.to_thread(_list, store, searcher.index, asked, before)
    extent = searcher.extent
    return page(request, "entries.html", **found, asked=asked, extent=extent, before=before)


@router.get("/page/entries/{key}")
async def entry(request: Request, key: str, whole: bool = False) -> Response:
    """Everything about one key, given in full or by its first digits."""
    await teacher_of(request).write_notes()
    found = await asyncio.to_thread(_entry, teacher_of(request).store, key, whole=whole)
    return page(request, "entry.html", **found, whole=whole)


@router.get("/page/export")
async def export(
    request: Request, asked: _Asked, key: Annotated[Sequence[str], Query()] = ()
) -> Response:
    """The entries that were chosen, as `taco cache export` writes them; all of them, or none."""
    await teacher_of(request).write_notes()
    searcher: Searcher = request.app.state.searcher
    if asked.text and not key:
        await searcher.catch_up(_EXPORT_PATIENCE_S)
        if searcher.is_behind:
            raise BadRequest("the index for searches is still being made: export once it is whole")
    chosen = partial(_chosen, searcher.index, keys=key, asked=asked)
    chunks = export_chunks(teacher_of(request).store, chosen)
    first = await asyncio.to_thread(next, chunks)
    headers = {**PRIVATE, "Content-Disposition": 'attachment; filename="completions.ndjson"'}
    return StreamingResponse(chain([first], chunks), headers=headers, media_type=NDJSON)


def _chosen(
    index: "WordIndex", connection: "Connection", keys: Sequence[str], asked: Filter
) -> "Selection":
    """Certain entries; else all that fit the filter.

    Raises:
        BadRequest: a key is none.
        NotStored: no teacher matches.
    """
    from cache.browsing import keys_found_by, keys_used_by
    from cache.selection import Selection, teacher_ids

    if not all(map(_KEY.fullmatch, keys)):
        raise BadRequest("a key is 64 hexadecimal digits")
    if asked.teacher:
        with not_stored():
            teacher_ids(connection, asked.teacher)
    chosen: Sequence[bytes] | None = [bytes.fromhex(key) for key in keys] or None
    if not chosen and (sought := asked.sought):
        chosen = keys_found_by(connection, index, sought)
    elif not chosen and asked.run:
        chosen = keys_used_by(connection, asked.run)
    return Selection(teacher=asked.teacher or None, keys=chosen)


def _list(
    store: CompletionStore, index: "WordIndex", asked: Filter, before: int | None
) -> dict[str, Any]:
    from cache.browsing import Lines, found_by, latest, used_by
    from cache.reports import read_teachers
    from cache.selection import teacher_ids

    with store.snapshot() as connection:
        names = sorted({one.name for one in read_teachers(connection)})
        if asked.teacher:
            with not_stored():
                teacher_ids(connection, asked.teacher)
        if sought := asked.sought:
            lines = found_by(connection, index, sought, before)
        elif asked.text:
            lines = Lines((), None)
        elif asked.run:
            lines = used_by(connection, asked.run, asked.teacher or None, before)
        else:
            lines = latest(connection, asked.teacher or None, before)
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
