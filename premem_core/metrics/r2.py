"""R²: how well one number predicts another over checkpoints."""

import numpy as np

from premem_core.metrics.pre_memorization import Floats


def identity_r2(x: Floats, y: Floats, weights: Floats | None = None) -> float:
    """R² of the identity line: 1 − Σw(y − x)² / Σw(y − ȳ)² (docs/method.md, section 1).

    A point with a NaN is left out. The result is NaN where R² is undefined: with fewer than two
    points, or where y does not vary.

    Args:
        x: (P,) predicted accuracies.
        y: (P,) measured accuracies.
        weights: (P,) how much each point counts; None counts all points alike.

    >>> identity_r2(np.array([0.1, 0.5, np.nan]), np.array([0.1, 0.5, 0.9]))
    1.0
    """
    x, y, w = _known_points(x, y, weights)
    if len(y) < 2 or np.ptp(y) == 0:
        return float("nan")
    mean = np.average(y, weights=w)
    return float(1 - np.sum(w * (y - x) ** 2) / np.sum(w * (y - mean) ** 2))


def linear_r2(x: Floats, y: Floats, weights: Floats | None = None) -> float:
    """R² of the best line through the points: the squared Pearson correlation.

    The arguments are those of `identity_r2`. The result is NaN where `pearson` is.

    >>> round(linear_r2(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 9.0])), 6)
    1.0
    """
    return pearson(x, y, weights) ** 2


def pearson(x: Floats, y: Floats, weights: Floats | None = None) -> float:
    """Pearson's correlation of x and y, weighted where `weights` is given.

    A point with a NaN is left out. The result is NaN where it would be meaningless: with fewer
    than three points, because a line goes through any two, or where x or y does not vary.

    Args:
        x, y: (P,).
        weights: (P,) how much each point counts; None counts all points alike.
    """
    x, y, w = _known_points(x, y, weights)
    if len(y) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    if np.ptp(w) == 0:
        return float(np.corrcoef(x, y)[0, 1])
    (xx, xy), (_, yy) = np.cov(x, y, aweights=w, ddof=0)
    return float(xy / np.sqrt(xx * yy))


def _known_points(x: Floats, y: Floats, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    known = ~np.isnan(x) & ~np.isnan(y)
    return x[known], y[known], w[known]
