"""Long curves in few points, with their extremes kept, and what a curve says in a sentence."""

import numpy as np

from trainer.evaluation.run_report.run_files import Column

BUCKETS = 200


def downsample(steps: Column, values: Column, buckets: int = BUCKETS) -> tuple[Column, Column]:
    """At most four points for each bucket of steps: its first, lowest, highest and last.

    The drawn line is then the same, to a pixel, as that of all points (Jugel and others, "M4",
    VLDB 2014). Points without a value are left out.

    Args:
        steps: (N,), rising.
        values: (N,).
        buckets: into how many equal parts the range of steps is cut.
    """
    there = np.isfinite(values)
    steps, values = steps[there], values[there]
    if len(steps) <= 4 * buckets:
        return steps, values
    width = (steps[-1] - steps[0]) / buckets
    bucket = np.minimum((steps - steps[0]) // width, buckets - 1).astype(int)
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    ends = np.append(starts[1:], len(steps)) - 1
    by_bucket_then_value = np.lexsort((values, bucket))
    lowest, highest = by_bucket_then_value[starts], by_bucket_then_value[ends]
    kept = np.unique(np.concatenate([starts, lowest, highest, ends]))
    return steps[kept], values[kept]


def running_mean(values: Column, window: int) -> Column:
    """(N,): the mean of the last `window` values, or of as many as there are; NaN counts not."""
    there = np.isfinite(values)
    total = np.cumsum(np.where(there, values, 0.0))
    count = np.cumsum(there).astype(float)
    total[window:] -= total[:-window].copy()
    count[window:] -= count[:-window].copy()
    with np.errstate(invalid="ignore"):
        mean: Column = total / count
    return mean


def window_of(count: int) -> int:
    """Over how many steps a curve is smoothed: a fiftieth of it."""
    return max(1, count // 50)
