"""The teacher: what is stored is served, what is under way is waited for, the rest is asked once.

The order is what keeps the promises: look up, register, look up again, call, commit, resolve. No
answer leaves before its commit, and no two calls are made for one key. Services that share a store
register there too: whose turn it is to call, `turns` knows.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from cache import (
    Answer,
    CanaryProbe,
    CompletionStore,
    NewEntry,
    Refusal,
    StoredEntry,
    StoreError,
    TeacherIdentity,
    content_digest,
    fingerprint,
)
from teacher_service.backends.base import Backend, Endpoint, Finished, UpstreamRequest
from teacher_service.cache_control import CacheControl, Forward
from teacher_service.canary import Canary
from teacher_service.errors import (
    BadRequest,
    Overloaded,
    ServiceError,
    as_service_error,
    store_problem,
)
from teacher_service.metrics import Metrics
from teacher_service.misses import EXPLAINED, explain_misses
from teacher_service.outcomes import (
    Ask,
    Counters,
    Landing,
    Outcome,
    Pending,
    cache_miss,
    hit,
    landed,
    outcome_of,
)
from teacher_service.single_flight import SingleFlight
from teacher_service.turns import Turns, pauses
from teacher_service.usage import ANYONE, Caller, UsageLog

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Lead:
    """A flight that this service has to land."""

    ask: Ask
    flight: asyncio.Future[Landing]
    shared: bool
    """Registered, so that others may wait for it."""

    @property
    def key(self) -> bytes:
        """What is asked for."""
        return self.ask.fingerprint.key


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
        self._max_in_flight = max_in_flight
        self._usage = usage
        self._turns = turns
        self._canary = canary
        self._first_check: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._flights: SingleFlight[Landing] = SingleFlight()
        self._tasks: set[asyncio.Task[None]] = set()

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
        stored = [None] * len(asks) if control.no_cache else self._find(asks)
        now = time.time()
        tickets: list[Outcome | Pending] = []
        leads: list[_Lead] = []
        unexplained = EXPLAINED
        for ask, entry in zip(asks, stored, strict=True):
            forward = control.forward(entry.created_at if entry else None, now)
            if forward is None:
                assert entry
                tickets.append(hit(entry))
            elif self._backend is None or control.only_if_cached or ask.content_digest:
                explain, unexplained = unexplained > 0, unexplained - 1
                tickets.append(cache_miss(ask, forward, self.identity, explain=explain))
            else:
                if not leads:
                    self._check_room(control)
                tickets.append(self._fly(ask, forward, control, leads))
        if leads:
            self._start(leads, control)
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
        """Whether a new answer could be kept.

        Raises:
            StoreUnavailable: The disk is full, or the store was opened for reading.
            DatabaseAway: The store's database does not answer.
        """
        if self._backend is None:
            return
        try:
            self.store.check_writable()
        except StoreError as error:
            raise store_problem(error) from error

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
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._usage:
            self._usage.flush()
        if self._backend:
            await self._backend.close()
        self.store.close()

    def _find(self, asks: Sequence[Ask]) -> list[StoredEntry | None]:
        """What is stored for each: its key's answer, or the very answer that it wants."""
        keys = [ask.fingerprint.key for ask in asks]
        wanted = [(key, ask.content_digest) for key, ask in zip(keys, asks, strict=True)]
        exact = self.store.lookup_exact([(key, digest) for key, digest in wanted if digest])
        served = self.store.lookup([key for key, digest in wanted if not digest])
        return [exact.get((key, digest)) if digest else served.get(key) for key, digest in wanted]

    def _check_room(self, control: CacheControl) -> None:
        if self._in_flight >= self._max_in_flight:
            raise Overloaded(
                f"{self._in_flight} completions are under way already, the settings allow "
                f"{self._max_in_flight} (max_in_flight): wait and ask again",
                retry_after_s=1,
            )
        if not control.no_store:
            self.check_writable()

    def _fly(
        self, ask: Ask, forward: Forward, control: CacheControl, leads: list[_Lead]
    ) -> Pending:
        """Join the flight under way for this key, or lead one.

        Only plain misses share: who wants a fresh answer must not get one that was under way, and
        who wants nothing stored must not wait for an answer that will be.
        """
        key = ask.fingerprint.key
        shared = forward == "miss" and not control.no_store
        if shared and (flight := self._flights.join(key)):
            return Pending(key, "collapsed", forward, flight)
        flight = (
            self._flights.register(key) if shared else asyncio.get_running_loop().create_future()
        )
        leads.append(_Lead(ask, flight, shared))
        return Pending(key, "miss", forward, flight)

    def _start(self, leads: list[_Lead], control: CacheControl) -> None:
        self._in_flight += len(leads)
        task = asyncio.create_task(self._lead(leads, store=not control.no_store))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lead(self, leads: list[_Lead], *, store: bool) -> None:
        """Land every flight, whatever happens."""
        failure = ServiceError("the service stopped before the answer was there")
        try:
            if self._turns and store:
                await self._make_in_turn(leads, self._turns)
            else:
                await self._make(self._look_again(leads), store=store)
        except Exception as error:
            failure = as_service_error(error)
        finally:
            self._fail(leads, failure)

    async def _make_in_turn(self, leads: list[_Lead], turns: Turns) -> None:
        """Make what no other service is making; wait for the rest, or for our turn to make it."""
        waiting = [lead for lead in leads if lead.shared]
        pause = pauses()
        async with asyncio.TaskGroup() as making:
            making.create_task(self._make_or_fail([lead for lead in leads if not lead.shared]))
            while waiting:
                try:
                    taken = await turns.take([lead.key for lead in waiting])
                    ours = [lead for lead in waiting if lead.key in taken]
                    waiting = [lead for lead in waiting if lead.key not in taken]
                    making.create_task(self._make_and_give_back(ours, turns))
                    waiting = self._look_again(waiting)
                except StoreError as error:
                    self._fail(waiting, as_service_error(error))
                    break
                await asyncio.sleep(next(pause))

    async def _make_and_give_back(self, leads: list[_Lead], turns: Turns) -> None:
        if not leads:
            return
        try:
            # Looked up in our turn: the service before us may have stored it and then let go.
            await self._make_or_fail(self._look_again(leads))
        finally:
            await turns.give_back([lead.key for lead in leads])

    async def _make_or_fail(self, leads: list[_Lead]) -> None:
        """What goes wrong here is no reason to give up what else is under way."""
        try:
            await self._make(leads, store=True)
        except Exception as error:
            self._fail(leads, as_service_error(error))

    def _look_again(self, leads: list[_Lead]) -> list[_Lead]:
        """Land what was stored between the first look-up and the registration."""
        found = self.store.lookup([lead.key for lead in leads if lead.shared])
        for lead in leads:
            if lead.shared and (entry := found.get(lead.key)):
                self._land(lead, landed(entry, found=True))
                self.counters.misses -= 1
                self.counters.hits += 1
        return [lead for lead in leads if not lead.flight.done()]

    async def _make(self, leads: list[_Lead], *, store: bool) -> None:
        assert self._backend
        if not leads:
            return
        if self._canary:
            await self._canary.admit()
        groups = self._backend.complete([lead.ask.request for lead in leads])
        async with aclosing(groups):
            async for group in groups:
                self.counters.backend_calls += sum(
                    not isinstance(result, ServiceError) for _, result in group
                )
                self.metrics.observe(group)
                if self._canary:
                    group = [
                        (place, self._canary.vet(result, leads[place].ask.teacher_digest))
                        for place, result in group
                    ]
                await self._keep(leads, group, store=store)

    async def _keep(self, leads: list[_Lead], group: Sequence[Finished], *, store: bool) -> None:
        """Commit a group's answers, and only then release them; failures are not kept."""
        made: list[tuple[_Lead, Answer]] = []
        for position, result in group:
            if isinstance(result, ServiceError):
                self._land(leads[position], Landing(result))
            else:
                made.append((leads[position], result))
        kept = await self._commit(made) if store and made else [None] * len(made)
        for (lead, answer), entry in zip(made, kept, strict=True):
            if entry and lead.shared:
                self._land(lead, landed(entry, stored=True))
            else:
                digest = content_digest(answer)
                self._land(lead, Landing(answer, digest, time.time(), stored=store))

    async def _commit(self, made: Sequence[tuple[_Lead, Answer]]) -> list[StoredEntry]:
        entries = [
            NewEntry(
                lead.ask.fingerprint, lead.ask.teacher_digest, lead.ask.compressed_text, answer
            )
            for lead, answer in made
        ]
        return await asyncio.wrap_future(self.store.commit(entries))

    def _land(self, lead: _Lead, landing: Landing) -> None:
        if lead.flight.done():
            return
        self._in_flight -= 1
        if lead.shared:
            self._flights.land(lead.key, landing)
        else:
            lead.flight.set_result(landing)

    def _fail(self, leads: Sequence[_Lead], failure: ServiceError) -> None:
        for lead in leads:
            self._land(lead, Landing(failure))

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
