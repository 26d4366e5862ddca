"""The application: one teacher, its routes, one handler for every error."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from cache import CacheError, CompletionStore, default_store_path
from teacher_service import cache_routes, routes
from teacher_service.backends import Backend, build_backend
from teacher_service.canary import Canary, OnChange
from teacher_service.errors import StartError
from teacher_service.gate import Gate, hosts_of, is_loopback
from teacher_service.identity import stored_identity
from teacher_service.keys import KeyRing, default_keys_path
from teacher_service.page import entries, log_in
from teacher_service.page import routes as page_routes
from teacher_service.page.kept import KeptCounts
from teacher_service.page.rates import Rates
from teacher_service.page.searcher import Searcher
from teacher_service.page.sessions import Sessions
from teacher_service.replies import error_reply
from teacher_service.request_log import RequestLog
from teacher_service.routing import ShortWay
from teacher_service.service import Teacher
from teacher_service.settings import Settings
from teacher_service.tracing import Tracing
from teacher_service.turns import Turns
from teacher_service.usage import UsageLog

_log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Open the store and the backend, and put the routes in front of them.

    Both are opened here and not at the server's start-up, so that what is wrong with them is an
    exception of this call. The application closes them when its server stops.

    Raises:
        StartError: The store or the backend cannot be opened; the message says what to do.
    """
    ring = KeyRing(settings.keys_file or default_keys_path())
    if ring.is_open and not is_loopback(settings.host):
        _log.warning(
            "listening on %s without keys: whoever reaches it may use it. `taco serve keys add "
            "NAME` makes one, and from then on all need one",
            settings.host,
        )
    tracing = Tracing() if settings.traces else None
    teacher = open_teacher(settings, tracing)
    rates, sessions = Rates(teacher.counters), Sessions(ring)
    searcher, counts = Searcher(teacher.store), KeptCounts(teacher.store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        teacher.open()
        beside = [asyncio.create_task(rates.keep()), asyncio.create_task(page_routes.warm_up())]
        yield
        for task in beside:
            task.cancel()
        counts.close()
        await searcher.close()
        await teacher.close(settings.stop_grace_s)
        if tracing:
            await asyncio.to_thread(tracing.close)

    app = FastAPI(title="taco teacher", lifespan=lifespan, openapi_url=None)
    app.state.teacher = teacher
    app.state.settings = settings
    app.state.ring, app.state.sessions = ring, sessions
    app.state.rates, app.state.counts, app.state.searcher = rates, counts, searcher
    # Beside the application's own: an included router is matched anew, layer by layer.
    for each in (routes, cache_routes, page_routes, entries, log_in):
        app.router.routes += each.router.routes
    app.add_exception_handler(HTTPException, _no_such_route)
    hosts = hosts_of(settings.host, settings.allowed_hosts)
    app.add_middleware(ShortWay, routes=app.router.routes)
    app.add_middleware(Gate, ring=ring, sessions=sessions, hosts=hosts)
    app.add_middleware(RequestLog)  # Around the gate: what is refused has a name too.
    if tracing:
        app.add_middleware(tracing.around)
    return app


def open_teacher(settings: Settings, tracing: Tracing | None = None) -> Teacher:
    """The teacher of these settings: a recorder has a backend, a replay server has only the store.

    Raises:
        StartError: The store or the backend cannot be opened.
    """
    place = settings.store or default_store_path()
    replay = settings.mode == "replay"
    backend = None if replay else build_backend(settings)
    if backend and tracing:
        backend = tracing.of_backend(backend, settings.backend)
    try:
        store = CompletionStore.open(place, read_only=replay)
        if backend and settings.identity == "plain":
            store.register_teacher(backend.identity)
        identity = (
            backend.identity if backend else stored_identity(store.teachers(), settings.teacher)
        )
    except CacheError as error:
        raise StartError(str(error)) from error
    _log.info(
        "teacher %s (%s), %s, store %s",
        identity.name,
        identity.digest[:12],
        settings.mode,
        store.place,
    )
    usage = UsageLog(store, settings.prices) if backend else None
    leases = store.leases(settings.lease_s) if backend else None
    turns = Turns(leases) if leases else None
    return Teacher(
        identity,
        store,
        backend,
        settings.max_in_flight,
        usage,
        turns,
        settings.backend,
        _canary(settings, store, backend) if backend else None,
    )


def _canary(settings: Settings, store: CompletionStore, backend: Backend) -> Canary | None:
    if settings.canary == "off":
        return None
    default: OnChange = "refuse" if backend.deterministic else "warn"
    on_change = default if settings.canary == "auto" else settings.canary
    return Canary(store, backend, on_change, strict=settings.identity == "strict")


async def _no_such_route(_: Request, error: Exception) -> Response:
    return error_reply(error)
