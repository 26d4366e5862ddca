"""Who used which answer, and what it cost: noted at once, written about every second.

No answer waits for it. What was noted in the last second before a crash is lost, and notes that the
store cannot take are dropped with a warning: neither is worth an answer.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from cache import Account, Amount, Answer, Completion, CompletionStore, Use
from cache.uses import ANONYMOUS
from teacher_service.errors import BadRequest
from teacher_service.outcomes import Outcome, Pending, outcome_of
from teacher_service.settings import PriceSettings

_log = logging.getLogger(__name__)

_FLUSH_S = 1.0
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a run, and its step."""

    run: str = ANONYMOUS
    step: int | None = None


ANYONE = Caller()


def parse_caller(run: str | None, step: str | None) -> Caller:
    """Read the headers `X-Taco-Run` and `X-Taco-Step`.

    Raises:
        BadRequest: The run has over 200 characters or unprintable ones, or the step is no number.
    """
    if run is not None and not (0 < len(run) <= _LONGEST_NAME and run.isprintable()):
        raise BadRequest(f"X-Taco-Run takes 1 to {_LONGEST_NAME} printable characters")
    if step is not None and not (step.isascii() and step.isdigit() and len(step) < 16):
        raise BadRequest(f"X-Taco-Step takes a number, found {step!r}")
    return Caller(run or ANONYMOUS, None if step is None else int(step))


@dataclass(slots=True)
class _Tally:
    """What was booked on one account since the last writing."""

    answers: int = 0
    unmetered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, answer: Answer) -> None:
        """Book one answer; without both counts its tokens are not known."""
        self.answers += 1
        usage: Mapping[str, object] = (isinstance(answer, Completion) and answer.usage) or {}
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(prompt, int) and isinstance(completion, int):
            self.prompt_tokens += prompt
            self.completion_tokens += completion
        else:
            self.unmetered += 1

    def amount(self, prices: PriceSettings) -> Amount:
        """All of it at today's prices."""
        money = prices.of(self.prompt_tokens, self.completion_tokens)
        return Amount(
            self.answers, self.unmetered, self.prompt_tokens, self.completion_tokens, money
        )


class UsageLog:
    """Notes of a teacher's answers, on their way into the store.

    All of it runs on the event loop's thread; the store writes on its own.
    """

    def __init__(self, store: CompletionStore, prices: PriceSettings) -> None:
        self._store = store
        self._prices = prices
        self._currency = prices.unit
        self._uses: Counter[Use] = Counter()
        self._tallies: dict[Account, _Tally] = defaultdict(_Tally)
        self._timer: asyncio.TimerHandle | None = None

    def follow(
        self, tickets: Sequence[Outcome | Pending], caller: Caller, teacher_digest: str
    ) -> None:
        """Note each answer once it is there, whether or not its client still waits."""
        for ticket in tickets:
            if isinstance(ticket, Pending):
                landed = partial(self._landed, ticket, caller, teacher_digest)
                ticket.flight.add_done_callback(landed)
            else:
                self._note(ticket, caller, teacher_digest)

    def flush(self) -> Future[None] | None:
        """Hand over what was noted; None where there is nothing. Closing the store waits for it."""
        if self._timer is None:
            return None
        self._timer.cancel()
        self._timer = None
        uses, self._uses = self._uses, Counter()
        tallies, self._tallies = self._tallies, defaultdict(_Tally)
        amounts = {account: tally.amount(self._prices) for account, tally in tallies.items()}
        written = self._store.record_uses(uses, amounts)
        written.add_done_callback(_warn_of_loss)
        return written

    def _landed(self, ticket: Pending, caller: Caller, teacher_digest: str, _: object) -> None:
        self._note(outcome_of(ticket), caller, teacher_digest)

    def _note(self, outcome: Outcome, caller: Caller, teacher_digest: str) -> None:
        """Failures cost nothing that is known."""
        if isinstance(outcome.result, Exception):
            return
        # An answer that was never stored has no key that a run could need again.
        if caller.run and (outcome.served != "miss" or outcome.stored):
            self._uses[Use(caller.run, caller.step, outcome.key, outcome.served)] += 1
        account = Account(caller.run, teacher_digest, outcome.served, self._currency)
        self._tallies[account].add(outcome.result)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)


def _warn_of_loss(written: Future[None]) -> None:
    if error := written.exception():
        _log.warning("a second of the ledger and of the runs' uses is lost: %s", error)
