"""Which examples make up a step: a function of the seed, the epoch and the ids alone."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee, zip_longest

from trainer.types import Example


@dataclass(frozen=True, slots=True)
class Batch:
    """One optimiser step's examples."""

    epoch: int
    step: int
    """Counted from 1 over the whole run."""
    examples: list[Example]


def epoch_order(examples: Sequence[Example], seed: int, epoch: int) -> list[Example]:
    """The examples in this epoch's order.

    Sorted by a hash of (seed, epoch, id), so that it can be computed again after a resume, on any
    machine, without a generator's state.
    """

    def rank(example: Example) -> bytes:
        return hashlib.sha256(f"{seed}/{epoch}/{example.id}".encode()).digest()

    return sorted(examples, key=rank)


def batches_of(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Cut into batches; the last one may be smaller, no example is repeated or lost."""
    return [list(examples[start : start + size]) for start in range(0, len(examples), size)]


def with_following(batches: Iterable[Batch]) -> Iterator[tuple[Batch, Batch | None]]:
    """Each batch with the one after it; the last has none."""
    these, following = tee(batches)
    next(following, None)
    return zip_longest(these, following)


def share_of(batch: Sequence[Example], rank: int, world_size: int) -> list[Example]:
    """The part of a batch that one process works on; may be empty."""
    return list(batch[rank::world_size])


def rate_of(example_id: str, seed: int, epoch: int, rates: Sequence[float]) -> float:
    """The one of several target rates that an example has in an epoch, each as often as the others.

    By a hash, like the order: it depends neither on the batch nor on a resume.
    """
    digest = hashlib.sha256(f"rate/{seed}/{epoch}/{example_id}".encode()).digest()
    return rates[int.from_bytes(digest[:8], "big") % len(rates)]


def value_at(step: int, start: float, final: float, steps: int) -> float:
    """What moves from `start` evenly to `final` over `steps` steps, at a step counted from 1."""
    return start + (final - start) * min(1.0, (step - 1) / steps)
