"""The page's routes: the service at a glance, its entries, its runs, and why something missed.

Made on the server; without scripts the first page loads itself again now and then.
"""

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from cache import CanonicalError, CompletionStore
from teacher_service.errors import NotStored, ServiceError, as_service_error
from teacher_service.incoming import body_of, teacher_of
from teacher_service.page.assets import ICON
from teacher_service.page.explained import explained
from teacher_service.page.figures import Figures, figures_of
from teacher_service.page.paths import HOME, STATIC, Number
from teacher_service.page.rendering import (
    PRIVATE,
    SAFETY,
    PageRoute,
    compile_templates,
    page,
    render,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_RUNS = 500
_LATEST = 8
_SETTLED_S = 1.0


@router.get(HOME)
async def home(request: Request) -> Response:
    """The service at a glance."""
    counts, store = request.app.state.counts, teacher_of(request).store
    kept, figures, glance = await asyncio.gather(
        counts.read(), _figures(request), asyncio.to_thread(store.query, _glance)
    )
    return page(request, "home.html", kept=kept, figures=figures, **glance)


@router.get("/page/live")
async def live(request: Request) -> Response:
    """The part of the first page that a script fetches again and again."""
    kept, figures = await asyncio.gather(request.app.state.counts.read(), _figures(request))
    text = render(request, "live.html", kept=kept, figures=figures)
    return HTMLResponse(text, 200, PRIVATE)


@router.get("/page/runs")
async def runs(request: Request) -> Response:
    """Every run that gave its name, the latest first."""
    from cache.ledger import read_runs

    await teacher_of(request).write_notes()
    found = await asyncio.to_thread(teacher_of(request).store.query, read_runs)
    return page(request, "runs.html", runs=found[:_RUNS], more=len(found) - _RUNS)


@router.get("/page/run")
async def run(request: Request, name: str, before: Number = None) -> Response:
    """One run: what it cost and saved, and what it used."""
    await teacher_of(request).write_notes()
    found = await asyncio.to_thread(_run, teacher_of(request).store, name, before)
    return page(request, "run.html", **found, before=before)


@router.get("/page/miss")
async def miss_form(request: Request) -> Response:
    """A form for a request that missed."""
    return page(request, "miss.html", pasted="", found=None, problem=None)


@router.post("/page/miss")
async def miss(request: Request) -> Response:
    """Why that request missed; nothing is asked upstream, and nothing counted."""
    form = parse_qs((await body_of(request)).decode(errors="replace"), keep_blank_values=True)
    pasted = form.get("request", [""])[0]
    try:
        found = await explained(request, pasted)
    except (ServiceError, CanonicalError) as error:
        told = as_service_error(error)
        return page(
            request, "miss.html", told.status, pasted=pasted, found=None, problem=told.message
        )
    return page(request, "miss.html", pasted=pasted, found=found, problem=None)


@router.get(f"{STATIC}icon.svg")
async def icon() -> Response:
    """The picture in the browser's tab."""
    headers = {**SAFETY, "Cache-Control": "no-cache"}
    return Response(ICON, 200, headers, media_type="image/svg+xml")


async def warm_up() -> None:
    """Import and compile, a little after the start, what the first visitor would have to wait for.

    Not at once: what a service is asked first are completions.
    """
    await asyncio.sleep(_SETTLED_S)
    await asyncio.to_thread(_warm_up)


async def _figures(request: Request) -> Figures:
    teacher = teacher_of(request)
    trouble = teacher.trouble
    try:
        await asyncio.to_thread(teacher.check_writable)
    except ServiceError as error:
        trouble = error.message
    return figures_of(teacher, request.app.state.rates, trouble)


def _warm_up() -> None:
    # Imported here: SQLAlchemy takes longer to import than a service to start.
    import cache.browsing
    import cache.counting
    import cache.ledger  # noqa: F401

    compile_templates()


def _glance(connection: "Connection") -> dict[str, Any]:
    from cache.browsing import latest
    from cache.ledger import read_ledger, read_runs

    return {
        "ledger": read_ledger(connection),
        "runs": read_runs(connection)[:_LATEST],
        "lines": latest(connection, limit=_LATEST).lines,
    }


def _run(store: CompletionStore, name: str, before: int | None) -> dict[str, Any]:
    from cache.browsing import used_by
    from cache.ledger import read_ledger, read_runs

    with store.snapshot() as connection:
        found = read_runs(connection, name)
        if not found:
            raise NotStored(f"no run {name!r} ever named itself here")
        return {
            "run": found[0],
            "ledger": read_ledger(connection, name),
            "lines": used_by(connection, name, before=before),
        }
