"""Prediction: the expected test accuracy of a run's checkpoints, and the best checkpoint."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibration import Calibration
from premem_core.metrics import intervals
from premem_core.metrics.estimators import Estimator

EVEN = 0.6  # up to this probability that one checkpoint is better, the other may be as good


def predict(run: RunScores, calibration: Calibration) -> pd.DataFrame:
    """The expected test accuracy of each checkpoint, with a 90 % interval.

    The interval combines the sampling noise of PM over questions with the errors that the threshold
    made on left-out runs (`Calibration.half_width`).

    Returns:
        run, step, epoch, predicted, low, high, test_accuracy (where measured), memorized_share and
        extrapolated (whether PM lies outside `Calibration.premem_range`), one row per checkpoint.
        predicted is NaN where samples that the threshold needs are missing; low and high are also
        NaN where `Calibration.residual_sd` is None.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    line = curves.curve(run, calibration.threshold_of(run), calibration.estimator)
    half = calibration.half_width(line.premem_half / intervals.Z90)
    lowest, highest = calibration.premem_range
    return pd.DataFrame(
        {
            "run": run.run,
            "step": run.steps,
            "epoch": run.epoch,
            "predicted": line.premem,
            "low": np.clip(line.premem - half, 0.0, 1.0),
            "high": np.clip(line.premem + half, 0.0, 1.0),
            "test_accuracy": line.test,
            "memorized_share": line.memorized,
            "extrapolated": (line.premem < lowest) | (line.premem > highest),
        }
    )


def notes(task: str, rows: pd.DataFrame, calibration: Calibration) -> list[str]:
    """Sentences that say why a prediction may be wrong; an empty list where there is no reason.

    Args:
        task: of the run.
        rows: `predict`.
    """
    sentences = list(calibration.warnings)
    if calibration.task != task:
        sentences.append(
            f"The calibration comes from runs of the task '{calibration.task}', but this run "
            f"belongs to the task '{task}'. A threshold of one task fits another only roughly."
        )
    if rows["run"].isin(calibration.runs).any():
        sentences.append(
            "The calibration used a run with this name. If it is the same run, the interval is too "
            "narrow."
        )
    if unknown := int(rows["predicted"].isna().sum()):
        sentences.append(_unknown_in_words(unknown, len(rows), calibration))
    outside = ", ".join(map(str, rows.loc[rows["extrapolated"], "step"]))
    if outside:
        sentences.append(
            f"The predictions at step {outside} lie outside the accuracies that the calibration "
            "has seen, so their intervals are less certain."
        )
    return sentences


def _unknown_in_words(unknown: int, checkpoints: int, calibration: Calibration) -> str:
    t = f"--log-log-threshold {calibration.log_log_threshold:.3f}"
    plan = "last" if calibration.estimator == "lu" else "lazy"
    draw = f"draw them with 'jobs extend --plan {plan} {t}'"
    if plan == "lazy":
        draw = f"calibrate with --estimator lu if the run has the plan last, or {draw}"
    return (
        f"{unknown} of {checkpoints} checkpoints have no prediction, because the run's sampling "
        f"plan left out samples that the {calibration.estimator} estimator needs at this "
        f"threshold; {draw}."
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """The checkpoint to ship: the one with the highest predicted test accuracy.

    Attributes:
        next_step: the checkpoint with the second highest prediction; None if there is none.
        confidence: the probability that the test accuracy of `step` is above that of `next_step`;
            None if there is no second checkpoint, or if the error of differences is unknown.
    """

    step: int
    predicted: float
    next_step: int | None
    next_predicted: float | None
    confidence: float | None

    def lead_in_words(self) -> str:
        """How sure it is that no other checkpoint is better, as a sentence."""
        if self.next_step is None or self.next_predicted is None:
            return "No other checkpoint has a prediction."
        second = f"step {self.next_step} ({100 * self.next_predicted:.1f} %)"
        if self.confidence is None:
            return (
                f"The second best is {second}; how likely step {self.step} is to be better is not "
                "known."
            )
        if self.confidence < EVEN:
            return f"The second best, {second}, may be as good."
        return (
            f"It is better than the second best, {second}, with probability {self.confidence:.2f}."
        )


def choose_at(
    run: RunScores,
    log_log_threshold: float,
    estimator: Estimator,
    difference_sd: float | None,
    freedom: int,
) -> Choice | None:
    """The checkpoint to ship; None if no PM is known.

    The two best checkpoints answer the same questions, so the noise of their difference is
    estimated from the differences of single questions. The errors of such differences on other runs
    are added to it.

    Args:
        difference_sd: standard deviation of these errors; None if it is unknown.
        freedom: the degrees of freedom that it has.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    from scipy import stats

    means = curves.curve(run, log_log_threshold, estimator).premem
    order = [int(c) for c in np.argsort(-means, kind="stable") if not np.isnan(means[c])]
    if not order:
        return None
    best, *rest = order
    if not rest:
        return Choice(int(run.steps[best]), float(means[best]), None, None, None)
    second, confidence = rest[0], None
    if difference_sd is not None:
        _, error = curves.premem_change(run, log_log_threshold, estimator, best, second)
        noise = np.hypot(error, difference_sd)
        lead = means[best] - means[second]
        distance = lead / noise if noise else np.inf * lead if lead else 0.0
        probability = float(stats.t.cdf(distance, freedom))
        confidence = probability if np.isfinite(probability) else None
    return Choice(
        int(run.steps[best]),
        float(means[best]),
        int(run.steps[second]),
        float(means[second]),
        confidence,
    )
