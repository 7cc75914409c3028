"""How well one number predicts another over checkpoints."""

import numpy as np

from premem_core.metrics.pre_memorization import Floats


def identity_r2(x: Floats, y: Floats) -> float:
    """R² of the identity line: 1 − Σ(y − x)² / Σ(y − ȳ)² (METHOD, section 1).

    A NaN leaves its point out. NaN where it is undefined: fewer than two points, or y does not
    vary.

    >>> identity_r2(np.array([0.1, 0.5, np.nan]), np.array([0.1, 0.5, 0.9]))
    1.0
    """
    x, y = _known_points(x, y)
    if len(y) < 2 or np.ptp(y) == 0:
        return float("nan")
    return float(1 - np.sum((y - x) ** 2) / np.sum((y - y.mean()) ** 2))


def linear_r2(x: Floats, y: Floats) -> float:
    """R² of the best line through the points: the squared Pearson correlation; NaN where undefined.

    >>> round(linear_r2(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 9.0])), 6)
    1.0
    """
    return pearson(x, y) ** 2


def pearson(x: Floats, y: Floats) -> float:
    """Pearson's correlation.

    A NaN leaves its point out. NaN where it says nothing: fewer than three points, for any two
    have a line through them, or x or y does not vary.
    """
    x, y = _known_points(x, y)
    if len(y) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _known_points(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    known = ~np.isnan(x) & ~np.isnan(y)
    return x[known], y[known]
