"""Why nothing is stored under a key: the nearest stored request, for whoever met the miss."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from cache import CompletionStore
from teacher_service.errors import CacheMiss
from teacher_service.outcomes import Ask, Outcome

if TYPE_CHECKING:
    from cache.explaining import Explanation

EXPLAINED = 3
"""Misses of one request that are explained: they mostly have one cause, and each takes a while."""


def explain_asks(store: CompletionStore, asks: Sequence[Ask]) -> list["Explanation | None"]:
    """The nearest stored request for each; for a thread that may wait."""
    # Imported here: SQLAlchemy takes long to import, and most services never miss.
    from cache.explaining import explain

    return store.query(
        lambda connection: [
            explain(connection, ask.fingerprint.document, ask.compressed_text) for ask in asks
        ]
    )


def reasons_for(
    store: CompletionStore, missing: Sequence[Ask]
) -> dict[bytes, "Explanation | None"]:
    """The same by key, for the first `EXPLAINED` of them."""
    explained = missing[:EXPLAINED]
    found = explain_asks(store, explained) if explained else []
    return {ask.fingerprint.key: why for ask, why in zip(explained, found, strict=True)}


async def explain_misses(store: CompletionStore, outcomes: list[Outcome]) -> list[Outcome]:
    """The same outcomes, those with an `unexplained` ask explained."""
    asks = [one.unexplained for one in outcomes if one.unexplained]
    if not asks:
        return outcomes
    found = await asyncio.to_thread(explain_asks, store, asks)
    reasons = {ask.fingerprint.key: reason for ask, reason in zip(asks, found, strict=True)}
    return [_explained(one, reasons[one.key]) if one.unexplained else one for one in outcomes]


def _explained(outcome: Outcome, explanation: "Explanation | None") -> Outcome:
    """A miss with its explanation; the message names fields, and never quotes a prompt."""
    assert isinstance(outcome.result, CacheMiss)
    if explanation is None:
        return replace(outcome, result=CacheMiss(f"{outcome.result.message}. The store is empty"))
    if not explanation.differences:
        other = CacheMiss(f"{outcome.result.message}. Under this key is another answer")
        return replace(outcome, result=other)
    fields = ", ".join(each.field for each in explanation.differences)
    error = CacheMiss(
        f"{outcome.result.message}. The nearest stored request, {explanation.key.hex()}, "
        f"differs in: {fields}",
        explanation=explanation_object(explanation),
    )
    return replace(outcome, result=error)


def explanation_object(explanation: "Explanation") -> dict[str, object]:
    """As it is sent to clients; values are JSON, a long text cut to where it differs."""
    return {
        "nearest": explanation.key.hex(),
        "differences": [asdict(each) for each in explanation.differences],
    }
