"""Pre-memorization accuracy from counts of correct samples: two estimators (docs/method.md, 4).

Axes: C checkpoints of one run in training order, N training examples.

    plain      the paper's formula with the observed mean correctness.
    jackknife  the delete-one jackknife K·PM_K − (K−1)·mean_k PM_{K−1}^{(−k)}, which takes away most
               of the bias that a maximum over few samples has (the winner's curse).

Samples are exchangeable, so the mean over deletions is taken exactly, one sample deleted at random
at each checkpoint independently: a count T becomes T − 1 with probability T/K. For a masked pair
with T correct samples, M the most of an earlier unmasked pair and n of those pairs that have M,

    jackknife = T/K                           where T < M,
                (M/K)^n                       where T > M,
                1 − (1 − (M/K)^n)(1 − M/K)    where T = M,

and 0 without an earlier unmasked pair. An unmasked pair keeps T/K: there is nothing to correct.

A pair that a lazy plan stopped at T = M after s < K samples leaves open whether T would have
stayed M. There the order of the samples decides, as if the last of the K were the one deleted: M
was reached without it, so the case T > M holds; where the M-th correct sample was itself the K-th,
M was not, and the estimate is 1. The mean over all orders is exactly the jackknife of all K samples
(and no other function of s has that mean), so single examples differ, means of thousands hardly.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.pre_memorization import Floats, memorized, premem_accuracy
from premem_core.metrics.sampling_plan import Ints

Estimator = Literal["plain", "jackknife"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """Samples of one run's train examples, each (C, N); a pair with fewer than wanted is partial.

    Raises:
        ValueError: the shapes differ.
    """

    samples: Ints
    correct: Ints
    wanted: Ints

    def __post_init__(self) -> None:
        if not self.samples.shape == self.correct.shape == self.wanted.shape:
            raise ValueError("samples, correct and wanted must have one shape")

    @classmethod
    def of(cls, samples: Ints, correct: Ints, wanted: int) -> "SampleCounts":
        """Counts with the same K everywhere."""
        return cls(np.asarray(samples), np.asarray(correct), np.full(np.shape(samples), wanted))

    @property
    def partial(self) -> NDArray[np.bool_]:
        """(C, N): the plan left samples of this pair out, or the pair was never sampled."""
        return (self.samples < self.wanted) | (self.wanted == 0)

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """(C, N) each: accuracy were all samples that are missing wrong, or right."""
        k = np.maximum(self.wanted, 1)
        missing = np.where(self.wanted == 0, 1, self.wanted - self.samples)
        return self.correct / k, (self.correct + missing) / k

    @property
    def ends(self) -> tuple[Floats, ...]:
        """`bounds`, or `accuracy` alone where no sample is missing."""
        return self.bounds if self.partial.any() else (self.accuracy,)

    @property
    def accuracy(self) -> Floats:
        """(C, N): A_c(i), NaN where the pair is partial."""
        return np.where(self.partial, np.nan, self.correct / np.maximum(self.wanted, 1))


def check(estimator: Estimator, counts: SampleCounts) -> None:
    """Raise ValueError, in words, where these counts have no such estimate."""
    if estimator == "jackknife" and counts.wanted.size:
        fewest, most = int(counts.wanted.min()), int(counts.wanted.max())
        if fewest < 2:
            raise ValueError(
                f"the jackknife needs at least 2 samples of every example, not {fewest}"
            )
        if (counts.wanted != counts.wanted[0]).any():
            raise ValueError(
                "the jackknife needs as many samples at every checkpoint, "
                f"but there are between {fewest} and {most}"
            )


def premem(
    estimator: Estimator, counts: SampleCounts, nll: Floats, log_log_threshold: float
) -> Floats:
    """PM_c(i), (C, N); NaN where samples are missing that could change it.

    Args:
        nll: (C, N), nats.
        log_log_threshold: t; a pair is masked where NLL < e^t.

    >>> counts = SampleCounts.of(np.array([[5], [4]]), np.array([[2], [2]]), 5)
    >>> nll = np.array([[0.9], [0.01]])
    >>> premem("plain", counts, nll, -2.3)
    array([[0.4],
           [0.4]])
    >>> premem("plain", counts, nll[::-1], -2.3)
    array([[ 0.],
           [nan]])
    """
    check(estimator, counts)
    if estimator == "jackknife":
        masked = memorized(nll, log_log_threshold)
        best = _Best.none(counts.wanted.shape[1])
        at_last = _reached_at_last(counts, nll)
        result = np.empty(counts.wanted.shape)
        for c in range(len(result)):
            result[c] = np.where(
                masked[c], _jackknife(best, counts, c, at_last[c]), counts.accuracy[c]
            )
            best = best.with_pair(counts, c, ~masked[c])
        return result
    ends = [premem_accuracy(end, nll, log_log_threshold) for end in counts.ends]
    return _known(ends[0], ends[-1])


def premem_steps(
    estimator: Estimator, counts: SampleCounts, nll: Floats, order: NDArray[np.intp]
) -> Floats:
    """PM of a checkpoint as ever more checkpoints of an example are masked.

    Args:
        nll: (C, N), nats.
        order: (L, N): for each example, the checkpoints up to that one by rising NLL.

    Returns:
        (L + 1, N): row j holds while the first j of `order` are masked; NaN where it hangs on
        samples that are missing.

    >>> counts = SampleCounts.of(np.array([[5], [5]]), np.array([[3], [5]]), 5)
    >>> premem_steps("plain", counts, np.array([[0.9], [0.01]]), np.array([[1], [0]]))[:, 0]
    array([1. , 0.6, 0. ])
    """
    check(estimator, counts)
    last = len(order) - 1
    if estimator == "jackknife":
        return _jackknife_steps(counts, _reached_at_last(counts, nll)[last], order)
    ends = []
    for accuracy in counts.ends:
        ordered = np.take_along_axis(accuracy, order, 0)
        best = np.flip(np.maximum.accumulate(np.flip(ordered, 0), 0), 0)
        none = np.zeros((1, accuracy.shape[1]))
        ends.append(np.vstack([np.minimum(best, accuracy[last]), none]))
    return _known(ends[0], ends[-1])


def _jackknife_steps(
    counts: SampleCounts, at_last: NDArray[np.bool_], order: NDArray[np.intp]
) -> Floats:
    last, n = len(order) - 1, order.shape[1]
    ordered = SampleCounts(
        *(np.take_along_axis(a, order, 0) for a in (counts.samples, counts.correct, counts.wanted))
    )
    best, unmasked = _Best.none(n), np.zeros(n, dtype=bool)  # the checkpoint itself
    result = [_jackknife(best, counts, last, at_last)]
    for j in range(last, -1, -1):
        unmasked |= order[j] == last
        best = best.with_pair(ordered, j, order[j] != last)
        masked_value = _jackknife(best, counts, last, at_last)
        result.append(np.where(unmasked, counts.accuracy[last], masked_value))
    return np.array(result[::-1])


@dataclass(frozen=True, slots=True)
class _Best:
    """The most correct samples of the unmasked pairs so far, and how many pairs have it; (N,)."""

    most: Ints
    ties: Ints
    whole: NDArray[np.bool_]  # none of the pairs is partial

    @classmethod
    def none(cls, n: int) -> "_Best":
        return cls(np.zeros(n, np.int64), np.zeros(n, np.int64), np.ones(n, dtype=bool))

    def with_pair(self, counts: SampleCounts, c: int, unmasked: NDArray[np.bool_]) -> "_Best":
        more = np.where(unmasked, counts.correct[c], -1)
        ties = np.where(more > self.most, 1, self.ties + (more == self.most))
        whole = self.whole & ~(unmasked & counts.partial[c])
        return _Best(np.maximum(self.most, more), ties, whole)


def _jackknife(best: _Best, counts: SampleCounts, c: int, at_last: NDArray[np.bool_]) -> Floats:
    """(N,): the jackknife of a masked pair (module docstring); NaN where samples are missing."""
    k, t = np.maximum(counts.wanted[c], 1), counts.correct[c]
    partial = counts.partial[c]
    share = np.where(best.most > 0, (best.most / k) ** best.ties, 0.0)
    tie = np.where(at_last, 1.0, 1 - (1 - share) * (1 - best.most / k))
    tie = np.where(partial, share, tie)
    value = np.where(t < best.most, t / k, np.where(t > best.most, share, tie))
    value = np.where(best.most > 0, value, 0.0)
    known = best.whole & (~partial | (t >= best.most))
    return np.where(known | (~partial & (t == 0)), value, np.nan)


def _reached_at_last(counts: SampleCounts, nll: Floats) -> NDArray[np.bool_]:
    """(C, N): the pairs that a lazy plan drew to the end, and reached M with the very last sample.

    The plan's threshold is not stored with the counts; but among thousands of pairs the most
    perplexed one that it left partial lies a hair below it.
    """
    stopped = nll[counts.partial & ~np.isnan(nll)]
    if not len(stopped):
        return np.zeros(nll.shape, dtype=bool)
    lazy = nll <= stopped.max()
    best = np.maximum.accumulate(np.where(lazy, 0, counts.correct), axis=0)
    return lazy & ~counts.partial & (counts.correct == best)


def _known(low: Floats, high: Floats) -> Floats:
    # PM rises with every accuracy, so equal bounds leave no room for what was not sampled.
    return np.where(low == high, low, np.nan)
