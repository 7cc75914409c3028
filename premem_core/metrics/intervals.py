"""Means over questions with their 90 % interval. Arrays in, arrays out (docs/method.md, 4)."""

import numpy as np

from premem_core.metrics.pre_memorization import Floats

Z90 = 1.6448536269514722  # standard normal quantile of .95: a two-sided 90 % interval


def mean_interval(values: Floats) -> tuple[Floats, Floats]:
    """Mean over the last axis and the half-width of its 90 % interval.

    Questions are the independent units: the K samples of one question share their fate, so the
    interval comes from the spread between questions (docs/method.md, section 4). NaN entries do
    not count.

    >>> mean, half = mean_interval(np.array([0.0, 1.0, 0.0, 1.0]))
    >>> print(f"{mean:.2f} ± {half:.2f}")
    0.50 ± 0.47
    """
    values = np.asarray(values, dtype=np.float64)
    n = np.sum(~np.isnan(values), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(values, axis=-1) / n
        spread = np.nansum((values - np.expand_dims(mean, -1)) ** 2, axis=-1) / (n - 1)
        return mean, Z90 * np.sqrt(spread / n)


def whole_mean_interval(values: Floats) -> tuple[Floats, Floats]:
    """`mean_interval`, and NaN where any value is: what a plan left out is no random part.

    >>> whole_mean_interval(np.array([[0.0, 1.0], [0.5, np.nan]]))[0]
    array([0.5, nan])
    """
    mean, half = mean_interval(values)
    known = ~np.isnan(values).any(axis=-1)
    return np.where(known, mean, np.nan), np.where(known, half, np.nan)
