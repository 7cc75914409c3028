"""Sampling plans: how many samples to draw next, from perplexities and the counts so far.

Axes: C checkpoints of one run in training order, N training examples. A *pair* is one example at
one checkpoint; it is *masked* where the example is memorized. K, the samples of a pair that is
sampled in full, is one number per run. A pair that a plan does not sample is unknown, not zero:
`estimators` derives its pre-memorization accuracy from other pairs, or gives NaN.

    full   K samples of every pair (the paper, section 3).
    lazy   exactly the samples that PM of every checkpoint needs at one threshold (docs/method.md,
           section 4). An unmasked pair is sampled in full. A masked pair is sampled until it has
           as many correct samples as the best earlier unmasked pair of its example, so not at all
           while that best is 0.
    final  exactly the samples that PM of the last checkpoint needs. An example's last pair is
           sampled in full, unless all pairs of the example are masked: then PM is 0. If the last
           pair is masked and T of its samples are correct, with T > 0, the earlier unmasked pairs
           follow, latest first. Each is sampled until it has T correct samples or can no longer
           exceed the best pair so far. Once a pair has T correct samples, no other is sampled.
    last   exactly the samples that last-unmasked accuracy of every checkpoint needs
           (docs/method.md, section 10): an unmasked pair is sampled in full, a masked pair never.
           With a share of the examples, only pairs of these examples are sampled. They are chosen
           once all perplexities are known: of all examples, sorted by the checkpoints at which they
           are masked and then by NLL at the first checkpoint, every k-th. Examples that have
           samples already take the place of others near them in that order.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.pre_memorization import Floats, memorized
from premem_core.metrics.sample_counts import Ints

Plan = Literal["full", "lazy", "final", "last"]
PLANS: tuple[Plan, ...] = get_args(Plan)


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the examples, for the plan `last`.

    Attributes:
        fraction: of the examples, above 0 and at most 1.
        start: where the systematic sample begins, from 0 up to 1 of the distance between two of its
            examples.
        closed: rows of checkpoints at which nothing more can be drawn. An example that has no
            samples and is not masked there cannot join the share.
    """

    fraction: float = 1.0
    start: float = 0.5
    closed: tuple[int, ...] = ()

    def size(self, examples: int) -> int:
        """The number of examples in the share, which is at least 1."""
        return max(1, round(self.fraction * examples))


WHOLE = Share()


@dataclass(frozen=True, slots=True)
class Remaining:
    """Lower and upper bound of the number of samples that a plan still draws."""

    at_least: int
    at_most: int


def to_draw(
    plan: Plan,
    wanted: int,
    log_log_threshold: float | None,
    nll: Floats,
    samples: Ints,
    correct: Ints,
    share: Share = WHOLE,
) -> Ints:
    """How many further samples of each pair to draw now; all 0 when the plan is complete.

    These are the samples that are certain to be needed, however they turn out. So a caller that
    draws them, and then calls again with the new counts, never draws a sample that it would not
    have drawn one at a time. Some rows of the counts may be older than others; the result is then
    only smaller.

    Args:
        wanted: K.
        log_log_threshold: t; a pair is masked where NLL < e^t. None is allowed only for `full`.
        nll: (C, N) nats. NaN is not measured yet; no sample is drawn whose need depends on it.
        samples, correct: (C, N) counts so far.
        share: the examples that the plan `last` samples; the other plans take all.

    Returns:
        (C, N). In the example below, the second checkpoint has memorized the only training
        example; with one more correct sample it has as many as the first checkpoint.

    Raises:
        ValueError: the plan is not `full` and there is no threshold.

    >>> nll = np.array([[0.9], [0.01]])
    >>> samples, correct = np.array([[5], [2]]), np.array([[2], [1]])
    >>> to_draw("lazy", 5, -2.3, nll, samples, correct)
    array([[0],
           [1]])
    """
    left = np.maximum(wanted - np.asarray(samples), 0)
    if plan == "full" or not len(left):
        return left
    unmasked, masked = _statuses(log_log_threshold, nll)
    if plan == "lazy":
        target = _best_earlier(np.where(unmasked, correct, 0))
        deficit = np.clip(target - correct, 0, left)
        return np.where(unmasked, left, np.where(masked, deficit, 0))
    if plan == "last":
        return np.where(unmasked & share_of_examples(share, nll, masked, samples), left, 0)
    return _final(left, correct, unmasked, masked)


def remaining(
    plan: Plan,
    wanted: int,
    log_log_threshold: float | None,
    nll: Floats,
    samples: Ints,
    correct: Ints,
    share: Share = WHOLE,
) -> Remaining:
    """Bounds of the number of samples that the plan still draws; arguments as in `to_draw`.

    Before any perplexity is known, a plan other than `full` may need no sample or all of them.
    Given the counts of a complete plan and another threshold, these are the samples that are
    missing at that threshold.

    >>> unknown, none = np.full((2, 3), np.nan), np.zeros((2, 3), dtype=np.int64)
    >>> remaining("lazy", 5, -2.3, unknown, none, none)
    Remaining(at_least=0, at_most=30)
    """
    arguments = (plan, wanted, log_log_threshold, nll, samples, correct, share)
    return Remaining(int(to_draw(*arguments).sum()), int(at_most(*arguments).sum()))


def at_most(
    plan: Plan,
    wanted: int,
    log_log_threshold: float | None,
    nll: Floats,
    samples: Ints,
    correct: Ints,
    share: Share = WHOLE,
) -> Ints:
    """(C, N): the most samples of each pair that the plan can still draw.

    The arguments and the error are those of `to_draw`. While it is unknown which examples a share
    takes, the sum over all pairs is a bound, the single values are not.
    """
    left = np.maximum(wanted - np.asarray(samples), 0)
    if plan == "full" or not len(left):
        return left
    unmasked, masked = _statuses(log_log_threshold, nll)
    reachable = np.where(masked, 0, correct + left)
    if plan == "lazy":
        may_draw = ~masked | (_best_earlier(reachable) > correct)
    elif plan == "last":
        return _at_most_last(left, nll, masked, samples, share)
    else:
        may_draw = np.zeros(left.shape, dtype=bool)
        may_draw[-1] = ~masked[-1] | (~masked[:-1]).any(axis=0)
        complete = (left[-1] == 0) & may_draw[-1]
        best = np.where(unmasked[:-1], correct[:-1], 0).max(axis=0, initial=0)
        settled = unmasked[-1] | (complete & (best >= correct[-1]))
        may_draw[:-1] = ~masked[:-1] & may_draw[-1] & ~settled & (reachable[:-1] > best)
    return np.where(may_draw, left, 0)


def _statuses(
    log_log_threshold: float | None, nll: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two (C, N): the pairs known to be unmasked, and those known to be masked."""
    if log_log_threshold is None:
        raise ValueError("every plan except full needs a threshold")
    masked = memorized(nll, log_log_threshold)
    return ~masked & ~np.isnan(nll), masked


def share_of_examples(
    share: Share, nll: Floats, masked: NDArray[np.bool_], samples: Ints
) -> NDArray[np.bool_]:
    """The examples that the plan `last` samples, (N,); none while a perplexity is unknown.

    Args:
        nll, masked, samples: (C, N).

    >>> nll = np.array([[0.9, 0.5, 0.7, 0.01]])
    >>> share_of_examples(Share(0.5), nll, nll < 0.1, np.zeros((1, 4), dtype=np.int64))
    array([False, False,  True,  True])
    """
    n = nll.shape[1]
    if share.fraction >= 1 or not n:
        return np.ones(n, dtype=bool)
    if np.isnan(nll).any():
        return np.zeros(n, dtype=bool)
    size = share.size(n)
    order = np.lexsort((nll[0], *masked[::-1]))
    places = ((np.arange(size) + share.start) * n / size).astype(np.intp)
    chosen: NDArray[np.bool_] = np.asarray(samples.any(axis=0))
    can_join = ~chosen & masked[list(share.closed)].all(axis=0)
    # Those who have samples may be other examples than these, so each of these joins only where
    # too few have been chosen up to its place: no part of the order gets more than its share.
    before = np.cumsum(chosen[order])[places]
    new: list[int] = []
    for wanted, (example, so_far) in enumerate(zip(order[places], before, strict=True)):
        if can_join[example] and so_far + len(new) <= wanted:
            new.append(int(example))
    chosen[new[: max(0, size - chosen.sum())]] = True
    return chosen


def _at_most_last(
    left: Ints, nll: Floats, masked: NDArray[np.bool_], samples: Ints, share: Share
) -> Ints:
    if share.fraction < 1 and np.isnan(nll).any():
        bound, chosen = np.where(masked, 0, left), np.asarray(samples.any(axis=0))
        # Whichever examples the share takes, they have no more pairs left than these.
        most = np.argsort(np.where(chosen, -1, bound.sum(axis=0)))[::-1]
        chosen[most[: max(0, share.size(len(chosen)) - chosen.sum())]] = True
        return bound * chosen
    return np.where(masked | ~share_of_examples(share, nll, masked, samples), 0, left)


def _best_earlier(counts: Ints) -> Ints:
    """(C, N): the highest count at any earlier checkpoint; 0 at the first checkpoint."""
    best = np.zeros_like(counts)
    best[1:] = np.maximum.accumulate(counts, axis=0)[:-1]
    return best


def _final(
    left: Ints, correct: Ints, unmasked: NDArray[np.bool_], masked: NDArray[np.bool_]
) -> Ints:
    draw = np.zeros_like(left)
    needs_last = unmasked[-1] | (masked[-1] & unmasked[:-1].any(axis=0))
    draw[-1] = np.where(needs_last, left[-1], 0)
    target = correct[-1]
    walking = masked[-1] & needs_last & (left[-1] == 0) & (target > 0)
    best = np.zeros_like(target)
    for c in range(len(left) - 2, -1, -1):
        # The fewest further samples after which this pair can reach the target, or can no
        # longer exceed the best.
        certain = np.minimum(target - correct[c], correct[c] + left[c] - best)
        draw[c] = np.where(walking & unmasked[c], np.clip(certain, 0, left[c]), 0)
        best = np.where(walking & unmasked[c], np.maximum(best, correct[c]), best)
        walking &= masked[c] | (unmasked[c] & (draw[c] == 0) & (best < target))
    return draw
