"""How well one number predicts another over checkpoints, and the threshold that fits best.

Axes: P points (checkpoints of all runs that count), C checkpoints of one run, N its examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from premem_core.metrics import Floats


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """The exact optimum of identity R² over all thresholds, and the interval that attains it."""

    log_log_threshold: float
    lowest: float
    highest: float
    identity_r2: float


def identity_r2(x: Floats, y: Floats) -> float:
    """R² of the identity line: 1 − Σ(y − x)² / Σ(y − ȳ)² (METHOD, section 1).

    NaN where it is undefined: fewer than two points, or y does not vary.

    >>> identity_r2(np.array([0.1, 0.5]), np.array([0.1, 0.5]))
    1.0
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(y) < 2 or np.ptp(y) == 0:
        return float("nan")
    return float(1 - np.sum((y - x) ** 2) / np.sum((y - y.mean()) ** 2))


def linear_r2(x: Floats, y: Floats) -> float:
    """R² of the best line through the points: the squared Pearson correlation.

    NaN where it is undefined: fewer than two points, or x or y does not vary.

    >>> round(linear_r2(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 9.0])), 6)
    1.0
    """
    if len(y) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.pearsonr(x, y).statistic ** 2)


def best_threshold(
    accuracies: Sequence[Floats], nlls: Sequence[Floats], test_accuracies: Sequence[Floats]
) -> ThresholdFit:
    """The threshold t with the highest identity R² of mean PM against test accuracy.

    Mean PM is a step function of the threshold that changes only at observed NLLs (METHOD,
    section 4), so sorting them finds the optimum exactly; the middle of the best step is returned.

    Args:
        accuracies: per run (C, N), mean correctness.
        nlls: per run (C, N), nats.
        test_accuracies: per run (C,); NaN leaves a checkpoint out.

    Raises:
        ValueError: fewer than two different test accuracies, or no correct train sample.
    """
    y = np.concatenate([np.asarray(t) for t in test_accuracies])
    y = y[~np.isnan(y)]
    if len(y) < 2 or np.ptp(y) == 0:
        raise ValueError("at least two checkpoints with different test accuracies are needed")
    start, ats, changes = 0.0, [], []
    for accuracy, nll, tests in zip(accuracies, nlls, test_accuracies, strict=True):
        for c, test in enumerate(tests):
            if not np.isnan(test):
                at, means = mean_premem_steps(accuracy[: c + 1], nll[: c + 1])
                residuals = (test - means) ** 2
                start += residuals[0]
                ats.append(at)
                changes.append(np.diff(residuals))
    at, change = np.concatenate(ats), np.concatenate(changes)
    if not len(at):
        raise ValueError("no threshold changes anything, for train accuracy is 0 everywhere")
    order = np.argsort(at, kind="stable")
    at = at[order]
    residual = start + np.concatenate([[0.0], np.cumsum(change[order])])
    # residual[k] holds for thresholds τ = e^t in (edges[k], edges[k + 1]].
    edges = np.concatenate([[0.0], at, [np.inf]])
    best = int(np.argmin(np.where(edges[1:] > edges[:-1], residual, np.inf)))
    total = np.sum((y - y.mean()) ** 2)
    return _threshold_fit(edges[best], edges[best + 1], float(1 - residual[best] / total))


def mean_premem_steps(accuracy: Floats, nll: Floats) -> tuple[Floats, Floats]:
    """Mean PM of a run's last given checkpoint as a step function of the threshold τ = e^t.

    Args:
        accuracy: (C, N) of the checkpoints up to and including the one in question.
        nll: (C, N), nats; NaN is never memorized.

    Returns:
        (K,) ascending breakpoints and (K + 1,) means; means[k] holds for τ in
        (breakpoints[k − 1], breakpoints[k]].

    >>> at, means = mean_premem_steps(np.array([[0.6], [1.0]]), np.array([[0.9], [0.01]]))
    >>> at, means
    (array([0.01, 0.9 ]), array([1. , 0.6, 0. ]))
    """
    # As τ rises, an example's checkpoints are masked in order of rising NLL; what remains is the
    # running maximum over the others, taken from the far end.
    order = np.argsort(nll, axis=0)
    at = np.take_along_axis(nll, order, axis=0)
    best = np.flip(np.maximum.accumulate(np.flip(np.take_along_axis(accuracy, order, 0), 0)), 0)
    pieces = np.vstack([np.minimum(best, accuracy[-1]), np.zeros((1, accuracy.shape[1]))])
    change = np.diff(pieces, axis=0)
    counts = (change != 0) & ~np.isnan(at)
    # An NLL of 0 or below is memorized at every threshold.
    at, change = np.maximum(at[counts], 0.0), change[counts]
    order = np.argsort(at, kind="stable")
    means = pieces[0].mean() + np.concatenate([[0.0], np.cumsum(change[order])]) / nll.shape[1]
    return at[order], means


def _threshold_fit(low: float, high: float, r2: float) -> ThresholdFit:
    with np.errstate(divide="ignore"):
        low, high = float(np.log(low)), float(np.log(high))
    # A step that is open on one side has no middle; its end itself could be lost to rounding.
    low_end = high - 0.02 if np.isinf(low) else low
    high_end = low + 0.02 if np.isinf(high) else high
    middle = (low_end + high_end) / 2
    return ThresholdFit(middle, low, high, r2)
