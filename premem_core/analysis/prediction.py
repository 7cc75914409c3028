"""Prediction: the test accuracy to expect of a run, and the checkpoint to ship."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.calibration import Calibration, calibrate, standard_error
from premem_core.analysis.run_scores import RunScores
from premem_core.metrics import estimators, intervals
from premem_core.metrics.estimators import Estimator


def predict(run: RunScores, calibration: Calibration) -> pd.DataFrame:
    """The test accuracy to expect of each checkpoint, with a 90 % interval.

    The interval joins the sampling noise of PM (over questions) with what the threshold was off by
    on runs that it was not chosen from; Student's t, for those runs are few.

    Returns:
        run, step, epoch, predicted, low, high, test_accuracy (where measured), memorized_share,
        extrapolated; low and high are NaN where the calibration rests on one run.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    line = curves.curve(run, calibration.log_log_threshold, calibration.estimator)
    half = _quantile(calibration) * np.hypot(
        line.premem_half / intervals.Z90, _or_nan(calibration.residual_sd)
    )
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


def predict_from_others(
    task: str, run: RunScores, runs: Sequence[RunScores], estimator: Estimator = "plain"
) -> tuple[pd.DataFrame, Calibration]:
    """What to expect of a run's checkpoints, learned from the other runs of its task.

    Pages, commands and reports say "expect" of nothing else.

    Returns:
        `predict`, and the calibration that it rests on.

    Raises:
        DataError: the other runs determine no threshold, or the estimator is not defined for this
            run's numbers of samples.
    """
    calibration = calibrate(task, [other for other in runs if other.run != run.run], estimator)
    return predict(run, calibration), calibration


def expectation_in_words(rows: pd.DataFrame, step: int) -> str:
    """What `predict` says of a checkpoint, as '41.2 % (90 % interval 35.0 to 47.4 %)'."""
    [checkpoint] = rows[rows["step"] == step].to_dict("records")
    predicted, low, high = (100 * checkpoint[name] for name in ("predicted", "low", "high"))
    if np.isnan(low):
        return f"{predicted:.1f} % (one other run only, so no interval)"
    return f"{predicted:.1f} % (90 % interval {low:.1f} to {high:.1f} %)"


def notes(task: str, rows: pd.DataFrame, calibration: Calibration) -> list[str]:
    """Why a prediction should not be trusted, where it should not, in sentences.

    Args:
        task: of the run.
        rows: `predict`.
    """
    found = list(calibration.warnings)
    if calibration.task != task:
        found.append(
            f"The calibration is of the task '{calibration.task}', the run of '{task}': thresholds "
            "carry over between tasks at best roughly."
        )
    if rows["run"].isin(calibration.runs).any():
        found.append(
            "The calibration learned from a run of this name: if it is this one, the interval is "
            "too narrow."
        )
    if rows["extrapolated"].any():
        found.append("Some checkpoints lie outside the accuracies that the calibration has seen.")
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """The checkpoint to ship: the one with the highest prediction.

    `confidence` is the probability that its test accuracy is above that of `next_step`, the second
    highest; None where there is no second, or nothing says how far a difference may be off.
    """

    step: int
    predicted: float
    next_step: int | None
    next_predicted: float | None
    confidence: float | None

    def in_words(self, rows: pd.DataFrame) -> str:
        """One sentence.

        Args:
            rows: `predict`, from which the choice was made.
        """
        expected = expectation_in_words(rows, self.step)
        ship = f"Ship step {self.step}: expect {expected} on new problems"
        if self.next_step is None or self.next_predicted is None:
            return f"{ship}; no other checkpoint is known."
        second = f"step {self.next_step} ({100 * self.next_predicted:.1f} %)"
        if self.confidence is None:
            return f"{ship}; nothing tells how sure it is to beat the next, {second}."
        return f"{ship}; it beats the next, {second}, with probability {self.confidence:.2f}."


def choose(run: RunScores, calibration: Calibration) -> Choice | None:
    """Which checkpoint to ship, None where no PM is known.

    The two checkpoints answer the same questions, so the noise of their difference is that of the
    questions' differences; what differences were off by on left-out runs comes on top.
    """
    from scipy import stats

    premem = estimators.premem(
        calibration.estimator, run.counts, run.nll, calibration.log_log_threshold
    )
    means = premem.mean(axis=1)
    order = [int(c) for c in np.argsort(-means, kind="stable") if not np.isnan(means[c])]
    if not order:
        return None
    best, *rest = order
    if not rest:
        return Choice(int(run.steps[best]), float(means[best]), None, None, None)
    second, confidence = rest[0], None
    if calibration.difference_sd is not None:
        difference = premem[best] - premem[second]
        noise = np.hypot(standard_error(difference), calibration.difference_sd)
        lead = means[best] - means[second]
        distance = lead / noise if noise else np.inf * lead if lead else 0.0
        known = float(stats.t.cdf(distance, len(calibration.runs) - 1))
        confidence = known if np.isfinite(known) else None
    return Choice(
        int(run.steps[best]),
        float(means[best]),
        int(run.steps[second]),
        float(means[second]),
        confidence,
    )


def _quantile(calibration: Calibration) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.95, max(1, len(calibration.runs) - 1)))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
