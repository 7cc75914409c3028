"""Labels: a few labelled test questions, joined with the prediction (docs/method.md, section 15).

The labelled questions are a run's test problems. Predictions of single questions are e^−NLL, the
geometric mean of the probabilities of a solution's tokens, which unseen solutions have too: they
serve to estimate the mean accuracy with less error (`few_labels.prediction_powered_mean`). The
result is joined with the run's predicted accuracy.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.verdict.threshold import Threshold
from premem_core.metrics import few_labels, intervals
from premem_core.metrics.few_labels import Estimate
from premem_core.metrics.pre_memorization import Floats

COLUMNS = (
    *("labels", "unseen_used", "labelled", "labelled_half", "joined", "joined_low", "joined_high"),
    "disagree",
)
FEWEST_LABELS = 10  # fewer say nothing, and their spread is not known
APART = 1.96  # standard errors by which labelled and unseen solutions may differ by chance


def join_labels(run: RunScores, threshold: Threshold, rows: pd.DataFrame) -> pd.DataFrame:
    """The accuracy by the labels, and joined with the prediction, at each checkpoint.

    Args:
        rows: `expect`, with the run's checkpoints in their order.

    Returns:
        COLUMNS, one row per checkpoint: how many labels, and how many unseen solutions beside
        them; labelled_half and the ends of joined are those of 90 % intervals. joined is labelled
        where the error of the prediction is not known, where the calibration used the same labels,
        and where `disagree`: the two are further apart than their intervals allow. NaN with fewer
        than FEWEST_LABELS labels.
    """
    calibration = threshold.calibration
    reused = calibration is not None and run.run in calibration.runs
    of_checkpoints = [_labels(run, c) for c in range(len(run.steps))]
    exchangeable = all(_exchangeable(predicted, others) for _, predicted, others in of_checkpoints)
    found = []
    for (labels, predicted, others), row in zip(
        of_checkpoints, rows.to_dict("records"), strict=True
    ):
        if len(labels) < FEWEST_LABELS:
            found.append((len(labels), 0, *[np.nan] * 5, False))
            continue
        used, labelled = 0, few_labels.labelled_mean(labels)
        if exchangeable:
            used = len(others)
            labelled = few_labels.prediction_powered_mean(labels, predicted, others)
        expected, low, high = (float(row[name]) for name in ("predicted", "low", "high"))
        towards = high - expected if labelled.value > expected else expected - low
        apart = bool(abs(labelled.value - expected) > np.hypot(labelled.half, towards))
        error = max(expected - low, high - expected) / intervals.Z90
        joined = labelled
        if not (reused or apart):
            joined = few_labels.join(labelled, Estimate(expected, error))
        ends = np.clip([joined.value - joined.half, joined.value + joined.half], 0.0, 1.0)
        found.append((len(labels), used, labelled.value, labelled.half, joined.value, *ends, apart))
    return pd.DataFrame(found, columns=list(COLUMNS), index=rows.index)


def _labels(run: RunScores, checkpoint: int) -> tuple[Floats, Floats, Floats]:
    """The labels, the predictions of their questions (NaN where unknown), and those of others."""
    none = np.empty(0)
    if not run.tested:
        return none, none, none
    values = run.test_accuracy[checkpoint]
    known = ~np.isnan(values)
    if run.unseen_nll.shape[1:] != run.unseen_examples.shape or not run.unseen_nll.size:
        return values[known], np.full(int(known.sum()), np.nan), none
    chances = pd.Series(np.exp(-run.unseen_nll[checkpoint]), run.unseen_examples).dropna()
    return (
        values[known],
        chances.reindex(run.test_examples[known]).to_numpy(np.float64),
        chances.drop(run.test_examples, errors="ignore").to_numpy(np.float64),
    )


def _exchangeable(predicted: Floats, others: Floats) -> bool:
    """Whether the other unseen solutions may stand for the labelled ones at a checkpoint.

    All must be measured, and the means of the predictions may differ only by chance: other problems
    than the test set's would shift the estimate by as much.
    """
    if len(predicted) < 2 or len(others) < 2 or np.isnan(predicted).any():
        return False
    error = np.sqrt(predicted.var(ddof=1) / len(predicted) + others.var(ddof=1) / len(others))
    return bool(abs(predicted.mean() - others.mean()) <= APART * error)


@dataclass(frozen=True, slots=True)
class Decision:
    """What labels and prediction say about the two best checkpoints.

    Attributes:
        step, next_step: the two; `step` is the better one.
        difference, error: the accuracy of `step` minus that of `next_step`, and its standard error.
        labels: labelled questions that there are.
        needed: how many there must be to decide; None if no number would.
    """

    step: int
    next_step: int
    difference: float
    error: float
    labels: int
    needed: int | None

    @property
    def confidence(self) -> float:
        """The probability that `step` is the better one."""
        from scipy import stats

        return float(stats.norm.cdf(self.difference / self.error)) if self.error > 0 else 1.0

    def in_words(self) -> str:
        """How the two compare, and how many more labels would decide."""
        half = intervals.Z90 * self.error
        value, low, high = (100 * (self.difference + sign * half) for sign in (0, -1, 1))
        compared = (
            f"Compared question by question, step {self.step} is {value:.1f} points better than "
            f"step {self.next_step} (90 % interval {low:+.1f} to {high:+.1f})"
        )
        if low > 0:
            return f"{compared}."
        if self.needed is None:
            return f"{compared}: the two are too close for labels to decide."
        in_all = float(f"{max(self.needed, self.labels + 1):.2g}")  # to two digits
        return (
            f"{compared}. If that is the true difference, about {in_all:,.0f} labelled questions "
            "in all would give an interval without 0 in four of five cases."
        )


def decide(
    run: RunScores,
    threshold: Threshold,
    steps: tuple[int, int],
    difference_sd: float | None,
) -> Decision | None:
    """Compare two checkpoints by labels and prediction; None without enough labels of both.

    Args:
        difference_sd: as for `prediction.choose_at`; None where the error of predicted differences
            is unknown, so that only the labels count.
    """
    first, second = (int(np.flatnonzero(run.steps == step)[0]) for step in steps)
    each = run.test_accuracy[first] - run.test_accuracy[second]
    each = each[~np.isnan(each)]
    if len(each) < FEWEST_LABELS:
        return None
    predicted = Estimate(np.nan, np.nan)
    if difference_sd is not None:
        change, noise = curves.premem_change(
            run, threshold.log_log_threshold, threshold.estimator, first, second
        )
        predicted = Estimate(change, float(np.hypot(noise, difference_sd)))
    joined = few_labels.join(few_labels.labelled_mean(each), predicted)
    spread = float(each.std(ddof=1))
    needed = few_labels.labels_to_decide(joined.value, spread, predicted.error)
    better, other = steps if joined.value >= 0 else (steps[1], steps[0])
    return Decision(better, other, abs(joined.value), joined.error, len(each), needed)
