"""What compression costs and saves."""

import time

import pytest

from trainer.evaluation.costs import Latency, break_even_tokens, rate_deviation, time_prompts
from trainer.policy.inference import Compression


def test_break_even_is_where_the_tokens_saved_pay_for_the_machine():
    """By hand: 36 $/h are 1e-5 $ a ms; 10 $ a million are 1e-5 $ a token, half of them saved.

    A prompt of n tokens costs (40 + 0.1 n) * 1e-5 and saves 0.5 n * 1e-5: equal at n = 100.
    """
    latency = Latency(median_ms=50, fixed_ms=40, ms_per_token=0.1, prompts=8)
    assert latency.of(100) == pytest.approx(50)
    assert break_even_tokens(latency, 0.5, 10, 36) == pytest.approx(100)


def test_a_compressor_dearer_than_the_tokens_never_pays():
    """Each further token costs more than it saves."""
    latency = Latency(median_ms=50, fixed_ms=40, ms_per_token=0.1, prompts=8)
    assert break_even_tokens(latency, 0.5, 1, 36) is None


def test_prompts_are_timed_over_all_lengths():
    """The shortest and the longest are among them; the first is done once more, to warm up."""
    seen = []
    latency = time_prompts(seen.append, [30, 10, 20, 50, 40], 3)
    assert seen == [1, 1, 0, 3]
    assert latency.prompts == 3


def test_the_line_through_the_times_has_a_start_and_a_slope():
    """Sleeping 2 ms a token, the fit finds a slope of at least that, and nothing negative."""
    latency = time_prompts(lambda index: time.sleep(0.002 * (1, 10)[index]), [1, 10], 2)
    assert latency.ms_per_token > 0
    assert latency.fixed_ms >= 0
    assert latency.median_ms >= (2 + 20) / 2


def test_deviation_counts_both_directions():
    """One prompt 5 points above, one 15 below: 10 on average, not -5."""
    texts = [Compression("", (), 100, kept) for kept in (55, 35)]
    assert rate_deviation(texts, 0.5) == pytest.approx(10)
