"""Work that has parts, done on as many threads as PyTorch may use: a share of it for each.

A small model is hundreds of short operations. Where PyTorch's threads divide each of them, they
wait for the slowest, and for Python, hundreds of times; here they wait once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import torch

Result = TypeVar("Result")

_ALIKE = 0.9
"""The smallest share over the largest, at least: a thread that is done does not help the others."""


def side_by_side(
    work: Callable[[Sequence[int]], Sequence[Result]], sizes: Sequence[int]
) -> list[Result]:
    """Does the work in shares of like size at once, or in one piece where there are none.

    Args:
        work: Parts, by index, to what comes of each; called by several threads.
        sizes: How much there is to do for each part, in any unit.

    Returns:
        What came of each part, in their order.
    """
    threads = torch.get_num_threads()
    shares = like_shares(sizes, threads)
    if len(shares) == 1:
        return list(work(shares[0]))
    each = threads // len(shares)
    try:
        with ThreadPoolExecutor(
            len(shares), initializer=torch.set_num_threads, initargs=(each,)
        ) as pool:
            results = list(pool.map(work, shares))
    finally:
        # A thread sets its own number, and with it that of all threads to come.
        torch.set_num_threads(threads)
    done = dict(zip(chain(*shares), chain(*results), strict=True))
    return [done[part] for part in range(len(sizes))]


def like_shares(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Parts, by index, in at most so many shares of like size; in one where that cannot be."""
    shares: list[list[int]] = [[] for _ in range(min(most, len(sizes)))]
    loads = [0] * len(shares)
    for part in sorted(range(len(sizes)), key=lambda part: -sizes[part]):
        lightest = loads.index(min(loads))
        shares[lightest].append(part)
        loads[lightest] += sizes[part]
    alike = bool(shares) and min(loads) > _ALIKE * max(loads)
    return [sorted(share) for share in shares] if alike else [list(range(len(sizes)))]
