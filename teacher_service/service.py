"""The teacher: what is stored is served, what is under way is waited for, the rest is asked once.

The order is what keeps the promises: look up, register, look up again, call, commit, resolve. No
answer leaves before its commit, and no two calls are made for one key. The first look is taken
here; what follows on a miss is in `flights`.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cache import CanaryProbe, CompletionStore, Refusal, TeacherIdentity, fingerprint
from teacher_service.backends.base import Backend, Endpoint, UpstreamRequest
from teacher_service.cache_control import CacheControl
from teacher_service.canary import Canary
from teacher_service.errors import BadRequest, ServiceError, as_service_error
from teacher_service.flights import Flights, Lead
from teacher_service.hits import Hits
from teacher_service.metrics import Metrics
from teacher_service.misses import EXPLAINED, explain_misses
from teacher_service.outcomes import Ask, Counters, Outcome, Pending, cache_miss, outcome_of
from teacher_service.turns import Turns
from teacher_service.usage import ANYONE, Caller, UsageLog

_log = logging.getLogger(__name__)


class Teacher:
    """One teacher, its store, and (unless it replays) the backend that makes what is missing.

    Everything but the commits runs on the event loop's thread.

    Args:
        identity: What defines the answers.
        store: Where they are kept; closed with the teacher.
        backend: None replays: a miss is an error, whatever the client asks for.
        max_in_flight: Completions being made at one time.
        usage: Notes who used what; None where nothing can be noted (replay).
        turns: Shared with other services; None where this one alone writes the store.
        backend_name: As the metrics call it.
        canary: Notices when the teacher has changed; None: nobody looks.
    """

    def __init__(
        self,
        identity: TeacherIdentity,
        store: CompletionStore,
        backend: Backend | None,
        max_in_flight: int,
        usage: UsageLog | None = None,
        turns: Turns | None = None,
        backend_name: str = "none",
        canary: Canary | None = None,
    ) -> None:
        self._identity = identity
        self.counters = Counters()
        self.metrics = Metrics(backend_name, self.counters, getattr(backend, "guard", None), canary)
        self.store = store
        self._backend = backend
        self._usage = usage
        self._canary = canary
        self._first_check: asyncio.Task[None] | None = None
        self._hits = Hits(store, only_writer=backend is not None and turns is None)
        self._flights = (
            Flights(store, backend, max_in_flight, self.counters, self.metrics, turns, canary)
            if backend
            else None
        )

    @property
    def identity(self) -> TeacherIdentity:
        """What defines the answers; some settings leave it to the canary."""
        return self._canary.identity if self._canary else self._identity

    def open(self) -> None:
        """Begin to ask the canary; whatever depends on it waits for that by itself."""
        if self._canary:
            self._first_check = asyncio.create_task(_check_at_start(self._canary))

    async def settle_identity(self) -> None:
        """Return once it is known which teacher this is.

        Raises:
            ServiceError: The backend has to be asked for that, and cannot be.
        """
        if self._canary:
            await self._canary.settle_identity()

    async def check_canary(self) -> Sequence[CanaryProbe]:
        """Ask the canary now: what was recorded, beside what is said.

        Raises:
            ServiceError: The backend cannot be asked.
            BadRequest: There is no canary.
        """
        if self._canary is None:
            raise BadRequest("there is no canary here: mode is replay, or canary is off")
        return await self._canary.check()

    def ask(
        self,
        endpoint: Endpoint,
        body: Mapping[str, Any],
        sample_index: int = 0,
        compressed_text: str | None = None,
        content_digest: bytes | None = None,
    ) -> Ask:
        """Turn a client's body into the one that goes upstream, and name it by its fingerprint.

        Raises:
            CanonicalError: The body has no canonical form.
        """
        sent = {**body, "model": self.identity.name}
        if sample_index and isinstance(seed := body.get("seed"), int):
            sent["seed"] = seed + sample_index  # As vLLM does: else all n choices were the same.
        key = fingerprint(self.identity.digest, sent, sample_index)
        return Ask(
            UpstreamRequest(endpoint, sent, sample_index),
            self.identity.digest,
            key,
            compressed_text,
            content_digest,
        )

    def submit(
        self, asks: Sequence[Ask], control: CacheControl, caller: Caller = ANYONE
    ) -> list[Outcome | Pending]:
        """Answer what is stored, join what is under way, and start what is left.

        One query for all, and no await: a batch of hits is answered in one go.

        Raises:
            Overloaded: Something is missing, and too much is being made already.
            StoreUnavailable: Something is missing, and the store could not keep it.
        """
        found = [None] * len(asks) if control.no_cache else self._hits.find(asks)
        now = time.time()
        tickets: list[Outcome | Pending] = []
        leads: list[Lead] = []
        unexplained = EXPLAINED
        for ask, stored in zip(asks, found, strict=True):
            forward = control.forward(stored.created_at if stored else None, now)
            if forward is None:
                assert stored
                tickets.append(stored)
            elif self._flights is None or control.only_if_cached or ask.content_digest:
                explain, unexplained = unexplained > 0, unexplained - 1
                tickets.append(cache_miss(ask, forward, self.identity, explain=explain))
            else:
                if not leads:
                    self._flights.check_room(control)
                tickets.append(self._flights.board(ask, forward, control, leads))
        if leads:
            assert self._flights
            self._flights.start(leads, control)
        self._count(tickets)
        if self._usage:
            self._usage.follow(tickets, caller, self.identity.digest)
        return tickets

    async def settle(
        self, tickets: Sequence[Outcome | Pending], deadline: float | None
    ) -> list[Outcome]:
        """Wait for all, or until the deadline (in the event loop's time)."""
        waiting = {ticket.flight for ticket in tickets if isinstance(ticket, Pending)}
        if waiting:
            await asyncio.wait(waiting, timeout=_remaining(deadline))
        outcomes = [outcome_of(ticket) for ticket in tickets]
        self.counters.failed += sum(isinstance(one.result, ServiceError) for one in outcomes)
        self.counters.refused += sum(isinstance(one.result, Refusal) for one in outcomes)
        return await explain_misses(self.store, outcomes)

    def check_writable(self) -> None:
        """Whether a new answer could be kept, where any is made.

        Raises:
            StoreUnavailable: The disk is full, or the store was opened for reading.
            DatabaseAway: The store's database does not answer.
        """
        if self._flights:
            self._flights.check_writable()

    @property
    def trouble(self) -> str | None:
        """Why nothing new can be made just now; None where it can."""
        if self._backend and (trouble := self._backend.trouble):
            return trouble
        return self._canary.trouble if self._canary else None

    async def write_notes(self) -> None:
        """Put what was noted so far into the store, for a reader that wants it all."""
        if self._usage and (written := self._usage.flush()):
            await asyncio.wrap_future(written)

    async def close(self, grace_s: float) -> None:
        """Let what is under way arrive and be stored, then let go of backend and store."""
        if self._first_check:
            self._first_check.cancel()
            await asyncio.gather(self._first_check, return_exceptions=True)
        if self._flights:
            await self._flights.finish(grace_s)
        if self._usage:
            self._usage.flush()
        if self._backend:
            await self._backend.close()
        self.store.close()

    def _count(self, tickets: Sequence[Outcome | Pending]) -> None:
        served = [ticket.served for ticket in tickets]
        self.counters.requests += len(served)
        self.counters.hits += served.count("hit")
        self.counters.misses += served.count("miss")
        self.counters.collapsed += served.count("collapsed")


async def _check_at_start(canary: Canary) -> None:
    try:
        await canary.first_check()
    except Exception as error:
        _log.warning("the canary could not be asked: %s", as_service_error(error).message)


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    return max(0.0, deadline - asyncio.get_running_loop().time())
