import numpy as np
import pytest

from trainer.evaluation.intervals import paired_bootstrap


def test_a_constant_difference_is_certain():
    """Pairing takes out what both rows share: examples differ, the difference does not."""
    theirs = np.array([0.0, 0.25, 0.5, 0.75])
    interval = paired_bootstrap(theirs + 0.25, theirs, resamples=200)
    assert (interval.difference, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_examples_alone_give_the_classical_interval():
    """For one seed and many examples it is the mean plus or minus 1.96 standard errors."""
    difference = np.tile([0.0, 1.0], 200)
    interval = paired_bootstrap(difference, np.zeros(400))
    half_width = 1.96 * 0.5 / np.sqrt(400)
    assert interval.difference == 0.5
    assert interval.low == pytest.approx(0.5 - half_width, abs=0.005)
    assert interval.high == pytest.approx(0.5 + half_width, abs=0.005)


def test_seeds_that_disagree_widen_the_interval():
    """Many examples cannot hide that one seed in two gained nothing."""
    ours = np.array([np.zeros(1000), np.ones(1000)])
    interval = paired_bootstrap(ours, np.zeros((1, 1000)), resamples=500)
    assert (interval.difference, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_the_same_seed_gives_the_same_interval():
    """The interval is a pure function of scores and seed, and leaves numpy's own state alone."""
    scores = np.random.default_rng(1).random((3, 50))
    state = np.random.get_state()[1].copy()
    first, again, other = (paired_bootstrap(scores, scores[::-1] ** 2, seed=s) for s in (7, 7, 8))
    assert first == again
    assert first != other
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (np.zeros((3, 5)), np.zeros((3, 4))),
        (np.zeros((3, 5)), np.zeros((2, 5))),
        (np.zeros((1, 5)), np.zeros((3, 5))),
        (np.zeros((1, 0)), np.zeros((1, 0))),
    ],
)
def test_rows_of_different_examples_are_refused(ours, theirs):
    """Only what was measured on the same examples can be paired."""
    with pytest.raises(ValueError, match="scores of the same examples"):
        paired_bootstrap(ours, theirs)


def test_missing_scores_are_refused():
    """A NaN would silently become an interval of NaN."""
    with pytest.raises(ValueError, match="finite scores"):
        paired_bootstrap(np.array([0.5, np.nan]), np.zeros(2))
