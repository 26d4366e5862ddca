"""What compression costs and saves: milliseconds, tokens, money, and how near the rate it lands."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from trainer.policy.inference import Compression


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one prompt takes to compress, alone, on the machine of the evaluation."""

    median_ms: float
    fixed_ms: float
    """What a prompt of no length would take, by least squares."""
    ms_per_token: float
    prompts: int
    """How many were timed."""

    def of(self, tokens: float) -> float:
        """Milliseconds for a prompt of so many tokens."""
        return self.fixed_ms + self.ms_per_token * tokens


def time_prompts(compress: Callable[[int], object], tokens: Sequence[int], count: int) -> Latency:
    """Time prompts one by one, evenly spread over their lengths, after one that warms up.

    Args:
        compress: compresses the prompt of an index.
        tokens: the length of each prompt.
        count: how many to time, at most.
    """
    by_length = sorted(range(len(tokens)), key=lambda index: tokens[index])
    positions = np.linspace(0, len(tokens) - 1, min(count, len(tokens))).round().astype(int)
    timed = [by_length[position] for position in positions]
    compress(timed[0])
    spent = []
    for index in timed:
        start = time.perf_counter()
        compress(index)
        spent.append(1000 * (time.perf_counter() - start))
    fixed, slope = _line([tokens[index] for index in timed], spent)
    return Latency(median(spent), fixed, slope, len(timed))


def break_even_tokens(
    latency: Latency, rate: float, usd_per_million: float, usd_per_hour: float
) -> float | None:
    """From which prompt length on compression saves more money than its machine costs.

    Args:
        latency: of the compressor.
        rate: achieved.
        usd_per_million: what the teacher's provider takes for a million prompt tokens.
        usd_per_hour: what the compressor's machine costs.

    Returns:
        Tokens of the original prompt; None where it never pays.
    """
    usd_per_ms = usd_per_hour / 3_600_000
    gain = (1 - rate) * usd_per_million / 1e6 - latency.ms_per_token * usd_per_ms
    return latency.fixed_ms * usd_per_ms / gain if gain > 0 else None


def rate_deviation(compressions: Sequence[Compression], rate: float) -> float:
    """Mean absolute deviation of each prompt's achieved rate from the requested one, in points."""
    return 100 * fmean(abs(compression.rate - rate) for compression in compressions)


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least squares with neither a negative start nor a negative slope: (start, slope)."""
    if len(set(x)) > 1:
        slope, start = (float(value) for value in np.polyfit(x, y, 1))
        if slope >= 0 and start >= 0:
            return start, slope
        if slope >= 0:
            return 0.0, float(np.dot(x, y) / np.dot(x, x))
    return fmean(y), 0.0
