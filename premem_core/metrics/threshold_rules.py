"""Rules for the threshold of one run, without other runs (docs/method.md, sections 11 to 13).

Axes: C checkpoints of one run in training order, N training examples, U unseen solutions.
"""

import numpy as np

from premem_core.metrics.pre_memorization import Floats, memorized

UNSEEN_QUANTILE = 0.008  # the middle of .7 to .9 %, with which the published runs agree
FEWEST_UNSEEN = 1000  # fewer solutions do not tell so small a quantile
LEAST_REACH = 1.0  # solutions that differ less in perplexity do not tell copied from learned
BAND = (-2.5, -1.6)  # lowest and highest threshold that runs were seen to have
BAND_MARGIN = 0.02  # by which the band of PM over these thresholds is widened
TYPICAL_ERROR = 0.095  # of a prediction p by the rule of the first accuracy, in √(p(1 − p))
_INTERCEPT, _SLOPE = -2.42, -0.25  # of the rule of the first accuracy
_MAD = 1.4826  # median absolute deviation → standard deviation of a normal distribution


def from_unseen(nll: Floats, quantile: float = UNSEEN_QUANTILE) -> float:
    """t below which this share of unseen solutions lies: a solution below it is memorized.

    Args:
        nll: (C, U) mean NLL per token of solutions that the run was not trained on, nats; the
            checkpoints are pooled, and NaN is left out.

    Returns:
        NaN where no NLL is known.

    >>> round(from_unseen(np.linspace(0.0, 1.0, 1001)[None], 0.1), 3)
    -2.303
    """
    known = nll[~np.isnan(nll)]
    with np.errstate(divide="ignore"):
        return float(np.log(np.quantile(known, quantile))) if known.size else float("nan")


def unseen_reach(nll: Floats) -> float:
    """How far the threshold by unseen solutions lies below their median, in log NLL.

    Natural solutions differ: 1.9 on the published runs of GSM8K. Solutions that are written by
    rules are alike (.5 on the demo study), and a training solution is then less perplexing than
    99 % of unseen ones long before it is copied.

    Args:
        nll: as for `from_unseen`.
    """
    return from_unseen(nll, 0.5) - from_unseen(nll)


def false_alarms(nll: Floats, log_log_threshold: float) -> Floats:
    """(C,): the share of unseen solutions that count as memorized at each checkpoint.

    Args:
        nll: as for `from_unseen`.
    """
    known = ~np.isnan(nll)
    with np.errstate(invalid="ignore"):
        return np.asarray(
            np.sum(memorized(nll, log_log_threshold) & known, axis=1) / known.sum(axis=1)
        )


def from_first_accuracy(accuracy: float, examples: int) -> float:
    """t of a run alone: −2.42 − 0.25·logit(A₁), from the first checkpoint's train accuracy A₁.

    The worse a model solves the task, the higher the NLL at which memorizing begins.

    Args:
        accuracy: A₁, from 0 to 1. None or all right counts as half an example right or wrong.
        examples: N.

    >>> round(from_first_accuracy(0.5, 1000), 2)
    -2.42
    """
    least = 0.5 / max(1, examples)
    a = min(max(accuracy, least), 1 - least)
    return _INTERCEPT + _SLOPE * float(np.log(a / (1 - a)))


def first_spread(nll: Floats) -> float:
    """s₁: the spread of log NLL over the examples at the first checkpoint, 1.4826 · MAD.

    A threshold u of several runs becomes t_run = u − s₁ of one of them.

    Args:
        nll: (N,) mean NLL per target token at the first checkpoint, nats.

    >>> round(first_spread(np.exp([0.0, 1.0, 2.0, 3.0, 4.0])), 3)
    1.483
    """
    logs = np.log(nll[nll > 0])
    return _MAD * float(np.median(np.abs(logs - np.median(logs)))) if logs.size else float("nan")
