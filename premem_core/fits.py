"""How well one number predicts another over checkpoints, and the threshold that fits best.

Axes: P points (checkpoints of all runs that count), C checkpoints of one run, N its examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from premem_core.estimators import Estimator, SampleCounts, premem_steps
from premem_core.metrics import Floats


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """The exact optimum of identity R² over all thresholds, and the interval that attains it.

    `restricted`: only over those thresholds at which no sample is missing that matters.
    """

    log_log_threshold: float
    lowest: float
    highest: float
    identity_r2: float
    restricted: bool = False


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
    """R² of the best line through the points: the squared Pearson correlation.

    A NaN leaves its point out. NaN where it says nothing: fewer than three points, for any two
    have a line through them, or x or y does not vary.

    >>> round(linear_r2(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 9.0])), 6)
    1.0
    """
    x, y = _known_points(x, y)
    if len(y) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.pearsonr(x, y).statistic ** 2)


def best_threshold(
    counts: Sequence[SampleCounts],
    nlls: Sequence[Floats],
    test_accuracies: Sequence[Floats],
    estimator: Estimator = "plain",
) -> ThresholdFit:
    """The threshold t with the highest identity R² of mean PM against test accuracy.

    Mean PM is a step function of the threshold that changes only at observed NLLs (METHOD,
    section 4), so sorting them finds the optimum exactly; the middle of the best step is returned.
    Where a plan left samples out, only steps count at which every PM is known without them.

    Args:
        counts: per run (C, N).
        nlls: per run (C, N), nats.
        test_accuracies: per run (C,); NaN leaves a checkpoint out.

    Raises:
        ValueError: fewer than two different test accuracies; no correct train sample; no estimate
            from these counts; or at every step that predicts anything samples are missing.
    """
    y = np.concatenate([np.asarray(t) for t in test_accuracies])
    y = y[~np.isnan(y)]
    if len(y) < 2 or np.ptp(y) == 0:
        raise ValueError("at least two checkpoints with different test accuracies are needed")
    start, ats, changes = np.zeros(2), [], []
    for of_run, nll, tests in zip(counts, nlls, test_accuracies, strict=True):
        for c, test in enumerate(tests):
            if not np.isnan(test):
                at, means = mean_premem_steps(premem_steps(estimator, of_run, nll, c), nll[: c + 1])
                unknown = np.isnan(means)
                residuals = np.vstack([np.where(unknown, 0.0, (test - means) ** 2), unknown])
                start += residuals[:, 0]
                ats.append(at)
                changes.append(np.diff(residuals))
    at, change = np.concatenate(ats), np.concatenate(changes, axis=1)
    if not len(at):
        raise ValueError("no threshold changes anything, for train accuracy is 0 everywhere")
    order = np.argsort(at, kind="stable")
    at = at[order]
    residual, unknown = start[:, None] + np.insert(np.cumsum(change[:, order], axis=1), 0, 0, 1)
    # residual[k] holds for thresholds τ = e^t in (edges[k], edges[k + 1]].
    edges = np.concatenate([[0.0], at, [np.inf]])
    known = unknown < 0.5
    best = int(np.argmin(np.where((edges[1:] > edges[:-1]) & known, residual, np.inf)))
    total = np.sum((y - y.mean()) ** 2)
    r2 = float(1 - residual[best] / total)
    if not known.all() and r2 <= 0:
        raise ValueError(
            "at every threshold that predicts anything, samples are missing that the plan left out"
        )
    return _threshold_fit(edges[best], edges[best + 1], r2, restricted=not known.all())


def mean_premem_steps(pieces: Floats, nll: Floats) -> tuple[Floats, Floats]:
    """Mean PM of a run's last given checkpoint as a step function of the threshold τ = e^t.

    Args:
        pieces: (C + 1, N), `estimators.premem_steps` of the checkpoints up to that one.
        nll: (C, N), nats; NaN is never memorized.

    Returns:
        (K,) ascending breakpoints and (K + 1,) means; means[k] holds for τ in
        (breakpoints[k − 1], breakpoints[k]], NaN where a PM is not known.

    >>> pieces = np.array([[1.0], [0.6], [0.0]])
    >>> at, means = mean_premem_steps(pieces, np.array([[0.9], [0.01]]))
    >>> at, means
    (array([0.01, 0.9 ]), array([1. , 0.6, 0. ]))
    """
    # As τ rises, an example's checkpoints are masked in order of rising NLL.
    at = np.sort(nll, axis=0)
    unknown = np.isnan(pieces)
    values = np.where(unknown, 0.0, pieces)
    change, unknown_change = np.diff(values, axis=0), np.diff(unknown.astype(np.int64), axis=0)
    counts = ((change != 0) | (unknown_change != 0)) & ~np.isnan(at)
    # An NLL of 0 or below is memorized at every threshold.
    at, change, unknown_change = np.maximum(at[counts], 0.0), change[counts], unknown_change[counts]
    order = np.argsort(at, kind="stable")
    n = nll.shape[1]
    means = values[0].mean() + np.concatenate([[0.0], np.cumsum(change[order])]) / n
    n_unknown = unknown[0].sum() + np.concatenate([[0], np.cumsum(unknown_change[order])])
    return at[order], np.where(n_unknown == 0, means, np.nan)


def _known_points(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    known = ~np.isnan(x) & ~np.isnan(y)
    return x[known], y[known]


def _threshold_fit(low: float, high: float, r2: float, *, restricted: bool) -> ThresholdFit:
    with np.errstate(divide="ignore"):
        low, high = float(np.log(low)), float(np.log(high))
    # A step that is open on one side has no middle; its end itself could be lost to rounding.
    low_end = high - 0.02 if np.isinf(low) else low
    high_end = low + 0.02 if np.isinf(high) else high
    middle = (low_end + high_end) / 2
    return ThresholdFit(middle, low, high, r2, restricted)
