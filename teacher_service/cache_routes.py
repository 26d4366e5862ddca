"""The routes to the store itself: what it holds, who used it, what it cost and saved.

Whatever scans rows runs in a thread, so that completions are served meanwhile.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from cache import (
    CanaryProbe,
    CompletionStore,
    ExportError,
    StoreDamaged,
    StoreError,
    TeacherIdentity,
)
from teacher_service import cache_payloads
from teacher_service.errors import BadRequest, NotStored
from teacher_service.incoming import body_of, check_model, identified, teacher_of
from teacher_service.misses import reasons_for
from teacher_service.outcomes import Ask
from teacher_service.payloads import Json
from teacher_service.replies import NDJSON, json_reply
from teacher_service.routes import choice_asks
from teacher_service.routing import ErrorRoute
from teacher_service.schemas import LookupRequest, parse

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cache.merging import MergeReport
    from cache.selection import Selection

router = APIRouter(route_class=ErrorRoute)

_CHUNK_BYTES = 1 << 18


@router.get("/v1/cache/stats")
async def stats(request: Request) -> Response:
    """Who the teacher is, what happened since the start, and what the store holds."""
    teacher = await identified(request)
    held = await asyncio.to_thread(teacher.store.stats)
    settings = request.app.state.settings
    return json_reply(
        cache_payloads.stats(
            settings.mode, teacher.identity, settings.prices, teacher.counters, held
        )
    )


@router.post("/v1/cache/lookup")
async def lookup(request: Request) -> Response:
    """What is stored of keys and of requests; nothing is asked upstream, nothing is counted."""
    asked = parse(LookupRequest, await body_of(request))
    teacher = await identified(request)
    for each in asked.requests:
        check_model(request, each.model)
    asks = [ask for each in asked.requests for ask in choice_asks(teacher, each)]
    keys = [bytes.fromhex(key) for key in asked.keys]
    return json_reply(await asyncio.to_thread(_look_up, teacher.store, keys, asks))


@router.get("/v1/cache/entries/{key}")
async def entry(request: Request, key: str) -> Response:
    """Everything about one key, given in full or by its first digits, and the runs that used it."""
    await teacher_of(request).write_notes()
    return json_reply(await asyncio.to_thread(_read_entry, teacher_of(request).store, key))


@router.get("/v1/cache/export")
async def export(request: Request, teacher: str | None = None) -> Response:
    """The store, or what it holds of one teacher, as `taco cache export` writes it."""
    store = teacher_of(request).store
    chunks = export_chunks(store, partial(_of_teacher, teacher=teacher))
    # What is wrong from the start becomes an error; what is later, a stream without a trailer.
    first = await asyncio.to_thread(next, chunks)
    return StreamingResponse(chain([first], chunks), media_type=NDJSON)


@router.post("/v1/cache/import")
async def import_(request: Request) -> Response:
    """Add an export; an answer that differs is kept beside the one that is served."""
    body = await body_of(request)
    report = await asyncio.to_thread(_import, teacher_of(request).store, body)
    return json_reply(cache_payloads.imported(report))


@router.post("/v1/cache/verify")
async def verify(request: Request) -> Response:
    """Compute every hash again; takes as long as reading all that is stored."""
    # Imported here and below: SQLAlchemy takes long to import, and most services never need it.
    from cache.verifying import verify as verify_rows

    report = await asyncio.to_thread(teacher_of(request).store.query, verify_rows)
    return json_reply({"object": "cache.verification", **asdict(report)})


@router.get("/v1/teachers")
async def teachers(request: Request) -> Response:
    """Every teacher that the store has answers of."""
    teacher = await identified(request)
    known = await asyncio.to_thread(_teachers, teacher.store)
    return json_reply(cache_payloads.teachers(known, teacher.identity.digest))


@router.post("/v1/teachers/canary")
async def check_canary(request: Request) -> Response:
    """Ask the served teacher the fixed prompts now, and compare with what was recorded."""
    teacher = teacher_of(request)
    probes = await teacher.check_canary()
    seen = cache_payloads.canary(probes)
    return json_reply({"object": "canary", "teacher": teacher.identity.digest, **(seen or {})})


@router.get("/v1/runs")
async def runs(request: Request) -> Response:
    """Every run that gave its name, the latest first."""
    from cache.ledger import read_runs

    await teacher_of(request).write_notes()
    found = await asyncio.to_thread(teacher_of(request).store.query, read_runs)
    return json_reply({"object": "list", "data": [cache_payloads.run(one) for one in found]})


@router.get("/v1/runs/{name}")
async def run(request: Request, name: str) -> Response:
    """What one run used, and what it cost and saved."""
    from cache.ledger import read_ledger, read_run

    await teacher_of(request).write_notes()
    store = teacher_of(request).store
    details = await asyncio.to_thread(store.query, partial(read_run, name=name))
    if details is None:
        raise NotStored(f"no run {name!r} ever named itself here; GET /v1/runs lists them")
    lines = await asyncio.to_thread(store.query, partial(read_ledger, run=name))
    return json_reply(cache_payloads.run_details(details, lines))


@router.get("/v1/ledger")
async def ledger(request: Request, run: str | None = None) -> Response:
    """What was spent and saved, in total or by one run."""
    from cache.ledger import read_ledger

    await teacher_of(request).write_notes()
    store = teacher_of(request).store
    lines = await asyncio.to_thread(store.query, partial(read_ledger, run=run))
    if run is not None and not lines:
        raise NotStored(f"no run {run!r} ever named itself here; GET /v1/runs lists them")
    data = [cache_payloads.ledger_line(line) for line in lines]
    return json_reply({"object": "ledger", "run": run, "data": data})


def _teachers(store: CompletionStore) -> list[tuple[TeacherIdentity, list[CanaryProbe]]]:
    return [(one, store.canary(one.digest)) for one in store.teachers()]


def _look_up(store: CompletionStore, keys: list[bytes], asks: list[Ask]) -> Json:
    wanted = [*keys, *(ask.fingerprint.key for ask in asks)]
    stored = store.lookup(wanted)
    reasons = reasons_for(store, [ask for ask in asks if ask.fingerprint.key not in stored])
    data = [
        cache_payloads.looked_up(index, key, stored.get(key), reasons.get(key))
        for index, key in enumerate(wanted)
    ]
    return {"object": "cache.lookup", "data": data}


def _read_entry(store: CompletionStore, start: str) -> Json:
    from cache.ledger import uses_of_key
    from cache.records import records_of
    from cache.selection import find_key

    with store.snapshot() as connection:
        with not_stored():
            key = find_key(connection, start)
        record = records_of(connection, [key])[key]
        return cache_payloads.entry(record, uses_of_key(connection, key))


@contextmanager
def not_stored() -> Iterator[None]:
    """What a search by name or number does not find is the client's error."""
    try:
        yield
    except StoreDamaged:
        raise
    except StoreError as error:
        raise NotStored(str(error)) from error


def export_chunks(
    store: CompletionStore, select: "Callable[[Connection], Selection]"
) -> Iterator[bytes]:
    """An export in pieces of some size: a step to a thread for every line would take longest.

    Args:
        store: What is exported.
        select: Says what, once there is a snapshot of the store.
    """
    from cache.exporting import export_lines

    chunk = bytearray()
    with store.snapshot() as connection:
        for line in export_lines(connection, select(connection)):
            chunk += line
            if len(chunk) >= _CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
    yield bytes(chunk)


def _of_teacher(connection: "Connection", teacher: str | None) -> "Selection":
    from cache.selection import Selection, teacher_ids

    if teacher is not None:
        with not_stored():
            teacher_ids(connection, teacher)
    return Selection(teacher=teacher)


def _import(store: CompletionStore, body: bytes) -> "MergeReport":
    from cache.live_import import import_into

    with tempfile.TemporaryDirectory(prefix="taco-import-") as folder:
        source = Path(folder, "body")
        source.write_bytes(body)
        try:
            return import_into(store, source)
        except ExportError as error:
            raise BadRequest(str(error).replace(str(source), "the body")) from error
