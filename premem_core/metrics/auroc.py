"""Area under the ROC curve: how well a score separates two classes."""

import numpy as np

from premem_core.metrics import intervals
from premem_core.metrics.pre_memorization import Floats


def auroc(values: Floats, positive: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve and the half-width of its 90 % interval.

    The area is the probability that a random positive example has a higher value than a random
    negative one; a tie counts half. The interval is that of DeLong et al. (1988).

    Args:
        values: (N,) scores.
        positive: (N,) True for positive examples.

    Returns:
        The area is NaN where there are no positives or no negatives; the half-width is NaN where
        there are fewer than two of either.

    >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))[0]
    0.75
    """
    higher, lower = np.sort(values[positive]), np.sort(values[~positive])
    if not len(higher) or not len(lower):
        return float("nan"), float("nan")
    above = _share_below(lower, higher)  # for each positive: the share of negatives below it
    below = 1 - _share_below(higher, lower)
    area = float(above.mean())
    if len(higher) < 2 or len(lower) < 2:
        return area, float("nan")
    variance = above.var(ddof=1) / len(higher) + below.var(ddof=1) / len(lower)
    return area, float(intervals.Z90 * np.sqrt(variance))


def _share_below(reference: Floats, values: Floats) -> Floats:
    """(N,): for each value, the share of the sorted `reference` below it; a tie counts half."""
    ends = [np.searchsorted(reference, values, side) for side in ("left", "right")]
    share: Floats = (ends[0] + ends[1]) / 2 / len(reference)
    return share
