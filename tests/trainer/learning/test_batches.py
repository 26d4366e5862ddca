"""Which examples make up a step."""

import pytest

from trainer.learning.batches import batches_of, epoch_order, rate_of, share_of, value_at
from trainer.types import Example, Question

EXAMPLES = [Example(str(number), ("text",), (Question(None, "x"),)) for number in range(50)]


def _ids(examples):
    return [example.id for example in examples]


def test_an_epoch_has_every_example_once():
    """In an order of its own for each epoch and seed."""
    orders = [_ids(epoch_order(EXAMPLES, seed, epoch)) for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    assert all(sorted(order) == sorted(_ids(EXAMPLES)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_the_order_depends_on_nothing_but_seed_epoch_and_ids():
    """Neither on the file's order nor on which other examples there are."""
    order = _ids(epoch_order(EXAMPLES, 0, 1))
    assert _ids(epoch_order(EXAMPLES[::-1], 0, 1)) == order
    some = epoch_order(EXAMPLES[10:30], 0, 1)
    assert _ids(some) == [id_ for id_ in order if 10 <= int(id_) < 30]
    assert order[:5] == ["35", "48", "38", "36", "20"]


def test_batches_lose_and_repeat_nothing():
    """The last one is smaller."""
    batches = batches_of(EXAMPLES[:7], 3)
    assert [_ids(batch) for batch in batches] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_processes_share_a_batch():
    """Each example goes to one of them; one may get none."""
    shares = [_ids(share_of(EXAMPLES[:2], rank, 3)) for rank in range(3)]
    assert shares == [["0"], ["1"], []]


def test_each_of_several_rates_has_its_share_of_the_examples():
    """By the example, the epoch and the seed alone; over epochs an example meets all of them."""
    rates = (0.2, 0.3, 0.5)
    drawn = [rate_of(str(index), 0, 1, rates) for index in range(3000)]
    assert all(900 < drawn.count(rate) < 1100 for rate in rates)
    assert {rate_of("7", 0, epoch, rates) for epoch in range(20)} == set(rates)
    assert drawn != [rate_of(str(index), 1, 1, rates) for index in range(3000)]
    assert rate_of("7", 0, 1, rates) == drawn[7]


def test_the_rate_moves_evenly_to_the_runs_own_and_stays():
    """From 0.6 to 0.3 in three steps."""
    rates = [value_at(step, 0.6, 0.3, 3) for step in range(1, 7)]
    assert rates == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.3, 0.3])
