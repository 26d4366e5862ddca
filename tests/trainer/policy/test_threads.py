"""Work in shares, a thread for each."""

import threading
from collections.abc import Iterator, Sequence

import pytest
import torch

from tests.tiny_models import CORPUS
from trainer.policy.contexts import Target
from trainer.policy.inference import compress_many
from trainer.policy.threads import like_shares, side_by_side
from trainer.policy.words import CompressionOptions


@pytest.fixture
def _four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([], 2, [[]]),
        ([5], 2, [[0]]),
        ([5, 5], 4, [[0], [1]]),
        ([1, 4, 2, 5], 2, [[0, 3], [1, 2]]),
        ([5, 5, 5], 2, [[0, 1, 2]]),
        ([0, 0], 2, [[0, 1]]),
        ([3, 4, 5, 6], 1, [[0, 1, 2, 3]]),
    ],
)
def test_shares_are_of_like_size_or_there_is_one(sizes, most, expected):
    """A thread that waits for another is worse than two that divide every operation."""
    assert like_shares(sizes, most) == expected


@pytest.mark.usefixtures("_four_threads")
def test_results_come_in_order_from_threads_of_their_own():
    """Each works with its part of PyTorch's threads, and the caller keeps all of them."""
    together = threading.Barrier(2, timeout=60)

    def work(share: Sequence[int]) -> list[tuple[int, int]]:
        together.wait()
        return [(part, torch.get_num_threads()) for part in share]

    assert side_by_side(work, [7, 7]) == [(0, 2), (1, 2)]
    assert torch.get_num_threads() == 4
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4]


@pytest.mark.usefixtures("_four_threads")
def test_what_fails_in_a_thread_fails_for_the_caller():
    """And leaves the number of threads as it was."""

    def work(share: Sequence[int]) -> list[int]:
        return [1 // part for part in share]

    with pytest.raises(ZeroDivisionError):
        side_by_side(work, [7, 7])
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("_four_threads")
def test_texts_compressed_side_by_side_are_those_of_each_alone(pair):
    """Also where nothing is dropped."""
    prompts = [[text] for text in CORPUS for _ in range(4)]
    for rate in (0.4, 1.0):
        target = Target(rate)
        together = compress_many(pair.ours, prompts, CompressionOptions(), target)
        alone = [
            compress_many(pair.ours, [prompt], CompressionOptions(), target)[0]
            for prompt in prompts
        ]
        assert [result.text for result in together] == [result.text for result in alone]
