"""Labels: a few labelled test questions, joined with the prediction (docs/method.md, section 15).

The labelled questions are a run's test problems. Predictions of single questions are e^−NLL, the
geometric mean of the probabilities of a solution's tokens, which unseen solutions have too: they
serve to estimate the mean accuracy with less error (`few_labels.prediction_powered_mean`). The
result is joined with the run's predicted accuracy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.prediction import Choice
from premem_core.analysis.verdict.threshold import Threshold
from premem_core.metrics import few_labels, intervals
from premem_core.metrics.few_labels import Estimate

COLUMNS = ("labelled", "labelled_half", "joined", "joined_low", "joined_high")


def join_labels(run: RunScores, rows: pd.DataFrame) -> pd.DataFrame:
    """The accuracy by the labels, and joined with the prediction, at each checkpoint.

    Args:
        rows: `expect`, with the run's checkpoints in their order.

    Returns:
        COLUMNS, one row per checkpoint; labelled_half and the ends of joined are those of 90 %
        intervals. NaN where no test question is labelled.
    """
    found = []
    for c, row in enumerate(rows.to_dict("records")):
        labelled = labelled_accuracy(run, c)
        predicted, low, high = (float(row[name]) for name in ("predicted", "low", "high"))
        error = max(predicted - low, high - predicted) / intervals.Z90
        joined = Estimate(np.nan, np.nan)
        if not np.isnan(labelled.value):
            joined = few_labels.join(labelled, Estimate(predicted, error))
        found.append(
            (
                labelled.value,
                labelled.half,
                joined.value,
                max(joined.value - joined.half, 0.0),
                min(joined.value + joined.half, 1.0),
            )
        )
    return pd.DataFrame(found, columns=list(COLUMNS), index=rows.index)


def disagree(row: Mapping[Any, float]) -> bool:
    """Whether labels and prediction are further apart than their 90 % intervals allow.

    Args:
        row: of `Verdict.checkpoints`.
    """
    labelled, predicted = row["labelled"], row["predicted"]
    towards = row["high"] - predicted if labelled > predicted else predicted - row["low"]
    return bool(abs(labelled - predicted) > np.hypot(row["labelled_half"], towards))


def labelled_accuracy(run: RunScores, checkpoint: int) -> Estimate:
    """The accuracy on test questions by the labelled ones; NaN without any."""
    labels = run.test_accuracy[checkpoint] if run.tested else np.array([])
    known = ~np.isnan(labels)
    if not known.any():
        return Estimate(np.nan, np.nan)
    if run.unseen_nll.shape[1:] != run.unseen_examples.shape or not run.unseen_nll.size:
        return few_labels.labelled_mean(labels[known])
    chances = pd.Series(np.exp(-run.unseen_nll[checkpoint]), run.unseen_examples).dropna()
    predicted = chances.reindex(run.test_examples[known]).to_numpy(np.float64)
    others = chances.drop(run.test_examples, errors="ignore").to_numpy(np.float64)
    if np.isnan(predicted).any():
        return few_labels.labelled_mean(labels[known])
    return few_labels.prediction_powered_mean(labels[known], predicted, others)


@dataclass(frozen=True, slots=True)
class Decision:
    """What labels say about the two best checkpoints.

    Attributes:
        step, next_step: the two.
        difference, error: the accuracy of `step` minus that of `next_step`, from labels and
            prediction, and its standard error.
        labels: labelled questions that there are.
        needed: how many there must be to decide; None if no number would.
    """

    step: int
    next_step: int
    difference: float
    error: float
    labels: int
    needed: int | None

    def in_words(self) -> str:
        """How the two compare, and how many more labels would decide."""
        low, high = (
            100 * (self.difference + sign * intervals.Z90 * self.error) for sign in (-1, 1)
        )
        if low > 0 or high < 0:
            better = self.step if low > 0 else self.next_step
            return (
                f"With the {self.labels:,} labelled questions, step {better} is better than step "
                f"{self.next_step if low > 0 else self.step} (90 % interval of the difference "
                f"{low:+.1f} to {high:+.1f} points)."
            )
        apart = f"{low:+.1f} to {high:+.1f} points with the {self.labels:,} labelled questions"
        if self.needed is None:
            return (
                f"Steps {self.step} and {self.next_step} are too close for labels to decide "
                f"(90 % interval of the difference {apart})."
            )
        more = float(f"{max(self.needed - self.labels, 1):.2g}")  # to two digits
        return (
            f"About {more:,.0f} more labelled questions would decide between steps {self.step} and "
            f"{self.next_step}, in four of five cases (90 % interval of the difference {apart})."
        )


def decide(
    run: RunScores, threshold: Threshold, choice: Choice, difference_sd: float | None
) -> Decision | None:
    """Compare the two best checkpoints by labels and prediction; None without labels of both.

    Args:
        difference_sd: as for `prediction.choose_at`; None where the error of predicted differences
            is unknown, so that only the labels count.
    """
    if choice.next_step is None or not run.tested:
        return None
    first, second = (
        int(np.flatnonzero(run.steps == step)[0]) for step in (choice.step, choice.next_step)
    )
    each = run.test_accuracy[first] - run.test_accuracy[second]
    each = each[~np.isnan(each)]
    if len(each) < 2:
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
    return Decision(choice.step, choice.next_step, joined.value, joined.error, len(each), needed)
