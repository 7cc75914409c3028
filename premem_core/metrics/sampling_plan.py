"""What still has to be sampled: pure arithmetic over perplexities and counts so far.

Axes: C checkpoints of one run in training order, N training examples. K, the samples wanted of
each pair, is one number per run. A pair (checkpoint, example) that a plan leaves alone is not
needed, never zero: `estimators` knows its pre-memorization accuracy all the same, or says NaN.

    full   K samples of every pair (the paper, section 3).
    lazy   exactly what PM of every checkpoint needs at one threshold (docs/method.md, section 4):
           an unmasked pair in full; a masked one until its correct samples reach the best earlier
           unmasked pair's, and not at all while that best is 0.
    final  exactly what PM of the last checkpoint needs: a masked last pair, where any earlier pair
           is unmasked, in full; if some are correct, back over the unmasked pairs, latest first,
           each until it reaches the last one's correct samples or can no longer exceed the best so
           far; none further once one has reached them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.pre_memorization import Floats, memorized

Ints = NDArray[np.int64]
Plan = Literal["full", "lazy", "final"]
PLANS: tuple[Plan, ...] = get_args(Plan)


@dataclass(frozen=True, slots=True)
class Remaining:
    """How many further samples a plan will draw: what is sure, and what may be."""

    at_least: int
    at_most: int


def to_draw(
    plan: Plan,
    wanted: int,
    log_log_threshold: float | None,
    nll: Floats,
    samples: Ints,
    correct: Ints,
) -> Ints:
    """How many further samples to draw of each pair now; all 0 when the plan is complete.

    Called again with what came of them, it never draws a sample that drawing one at a time would
    not have drawn, for each count is what is sure to be needed whatever the samples turn out to
    be. A row of the counts may be older than another's: that only asks for less.

    Args:
        wanted: K.
        log_log_threshold: t, a pair is masked where NLL < e^t; None only for `full`.
        nll: (C, N), nats; NaN is not measured yet: nothing that hangs on it is drawn.
        samples, correct: (C, N), so far.

    Returns:
        (C, N). Below, the second checkpoint has memorized the only example: one more correct
        sample and it has as many as the first.

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
    return _final(left, correct, unmasked, masked)


def remaining(
    plan: Plan,
    wanted: int,
    log_log_threshold: float | None,
    nll: Floats,
    samples: Ints,
    correct: Ints,
) -> Remaining:
    """Bounds on all that `to_draw` will still ask for; the arguments are its own.

    Before any perplexity is known a plan other than `full` may need nothing or everything; with
    all counts of a complete plan, at another threshold, these are the samples that are missing.

    >>> unknown, none = np.full((2, 3), np.nan), np.zeros((2, 3), dtype=np.int64)
    >>> remaining("lazy", 5, -2.3, unknown, none, none)
    Remaining(at_least=0, at_most=30)
    """
    arguments = (plan, wanted, log_log_threshold, nll, samples, correct)
    return Remaining(int(to_draw(*arguments).sum()), int(at_most(*arguments).sum()))


def at_most(
    plan: Plan,
    wanted: int,
    log_log_threshold: float | None,
    nll: Floats,
    samples: Ints,
    correct: Ints,
) -> Ints:
    """(C, N): how many samples of each pair `to_draw` may still ask for; its own arguments."""
    left = np.maximum(wanted - np.asarray(samples), 0)
    if plan == "full" or not len(left):
        return left
    unmasked, masked = _statuses(log_log_threshold, nll)
    reachable = np.where(masked, 0, correct + left)
    if plan == "lazy":
        may = ~masked | (_best_earlier(reachable) > correct)
    else:
        may = np.zeros(left.shape, dtype=bool)
        may[-1] = ~masked[-1] | (~masked[:-1]).any(axis=0)
        complete = (left[-1] == 0) & may[-1]
        sure = np.where(unmasked[:-1], correct[:-1], 0).max(axis=0, initial=0)
        over = unmasked[-1] | (complete & (sure >= correct[-1]))
        may[:-1] = ~masked[:-1] & may[-1] & ~over & (reachable[:-1] > sure)
    return np.where(may, left, 0)


def _statuses(
    log_log_threshold: float | None, nll: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pairs are known to be unmasked, and which to be masked."""
    if log_log_threshold is None:
        raise ValueError("the plans lazy and final need a threshold")
    masked = memorized(nll, log_log_threshold)
    return ~masked & ~np.isnan(nll), masked


def _best_earlier(counts: Ints) -> Ints:
    """(C, N): the most over the checkpoints before each one; 0 at the first."""
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
        # So many more samples are drawn before this pair can reach the target or give up.
        sure = np.minimum(target - correct[c], correct[c] + left[c] - best)
        draw[c] = np.where(walking & unmasked[c], np.clip(sure, 0, left[c]), 0)
        best = np.where(walking & unmasked[c], np.maximum(best, correct[c]), best)
        walking &= masked[c] | (unmasked[c] & (draw[c] == 0) & (best < target))
    return draw
