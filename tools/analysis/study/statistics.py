"""Means and paired differences over seeds, with their t-intervals."""

import math
from typing import Mapping, NamedTuple, Optional, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with its interval of confidence."""

    mean: float
    """NaN without values."""
    half: float
    """Half the width; NaN for fewer than two values."""
    n: int
    """Number of values."""

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    @property
    def excludes_zero(self) -> Optional[bool]:
        """None: there is no interval."""
        return None if math.isnan(self.half) else self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean of independent values with Student's interval, n - 1 degrees of freedom."""
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, 1)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(values)
    return Interval(mean, float(half), n)


def paired_difference(
    values: Mapping[int, float],
    reference: Mapping[int, float],
    confidence: float = CONFIDENCE,
) -> Interval:
    """Mean of ``value - reference`` over the seeds that both have.

    Args:
        values: Figure of each seed.
        reference: The same of what is compared with.
        confidence: Of the interval, in (0, 1).
    """
    seeds = sorted(set(values) & set(reference))
    return mean_interval([values[s] - reference[s] for s in seeds], confidence)
