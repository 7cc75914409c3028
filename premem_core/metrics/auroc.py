"""Area under the ROC curve: how well a score tells two classes apart."""

import numpy as np

from premem_core.metrics import intervals
from premem_core.metrics.pre_memorization import Floats


def auroc(values: Floats, positive: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve and the half-width of its 90 % interval (DeLong et al. 1988).

    The chance that a positive has the higher value than a negative, ties counting half.

    Args:
        values: (N,).
        positive: (N,) booleans.

    Returns:
        NaN where there are no positives, or no negatives.

    >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))[0]
    0.75
    """
    higher, lower = np.sort(values[positive]), np.sort(values[~positive])
    if not len(higher) or not len(lower):
        return float("nan"), float("nan")
    above = _share_below(lower, higher)  # of each positive: how many negatives it is above
    below = 1 - _share_below(higher, lower)
    area = float(above.mean())
    if len(higher) < 2 or len(lower) < 2:
        return area, float("nan")
    variance = above.var(ddof=1) / len(higher) + below.var(ddof=1) / len(lower)
    return area, float(intervals.Z90 * np.sqrt(variance))


def _share_below(of: Floats, values: Floats) -> Floats:
    """For each value, the share of the sorted `of` that is below it, ties counting half."""
    ends = [np.searchsorted(of, values, side) for side in ("left", "right")]
    share: Floats = (ends[0] + ends[1]) / 2 / len(of)
    return share
