"""Few labels: a mean from some labelled questions, joined with what is known without labels.

*Prediction-powered inference* (Angelopoulos et al., arXiv 2301.09633; with power tuning,
2311.01453) estimates a mean from n labelled questions and from predictions for these and for N
others. Its error is never larger than that of the labels alone, however bad the predictions are,
apart from a term that vanishes with n.
"""

import math
from dataclasses import dataclass

import numpy as np

from premem_core.metrics import intervals
from premem_core.metrics.pre_memorization import Floats

POWER = 0.8  # of the comparisons that are to be decided
Z_POWER = 0.8416212335729143  # its quantile of the standard normal
MOST_LABELS = 10_000  # nobody writes more to compare two checkpoints


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float

    @property
    def half(self) -> float:
        """Half of the 90 % interval."""
        return intervals.Z90 * self.error


def labelled_mean(labels: Floats) -> Estimate:
    """The mean of n labels, (n,), with the error of `intervals.mean_interval`."""
    mean, half = intervals.mean_interval(labels)
    return Estimate(float(mean), float(half) / intervals.Z90)


def prediction_powered_mean(labels: Floats, predicted: Floats, others: Floats) -> Estimate:
    """PPI++: θ = λ·mean(others) + mean(labels − λ·predicted), with the λ in [0, 1] of least error.

    Args:
        labels, predicted: (n,), n ≥ 2, label and prediction of the same questions.
        others: (N,), predictions of other questions of the same kind, without labels.

    Returns:
        `labelled_mean` where the labels are all alike, or no other question is predicted.
    """
    n, many = len(labels), len(others)
    if n < 2 or many < 2 or np.ptp(labels) == 0 or np.ptp(predicted) == 0:
        return labelled_mean(labels)
    covariance = float(np.cov(labels, predicted, ddof=0)[0, 1])
    spread = float(np.var(np.concatenate([predicted, others]), ddof=1))
    weight = min(max(covariance / ((1 + n / many) * spread), 0.0), 1.0)
    rectified = labels - weight * predicted
    value = weight * others.mean() + rectified.mean()
    error = math.hypot(
        weight * float(others.std(ddof=1)) / math.sqrt(many),
        float(rectified.std(ddof=1)) / math.sqrt(n),
    )
    return Estimate(float(value), error)


def join(first: Estimate, second: Estimate) -> Estimate:
    """Two independent estimates of one value, weighted by their precision.

    An estimate whose error is NaN counts for nothing.

    >>> joined = join(Estimate(0.4, 0.03), Estimate(0.5, 0.04))
    >>> round(joined.value, 6), round(joined.error, 6)
    (0.436, 0.024)
    """
    if math.isnan(second.error) or math.isnan(second.value):
        return first
    if math.isnan(first.error) or math.isnan(first.value):
        return second
    if first.error == 0 or second.error == 0:
        return first if first.error <= second.error else second
    precisions = first.error**-2, second.error**-2
    total = sum(precisions)
    value = (first.value * precisions[0] + second.value * precisions[1]) / total
    return Estimate(value, total**-0.5)


def labels_to_decide(difference: float, spread: float, prior_error: float) -> int | None:
    """How many labelled questions decide which of two checkpoints is better.

    So many that a 90 % interval of the joined difference leaves out 0 in POWER of the cases, if the
    true difference is the one given:

        n = spread² · (((z.95 + z.80) ÷ difference)² − 1 ÷ prior_error²)

    Args:
        difference: of the two accuracies.
        spread: standard deviation of the difference of a single question.
        prior_error: standard error of a prediction of the difference; NaN without one.

    Returns:
        None if it would be more than MOST_LABELS.
    """
    if difference == 0:
        return None
    needed = ((intervals.Z90 + Z_POWER) / difference) ** 2
    known = 0.0 if math.isnan(prior_error) else prior_error**-2 if prior_error else math.inf
    labels = max(0.0, spread**2 * (needed - known))
    return math.ceil(labels) if labels <= MOST_LABELS else None
