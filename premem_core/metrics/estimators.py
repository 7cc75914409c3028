"""Pre-memorization accuracy from counts of correct samples: four estimators (docs/method.md,
sections 4 and 10).

Axes: C checkpoints of one run in training order, N training examples. A *pair* is one example at
one checkpoint. A pair has K samples, of which T are correct; it is *masked* where the example is
memorized.

    plain      the paper's formula with the observed mean correctness T/K.
    jackknife  the delete-one jackknife K·PM_K − (K−1)·mean_k PM_{K−1}^{(−k)}. It removes most of
               the bias of a maximum over few samples (the winner's curse).
    lu         last-unmasked accuracy (`last_unmasked`), for one sample or more.
    half       the mean of jackknife and lu.

The samples of a pair are exchangeable, so the mean over deletions is computed exactly. At each
checkpoint independently, one random sample is deleted: T becomes T − 1 with probability T/K. For a
masked pair, let M be the most correct samples of any earlier unmasked pair of the example, and n
the number of those pairs that have M. Then

    jackknife = T/K                           where T < M,
                (M/K)^n                       where T > M,
                1 − (1 − (M/K)^n)(1 − M/K)    where T = M,

and 0 where there is no earlier unmasked pair. An unmasked pair keeps T/K, which has no such bias.

The lazy plan stops a masked pair when T reaches M, after s < K samples, so it is unknown whether T
would have stayed M. The order of the samples then takes the place of the random deletion: the last
of the K samples counts as the deleted one. A stopped pair reached M without its last sample, so the
formula for T > M applies. Where the M-th correct sample was itself the K-th, M was not reached
without it, and the estimate is 1. The mean over all orders is exactly the jackknife of all K
samples, and no other function of s has that mean. Estimates of single examples therefore differ
from those of the full plan, while means over thousands of examples hardly differ.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics import intervals
from premem_core.metrics.last_unmasked import (
    Means,
    last_unmasked_accuracy,
    last_unmasked_change,
    last_unmasked_means,
    last_unmasked_steps,
)
from premem_core.metrics.pre_memorization import Floats, memorized, premem_accuracy
from premem_core.metrics.sample_counts import Ints, SampleCounts

Estimator = Literal["plain", "jackknife", "lu", "half"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
_HALVES: tuple[Estimator, Estimator] = ("jackknife", "lu")


def check_counts(estimator: Estimator, counts: SampleCounts) -> None:
    """Check that these counts are enough for an estimator.

    Raises:
        ValueError: the jackknife, alone or in `half`, has fewer than 2 samples of an example, or
            not the same number at every checkpoint.
    """
    if estimator in ("jackknife", "half") and counts.wanted.size:
        subject = "the jackknife" if estimator == "jackknife" else "the estimator half"
        fewest, most = int(counts.wanted.min()), int(counts.wanted.max())
        if fewest < 2:
            raise ValueError(f"{subject} needs at least 2 samples of every example, not {fewest}")
        if (counts.wanted != counts.wanted[0]).any():
            raise ValueError(
                f"{subject} needs the same number of samples at every checkpoint, "
                f"but there are between {fewest} and {most}"
            )


def premem(
    estimator: Estimator, counts: SampleCounts, nll: Floats, log_log_threshold: float
) -> Floats:
    """PM_c(i), (C, N); NaN where a missing sample could change it.

    Args:
        nll: (C, N) mean NLL per target token, nats.
        log_log_threshold: t; a pair is masked where NLL < e^t.

    Raises:
        ValueError: as `check_counts`.

    >>> counts = SampleCounts.of(np.array([[5], [4]]), np.array([[2], [2]]), 5)
    >>> nll = np.array([[0.9], [0.01]])
    >>> premem("plain", counts, nll, -2.3)
    array([[0.4],
           [0.4]])
    >>> premem("plain", counts, nll[::-1], -2.3)
    array([[ 0.],
           [nan]])
    """
    check_counts(estimator, counts)
    if estimator == "lu":
        return last_unmasked_accuracy(counts, nll, log_log_threshold)
    if estimator == "half":
        both = [premem(part, counts, nll, log_log_threshold) for part in _HALVES]
        return np.asarray(sum(both)) / 2
    if estimator == "jackknife":
        masked = memorized(nll, log_log_threshold)
        best = _Best.before_any_pair(counts.wanted.shape[1])
        with_last = _reached_with_last_sample(counts, nll)
        result = np.empty(counts.wanted.shape)
        for c in range(len(result)):
            result[c] = np.where(
                masked[c], _jackknife(best, counts, c, with_last[c]), counts.accuracy[c]
            )
            best = best.with_pair(counts, c, ~masked[c])
        return result
    ends = [premem_accuracy(end, nll, log_log_threshold) for end in counts.ends]
    return _where_equal(ends[0], ends[-1])


def premem_means(
    estimator: Estimator, counts: SampleCounts, nll: Floats, log_log_threshold: float
) -> Means:
    """The mean of PM over the examples of each checkpoint; arguments as in `premem`.

    A mean by `plain` or `jackknife` is NaN where the PM of any example is unknown, because the
    examples that the plans `lazy` and `final` complete are not a random part of all. Its
    `sampling_error` is always NaN: it is known for `lu` only.

    Raises:
        ValueError: as `check_counts`.
    """
    if estimator == "lu":
        return last_unmasked_means(counts, nll, log_log_threshold)
    values = premem(estimator, counts, nll, log_log_threshold)
    mean, half = intervals.whole_mean_interval(values)
    return Means(mean, half, np.full(len(mean), np.nan))


def premem_change(
    estimator: Estimator,
    counts: SampleCounts,
    nll: Floats,
    log_log_threshold: float,
    checkpoint: int,
    other: int,
) -> tuple[float, float]:
    """Mean PM of a checkpoint minus that of another one, and the difference's standard error.

    The error comes from the differences of single questions. NaN where `premem_means` is.

    Args:
        checkpoint, other: the rows of the two checkpoints; for the rest see `premem`.

    Raises:
        ValueError: as `check_counts`.
    """
    if estimator == "lu":
        return last_unmasked_change(counts, nll, log_log_threshold, checkpoint, other)
    values = premem(estimator, counts, nll, log_log_threshold)
    mean, half = intervals.whole_mean_interval(values[checkpoint] - values[other])
    return float(mean), float(half) / intervals.Z90


def premem_steps(
    estimator: Estimator, counts: SampleCounts, nll: Floats, order: NDArray[np.intp]
) -> Floats:
    """PM of one checkpoint while more and more checkpoints of an example are masked.

    The checkpoint is number L − 1, the last of those in `order`.

    Args:
        nll: (C, N) mean NLL per target token, nats.
        order: (L, N) for each example, the checkpoints 0 to L − 1 by rising NLL: as the threshold
            rises, they are masked in this order.

    Returns:
        (L + 1, N): row j is PM where the first j checkpoints of `order` are masked; NaN where a
        missing sample could change it.

    Raises:
        ValueError: as `check_counts`.

    >>> counts = SampleCounts.of(np.array([[5], [5]]), np.array([[3], [5]]), 5)
    >>> premem_steps("plain", counts, np.array([[0.9], [0.01]]), np.array([[1], [0]]))[:, 0]
    array([1. , 0.6, 0. ])
    """
    check_counts(estimator, counts)
    last = len(order) - 1
    if estimator == "lu":
        return last_unmasked_steps(counts, order)
    if estimator == "half":
        both = [premem_steps(part, counts, nll, order) for part in _HALVES]
        return np.asarray(sum(both)) / 2
    if estimator == "jackknife":
        return _jackknife_steps(counts, _reached_with_last_sample(counts, nll)[last], order)
    ends = []
    for accuracy in counts.ends:
        ordered = np.take_along_axis(accuracy, order, 0)
        best = np.flip(np.maximum.accumulate(np.flip(ordered, 0), 0), 0)
        all_masked = np.zeros((1, accuracy.shape[1]))
        ends.append(np.vstack([np.minimum(best, accuracy[last]), all_masked]))
    return _where_equal(ends[0], ends[-1])


def _jackknife_steps(
    counts: SampleCounts, with_last: NDArray[np.bool_], order: NDArray[np.intp]
) -> Floats:
    last, n = len(order) - 1, order.shape[1]
    ordered = SampleCounts(
        *(np.take_along_axis(a, order, 0) for a in (counts.samples, counts.correct, counts.wanted))
    )
    best = _Best.before_any_pair(n)
    unmasked = np.zeros(n, dtype=bool)  # whether the checkpoint itself is unmasked
    result = [_jackknife(best, counts, last, with_last)]
    for j in range(last, -1, -1):
        unmasked |= order[j] == last
        best = best.with_pair(ordered, j, order[j] != last)
        masked_value = _jackknife(best, counts, last, with_last)
        result.append(np.where(unmasked, counts.accuracy[last], masked_value))
    return np.array(result[::-1])


@dataclass(frozen=True, slots=True)
class _Best:
    """Of each example's unmasked pairs so far: the most correct samples; all arrays are (N,)."""

    most: Ints
    ties: Ints  # how many of the pairs have that many
    whole: NDArray[np.bool_]  # True where none of the pairs is partial

    @classmethod
    def before_any_pair(cls, n: int) -> "_Best":
        return cls(np.zeros(n, np.int64), np.zeros(n, np.int64), np.ones(n, dtype=bool))

    def with_pair(self, counts: SampleCounts, c: int, unmasked: NDArray[np.bool_]) -> "_Best":
        more = np.where(unmasked, counts.correct[c], -1)
        ties = np.where(more > self.most, 1, self.ties + (more == self.most))
        whole = self.whole & ~(unmasked & counts.partial[c])
        return _Best(np.maximum(self.most, more), ties, whole)


def _jackknife(best: _Best, counts: SampleCounts, c: int, with_last: NDArray[np.bool_]) -> Floats:
    """(N,): the jackknife of the masked pairs of checkpoint c (see the module's docstring).

    NaN where a missing sample could change it.
    """
    k, t = np.maximum(counts.wanted[c], 1), counts.correct[c]
    partial = counts.partial[c]
    share = np.where(best.most > 0, (best.most / k) ** best.ties, 0.0)
    tie = np.where(with_last, 1.0, 1 - (1 - share) * (1 - best.most / k))
    tie = np.where(partial, share, tie)
    value = np.where(t < best.most, t / k, np.where(t > best.most, share, tie))
    value = np.where(best.most > 0, value, 0.0)
    known = best.whole & (~partial | (t >= best.most))
    return np.where(known | (~partial & (t == 0)), value, np.nan)


def _reached_with_last_sample(counts: SampleCounts, nll: Floats) -> NDArray[np.bool_]:
    """(C, N): True where the lazy plan drew all K samples and reached M with the last of them.

    The plan's threshold is not stored with the counts. It is estimated as the highest NLL of a
    partial pair, which among thousands of pairs lies just below the threshold.
    """
    stopped = nll[counts.partial & ~np.isnan(nll)]
    if not len(stopped):
        return np.zeros(nll.shape, dtype=bool)
    lazy = nll <= stopped.max()
    best = np.maximum.accumulate(np.where(lazy, 0, counts.correct), axis=0)
    return lazy & ~counts.partial & (counts.correct == best)


def _where_equal(low: Floats, high: Floats) -> Floats:
    # PM never falls when an accuracy rises. So where both bounds give the same PM, the missing
    # samples cannot change it.
    return np.where(low == high, low, np.nan)
