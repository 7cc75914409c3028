"""Last-unmasked accuracy (LU): PM of a checkpoint from few samples (docs/method.md, section 10).

    l(i, c) = the last checkpoint ≤ c at which example i is not memorized
    LU_c(i) = A_{l(i, c)}(i), and 0 where there is none

It has no maximum and no minimum, so its mean is unbiased for any number of samples, and no
memorized pair needs a sample. The examples in the share of the plan `last` are a systematic sample
of all, so they stand for the others: of the U examples that are unmasked at any checkpoint up to c,
which perplexities tell, D have samples, and

    LU_c = U/N · mean of LU_c(i) over these D.

Axes: C checkpoints of one run in training order, N training examples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.intervals import Z90, half_of_alike
from premem_core.metrics.pre_memorization import Floats, memorized
from premem_core.metrics.sample_counts import SampleCounts


@dataclass(frozen=True, slots=True)
class Means:
    """Means over the examples of each checkpoint; all are (C,), and NaN where a value is unknown.

    Attributes:
        mean: the mean.
        half: the half-width of its 90 % interval, from the spread between questions.
        sampling_error: the standard error that comes from the samples alone, for these questions.
            With one sample per pair it cannot be told from the spread between questions, and is an
            upper bound.
    """

    mean: Floats
    half: Floats
    sampling_error: Floats


def last_unmasked_accuracy(counts: SampleCounts, nll: Floats, log_log_threshold: float) -> Floats:
    """LU_c(i), (C, N); NaN where the pair l(i, c) is partial.

    Args:
        nll: (C, N) mean NLL per target token, nats.
        log_log_threshold: t; a pair is masked where NLL < e^t.

    >>> counts = SampleCounts.of(np.array([[1], [0], [1]]), np.array([[1], [0], [0]]), 1)
    >>> last_unmasked_accuracy(counts, np.array([[0.9], [0.01], [0.2]]), -2.3)[:, 0]
    array([1., 1., 0.])
    """
    last = _last(~memorized(nll, log_log_threshold))
    return _at(counts.accuracy, last)


def last_unmasked_steps(counts: SampleCounts, order: NDArray[np.intp]) -> Floats:
    """LU of the last checkpoint in `order` while more and more checkpoints are masked.

    Args:
        order: (L, N) for each example, the checkpoints 0 to L − 1 by rising NLL.

    Returns:
        (L + 1, N): row j is LU where the first j checkpoints of `order` are masked.

    >>> counts = SampleCounts.of(np.array([[1], [1]]), np.array([[1], [0]]), 1)
    >>> last_unmasked_steps(counts, np.array([[1], [0]]))[:, 0]
    array([0., 1., 0.])
    """
    last = np.flip(np.maximum.accumulate(np.flip(order, 0), 0), 0)
    return np.vstack([_at(counts.accuracy, last), np.zeros((1, order.shape[1]))])


def last_unmasked_means(counts: SampleCounts, nll: Floats, log_log_threshold: float) -> Means:
    """LU_c with its uncertainty; arguments as in `last_unmasked_accuracy`.

    A mean is NaN where an example that was drawn lacks the samples that it needs.

    >>> counts = SampleCounts.of(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0]]), 1)
    >>> last_unmasked_means(counts, np.array([[0.9, 0.8, 0.9, 0.01]]), -2.3).mean
    array([0.375])
    """
    last = _last(~memorized(nll, log_log_threshold))
    values, needed = _at(counts.accuracy, last), last >= 0
    known = needed & counts.drawn
    unknown = (np.isnan(values) & counts.drawn).any(axis=1)
    n, of, drawn = nll.shape[1], needed.sum(axis=1), known.sum(axis=1)
    values = np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_known, mean_square = values.sum(axis=1) / drawn, (values**2).sum(axis=1) / drawn
        # Where all values are equal, rounding can make a difference of squares negative.
        spread_known = np.maximum(mean_square - mean_known**2, 0.0) * drawn / (drawn - 1)
        mean = of / n * mean_known
        spread = np.maximum(of / n * mean_square - mean**2, 0.0) * n / (n - 1)
        # The variances of the mean that come from the questions, from which of them were drawn,
        # and from their samples.
        questions = spread / n
        rows = (of / n) ** 2 * np.where(drawn < of, spread_known * (1 / drawn - 1 / of), 0.0)
        within = rows + (of / n) ** 2 * _variance_of_accuracy(counts, last, known) / of
        at_most = (of / n) ** 2 * np.minimum(spread_known, 0.25) / drawn  # p(1 − p) ≤ 1/4
        samples = np.sqrt(np.where(np.isnan(within), at_most, within))
        half = Z90 * np.sqrt(questions + rows)
        # Where all values are alike, their spread tells nothing.
        least = np.where(spread_known == 0, of / n * half_of_alike(drawn), 0.0)
    found = (mean, np.maximum(half, least), np.maximum(samples, least / Z90))
    return Means(*(np.where(unknown, np.nan, np.where(of > 0, x, 0.0)) for x in found))


def last_unmasked_change(
    counts: SampleCounts, nll: Floats, log_log_threshold: float, checkpoint: int, other: int
) -> tuple[float, float]:
    """The mean of LU_c(i) − LU_d(i) of two checkpoints c and d, and its standard error.

    Both answer the same questions, so it comes from the differences of single questions. Arguments
    as in `last_unmasked_accuracy`; NaN where an example that was drawn lacks samples.
    """
    last = _last(~memorized(nll, log_log_threshold))
    values = _at(counts.accuracy, last)
    needed: NDArray[np.bool_] = np.asarray((last[[checkpoint, other]] >= 0).any(axis=0))
    n, of = len(needed), int(needed.sum())
    change = (values[checkpoint] - values[other])[needed & counts.drawn]
    if not of:
        return 0.0, 0.0
    if not len(change):
        return np.nan, np.nan
    mean, square = of / n * change.mean(), of / n * (change**2).mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum(square - mean**2, 0.0) / np.float64(n - 1)
        if len(change) < of:
            spread = change.var() / np.float64(len(change) - 1)
            variance += (of / n) ** 2 * spread * (1 - len(change) / of)
        if (change == change[0]).all():  # their spread tells nothing
            least = of / n * half_of_alike(np.array(len(change))) / Z90
            variance = np.maximum(variance, least**2)
        return float(mean), float(np.sqrt(variance))


def _variance_of_accuracy(
    counts: SampleCounts, last: NDArray[np.intp], known: NDArray[np.bool_]
) -> Floats:
    """(C,): the mean of p(1 − p)/K over the known examples; NaN where one has a single sample."""
    k, accuracy = _at(counts.samples.astype(np.float64), last), _at(counts.accuracy, last)
    variance = accuracy * (1 - accuracy) / np.where(k > 1, k - 1, np.nan)
    return np.where(known, variance, 0.0).sum(axis=1) / known.sum(axis=1)


def _last(unmasked: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(C, N): l(i, c); −1 where there is none."""
    rows = np.arange(len(unmasked))[:, None]
    return np.maximum.accumulate(np.where(unmasked, rows, -1), axis=0)


def _at(values: Floats, last: NDArray[np.intp]) -> Floats:
    """The values of the pairs l(i, c); 0 where there is none."""
    found = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last < 0, 0.0, found)
