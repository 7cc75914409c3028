"""Means over questions with their 90 % intervals (docs/method.md, section 4)."""

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.pre_memorization import Floats

ALIKE = 1e-12  # a half-width from rounding alone
Z90 = 1.6448536269514722  # the .95 quantile of the standard normal: a two-sided 90 % interval


def mean_interval(values: Floats) -> tuple[Floats, Floats]:
    """Return the mean over the last axis and the half-width of its 90 % interval.

    The interval comes from the spread between questions, because the K samples of one question
    are not independent (docs/method.md, section 4). Where all values are alike, their spread tells
    nothing, and the half-width is `half_of_alike`.

    Args:
        values: (..., N) one value per question, an accuracy or a difference of two; NaN entries are
            left out.

    Returns:
        Two arrays of shape (...).

    >>> mean, half = mean_interval(np.array([0.0, 1.0, 0.0, 1.0]))
    >>> print(f"{mean:.2f} ± {half:.2f}")
    0.50 ± 0.47
    """
    values = np.asarray(values, dtype=np.float64)
    n = np.sum(~np.isnan(values), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(values, axis=-1) / n
        spread = np.nansum((values - np.expand_dims(mean, -1)) ** 2, axis=-1) / (n - 1)
        half = Z90 * np.sqrt(spread / n)
        return mean, np.where(half < ALIKE, half_of_alike(n), half)[()]


def half_of_alike(n: NDArray[np.integer]) -> Floats:
    """The half-width of the 90 % interval of a mean of n values, all of which are alike.

    As many of all questions may have another value, and differ by 1, as Wilson's interval of the
    share 0 of n reaches: z² / (n + z²).

    >>> round(float(half_of_alike(np.array(100))), 3)
    0.026
    """
    return np.asarray(Z90**2 / (n + Z90**2))


def whole_mean_interval(values: Floats) -> tuple[Floats, Floats]:
    """Return `mean_interval`, but NaN where any value is NaN.

    The values that a sampling plan left out are not a random part of all values, so the mean of
    the others would be biased.

    >>> whole_mean_interval(np.array([[0.0, 1.0], [0.5, np.nan]]))[0]
    array([0.5, nan])
    """
    mean, half = mean_interval(values)
    complete = ~np.isnan(values).any(axis=-1)
    return np.where(complete, mean, np.nan), np.where(complete, half, np.nan)


def share_interval(successes: int, trials: int) -> tuple[float, float]:
    """The ends of the 90 % interval of a share (Wilson 1927); NaN without trials.

    Unlike that of a mean, it is of use where nearly none or nearly all succeed.

    >>> low, high = share_interval(0, 100)
    >>> f"{low:.3f} to {high:.3f}"
    '0.000 to 0.026'
    """
    if not trials:
        return float("nan"), float("nan")
    from scipy.stats import binomtest

    ends = binomtest(successes, trials).proportion_ci(confidence_level=0.9, method="wilson")
    return float(ends.low), float(ends.high)
