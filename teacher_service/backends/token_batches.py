"""Which prompts share a batch: alike in length, within a budget of tokens."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def token_batches(
    waiting: Sequence[T], size: Callable[[T], tuple[int, int]], budget: int
) -> Iterator[list[T]]:
    """Cut what waits into batches, the longest first, so that little of a batch is padding.

    Args:
        waiting: In any order.
        size: Tokens of one's prompt, and the most that its completion may have.
        budget: For rows times (longest prompt + longest completion); one that is over it alone
            is a batch of its own.
    """
    batch: list[T] = []
    longest = (0, 0)
    for one in sorted(waiting, key=size, reverse=True):
        grown = (max(longest[0], size(one)[0]), max(longest[1], size(one)[1]))
        if batch and (len(batch) + 1) * sum(grown) > budget:
            yield batch
            batch, grown = [], size(one)
        batch.append(one)
        longest = grown
    if batch:
        yield batch
