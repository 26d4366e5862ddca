"""What the teacher client asks of a wire: our service's batches, or another server's chats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.rollouts.hop import Deadline
from trainer.types import Outcome, TeacherItem, TeacherReply

_SPENT = frozenset({"budget_exhausted", "insufficient_quota"})
"""Types and codes of errors after which nothing more can be bought."""

_IN_VAIN = _SPENT | {
    "cache_miss",
    "context_length_exceeded",
    "invalid_request_error",
    "store_unavailable",
}
"""Types and codes of errors that stay the same when the item is asked again."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One asking of one item."""

    reply: TeacherReply
    worth_repeating: bool = False
    """It failed in a way that may be over the next time."""
    wait_s: float = 0.0
    """How long from now it would fail again, as the server said."""
    spent: bool = False
    """It failed because there is no budget or quota left."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has bought, as the service's ledger has it; answers from the store are free."""

    calls: int = 0
    usd: float = 0.0
    """0 where the service knows no prices in USD."""
    saved_usd: float = 0.0
    """What answers from the store, or shared with another request, would have cost."""


class Wire(Protocol):
    """A way to ask."""

    def ask(
        self, items: Sequence[TeacherItem], deadline: Deadline, asker: Mapping[str, str]
    ) -> list[Attempt]:
        """Ask each item once; attempts in the order of the items.

        Args:
            items: what to ask.
            deadline: when to give up.
            asker: headers that tell our service which run asks, and at which step.

        Raises:
            TeacherUnreachable: the server is silent, or stays busy past the deadline.
            TeacherRejected: it refuses the request as a whole.
        """

    def with_prompt(self, prompt_template: str, sampling: Mapping[str, Any]) -> "Wire":
        """The same way with another prompt, and some fields of the request changed."""

    def spent(self, run_id: str, deadline: Deadline) -> Spent | None:
        """What a run has cost so far; None from a server that keeps no ledger."""

    def stats(self, deadline: Deadline) -> dict[str, Any] | None:
        """The service's counts of itself; None from a server that keeps none."""


def failed(message: str, *kinds: str | None, wait_s: float = 0.0) -> Attempt:
    """An item that got no answer; `kinds` are the error's type and code."""
    label = next((kind for kind in kinds if kind), "failed")
    reply = TeacherReply(Outcome.FAILED, error=f"{label}: {message}")
    return Attempt(
        reply,
        worth_repeating=_IN_VAIN.isdisjoint(kinds),
        wait_s=wait_s,
        spent=not _SPENT.isdisjoint(kinds),
    )
