"""What is not stored: asked of the backend once, committed, and only then handed to who waits.

Services that share a store register there too: whose turn it is to call, `turns` knows.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from cache import Answer, CompletionStore, NewEntry, StoredEntry, StoreError, content_digest
from teacher_service.backends.base import Backend, Finished
from teacher_service.cache_control import CacheControl, Forward
from teacher_service.canary import Canary
from teacher_service.errors import Overloaded, ServiceError, as_service_error, store_problem
from teacher_service.metrics import Metrics
from teacher_service.outcomes import Ask, Counters, Landing, Pending, landed
from teacher_service.single_flight import SingleFlight
from teacher_service.turns import Turns, pauses


@dataclass(frozen=True, slots=True)
class Lead:
    """A flight that this service has to land."""

    ask: Ask
    flight: asyncio.Future[Landing]
    shared: bool
    """Registered, so that others may wait for it."""

    @property
    def key(self) -> bytes:
        """What is asked for."""
        return self.ask.fingerprint.key


class Flights:
    """The completions that one teacher is making.

    Everything but the commits runs on the event loop's thread.

    Args:
        store: Where answers are kept.
        backend: What makes them.
        max_in_flight: Completions being made at one time.
        counters: The teacher's.
        metrics: The teacher's.
        turns: Shared with other services; None where this one alone writes the store.
        canary: Notices when the teacher has changed; None: nobody looks.
    """

    def __init__(
        self,
        store: CompletionStore,
        backend: Backend,
        max_in_flight: int,
        counters: Counters,
        metrics: Metrics,
        turns: Turns | None = None,
        canary: Canary | None = None,
    ) -> None:
        self._store = store
        self._backend = backend
        self._max_in_flight = max_in_flight
        self._counters = counters
        self._metrics = metrics
        self._turns = turns
        self._canary = canary
        self._in_flight = 0
        self._joinable: SingleFlight[Landing] = SingleFlight()
        self._tasks: set[asyncio.Task[None]] = set()

    def check_room(self, control: CacheControl) -> None:
        """Whether one more may be made, and kept.

        Raises:
            Overloaded: Too much is being made already.
            StoreUnavailable: The store could not keep it.
            DatabaseAway: The store's database does not answer.
        """
        if self._in_flight >= self._max_in_flight:
            raise Overloaded(
                f"{self._in_flight} completions are under way already, the settings allow "
                f"{self._max_in_flight} (max_in_flight): wait and ask again",
                retry_after_s=1,
            )
        if not control.no_store:
            self.check_writable()

    def check_writable(self) -> None:
        """Whether a new answer could be kept.

        Raises:
            StoreUnavailable: The disk is full, or the store was opened for reading.
            DatabaseAway: The store's database does not answer.
        """
        try:
            self._store.check_writable()
        except StoreError as error:
            raise store_problem(error) from error

    def board(
        self, ask: Ask, forward: Forward, control: CacheControl, leads: list[Lead]
    ) -> Pending:
        """Join the flight under way for this key, or add one to `leads`, which `start` takes.

        Only plain misses share: who wants a fresh answer must not get one that was under way, and
        who wants nothing stored must not wait for an answer that will be.
        """
        key = ask.fingerprint.key
        shared = forward == "miss" and not control.no_store
        if shared and (flight := self._joinable.join(key)):
            return Pending(key, "collapsed", forward, flight)
        flight = (
            self._joinable.register(key) if shared else asyncio.get_running_loop().create_future()
        )
        leads.append(Lead(ask, flight, shared))
        return Pending(key, "miss", forward, flight)

    def start(self, leads: list[Lead], control: CacheControl) -> None:
        """Begin to make all of them, whether or not their clients stay."""
        self._in_flight += len(leads)
        task = asyncio.create_task(self._lead(leads, store=not control.no_store))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, grace_s: float) -> None:
        """Let what is under way arrive and be stored; what takes longer fails."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _lead(self, leads: list[Lead], *, store: bool) -> None:
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

    async def _make_in_turn(self, leads: list[Lead], turns: Turns) -> None:
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

    async def _make_and_give_back(self, leads: list[Lead], turns: Turns) -> None:
        if not leads:
            return
        try:
            # Looked up in our turn: the service before us may have stored it and then let go.
            await self._make_or_fail(self._look_again(leads))
        finally:
            await turns.give_back([lead.key for lead in leads])

    async def _make_or_fail(self, leads: list[Lead]) -> None:
        """What goes wrong here is no reason to give up what else is under way."""
        try:
            await self._make(leads, store=True)
        except Exception as error:
            self._fail(leads, as_service_error(error))

    def _look_again(self, leads: list[Lead]) -> list[Lead]:
        """Land what was stored between the first look-up and the registration."""
        found = self._store.lookup([lead.key for lead in leads if lead.shared])
        for lead in leads:
            if lead.shared and (entry := found.get(lead.key)):
                self._land(lead, landed(entry, found=True))
                self._counters.misses -= 1
                self._counters.hits += 1
        return [lead for lead in leads if not lead.flight.done()]

    async def _make(self, leads: list[Lead], *, store: bool) -> None:
        if not leads:
            return
        if self._canary:
            await self._canary.admit()
        groups = self._backend.complete([lead.ask.request for lead in leads])
        async with aclosing(groups):
            async for group in groups:
                self._counters.backend_calls += sum(
                    not isinstance(result, ServiceError) for _, result in group
                )
                self._metrics.observe(group)
                if self._canary:
                    group = [
                        (place, self._canary.vet(result, leads[place].ask.teacher_digest))
                        for place, result in group
                    ]
                await self._keep(leads, group, store=store)

    async def _keep(self, leads: list[Lead], group: Sequence[Finished], *, store: bool) -> None:
        """Commit a group's answers, and only then release them; failures are not kept."""
        made: list[tuple[Lead, Answer]] = []
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

    async def _commit(self, made: Sequence[tuple[Lead, Answer]]) -> list[StoredEntry]:
        entries = [
            NewEntry(
                lead.ask.fingerprint, lead.ask.teacher_digest, lead.ask.compressed_text, answer
            )
            for lead, answer in made
        ]
        return await asyncio.wrap_future(self._store.commit(entries))

    def _land(self, lead: Lead, landing: Landing) -> None:
        if lead.flight.done():
            return
        self._in_flight -= 1
        if lead.shared:
            self._joinable.land(lead.key, landing)
        else:
            lead.flight.set_result(landing)

    def _fail(self, leads: Sequence[Lead], failure: ServiceError) -> None:
        for lead in leads:
            self._land(lead, Landing(failure))
