"""How sure a difference between two rows of a table is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 256
"""Resamples that are drawn together: fast, and small in memory for any number of examples."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of means with its confidence interval."""

    difference: float
    low: float
    high: float


def paired_bootstrap(
    ours_KN: NDArray[np.float64],
    theirs_KN: NDArray[np.float64],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval for mean(ours) - mean(theirs).

    Both were scored on the same N examples, and each of the K training seeds is a row. A resample
    draws seeds and examples with replacement, so that the interval covers both: another draw of
    test data and another run of the training.

    Args:
        ours_KN: scores, seeds by examples; a vector is one seed.
        theirs_KN: the same examples in the same order; a method without a seed may be one row.
        resamples: how many means are drawn.
        confidence: share of the resampled means that lies inside.
        seed: of numpy's generator; the same seed gives the same interval.

    Raises:
        ValueError: the shapes do not belong together, there are no scores, or one is not finite.
    """
    difference_KN = _differences(np.atleast_2d(ours_KN), np.atleast_2d(theirs_KN))
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            _resampled_means(difference_KN, min(_AT_ONCE, resamples - start), generator)
            for start in range(0, resamples, _AT_ONCE)
        ]
    )
    outside = (1 - confidence) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(float(difference_KN.mean()), float(low), float(high))


def _differences(
    ours_KN: NDArray[np.float64], theirs_KN: NDArray[np.float64]
) -> NDArray[np.float64]:
    same_examples = ours_KN.shape[1] == theirs_KN.shape[1] > 0
    if not same_examples or theirs_KN.shape[0] not in (1, ours_KN.shape[0]):
        raise ValueError(
            "expected scores of the same examples, with as many seeds on both sides or one on the "
            f"right; got (seeds, examples) {ours_KN.shape} and {theirs_KN.shape}"
        )
    difference_KN = ours_KN - theirs_KN
    if not np.isfinite(difference_KN).all():
        raise ValueError("expected finite scores; leave out examples that were not answered")
    return difference_KN


def _resampled_means(
    difference_KN: NDArray[np.float64], resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(R,): drawing with replacement is drawing how often each seed and each example counts."""
    weight_RK, weight_RN = (
        generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count
        for count in difference_KN.shape
    )
    means: NDArray[np.float64] = ((weight_RK @ difference_KN) * weight_RN).sum(axis=1)
    return means
