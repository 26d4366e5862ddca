"""Long curves in few points."""

import numpy as np
import pytest

from trainer.evaluation.run_report.curves import downsample, running_mean


def test_a_short_curve_stays_as_it_is_less_what_has_no_value():
    """Four points a bucket are few enough."""
    steps, values = downsample(np.arange(1, 6.0), np.array([1, np.nan, 3, np.inf, 5]), buckets=2)
    assert steps.tolist() == [1, 3, 5]
    assert values.tolist() == [1, 3, 5]


def test_each_bucket_keeps_its_ends_and_its_extremes():
    """Computed by hand: twelve steps in two buckets, peaks inside."""
    values = np.array([5, 4, 9, 0, 4, 5, 1, 2, 3, 8, 2, 1.0])
    steps, kept = downsample(np.arange(12.0), values, buckets=2)
    assert steps.tolist() == [0, 2, 3, 5, 6, 9, 11]
    assert kept.tolist() == [5, 9, 0, 5, 1, 8, 1]


def test_a_single_peak_of_a_long_run_is_never_lost():
    """One step of ten thousand."""
    values = np.zeros(10_000)
    values[[1234, 8765]] = [7.0, -7.0]
    steps, kept = downsample(np.arange(10_000.0), values)
    assert len(steps) <= 800
    assert kept[steps == 1234] == 7.0
    assert kept[steps == 8765] == -7.0


@pytest.mark.parametrize(
    ("window", "expected"), [(1, [1, 2, 6, 9]), (2, [1, 1.5, 4, 7.5]), (9, [1, 1.5, 3, 4.5])]
)
def test_the_running_mean_is_of_the_last_steps(window, expected):
    """By hand; a window longer than the curve is no harm."""
    assert running_mean(np.array([1, 2, 6, 9.0]), window) == pytest.approx(expected)


def test_a_step_without_a_value_takes_no_part_in_the_mean():
    """And before the first value there is no mean."""
    mean = running_mean(np.array([np.nan, 2, np.nan, 4]), 2)
    assert np.isnan(mean[0])
    assert mean[1:].tolist() == [2, 2, 4]
