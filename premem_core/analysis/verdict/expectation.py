"""The expected test accuracy of a run's checkpoints, with an interval, by the threshold's source.

    other_runs  a 90 % interval per checkpoint, from the errors on left-out runs.
    unseen      PM at the thresholds by .5 % to 1.5 % of unseen solutions, widened by two points.
    this_run    p ± .095·√(p(1 − p)).
    given       none: nothing is known of how far this threshold is off.

The second and the third are called *typical*: they were chosen to hold nine in ten of the published
checkpoints (docs/method.md, section 12), and promise nothing for another task.
"""

from typing import Literal

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies import prediction
from premem_core.analysis.verdict.threshold import Threshold
from premem_core.metrics import estimators, pre_memorization, threshold_rules
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats

WARNED = 0.2  # share of examples that are memorized at the first checkpoint: predictions are low
WITHHELD = 0.4  # likewise: predictions say nothing, and are left out
UNSEEN_QUANTILES = (0.005, 0.015)
UNSEEN_MARGIN = 0.02
Kind = Literal["90 %", "typical"]


def expect(run: RunScores, threshold: Threshold) -> pd.DataFrame:
    """The expected test accuracy of each checkpoint.

    Returns:
        The columns of `prediction.predict`, with predicted, low and high also NaN where the first
        checkpoint comes too late; premem and lu (PM by the paper's formula and last-unmasked
        accuracy, NaN where samples are missing); band_low and band_high (PM at any threshold that
        runs are known to have; NaN unless the source is `this_run`); one row per checkpoint.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    t = threshold.log_log_threshold
    band_low, band_high = _band(run, threshold)
    rows = _predictions(run, threshold).assign(
        premem=_means(run, "plain", t), lu=_means(run, "lu", t), band_low=band_low,
        band_high=band_high,
    )  # fmt: skip
    if first_memorized(run, t) > WITHHELD:
        rows[["predicted", "low", "high", "band_low", "band_high"]] = np.nan
    return rows


def _predictions(run: RunScores, threshold: Threshold) -> pd.DataFrame:
    """The columns of `prediction.predict`, from any source."""
    if threshold.calibration is not None:
        return prediction.predict(run, threshold.calibration)
    line = curves.curve(run, threshold.log_log_threshold, threshold.estimator)
    low, high = _interval(run, line.premem, line.premem_half, threshold)
    return pd.DataFrame(
        {
            "run": run.run,
            "step": run.steps,
            "epoch": run.epoch,
            "predicted": line.premem,
            "low": np.clip(low, 0.0, 1.0),
            "high": np.clip(high, 0.0, 1.0),
            "test_accuracy": line.test,
            "memorized_share": line.memorized,
            "extrapolated": False,
        }
    )


def interval_kind(threshold: Threshold) -> Kind | None:
    """What the interval of a prediction is called; None where there is none."""
    if threshold.calibration is not None:
        return None if threshold.calibration.residual_sd is None else "90 %"
    return None if threshold.source == "given" else "typical"


def first_memorized(run: RunScores, log_log_threshold: float) -> float:
    """The share of the training examples that are memorized at the first checkpoint."""
    return float(pre_memorization.memorized(run.nll[0], log_log_threshold).mean())


def _interval(
    run: RunScores, predicted: Floats, half: Floats, threshold: Threshold
) -> tuple[Floats, Floats]:
    """The ends of the typical interval of each prediction; `half` is that of PM over questions."""
    if threshold.source == "this_run":
        spread = np.sqrt(predicted * (1 - predicted))
        width = np.hypot(threshold_rules.TYPICAL_ERROR * spread, half)
        return predicted - width, predicted + width
    if threshold.source == "unseen":
        few, many = (threshold_rules.from_unseen(threshold.unseen_nll, q) for q in UNSEEN_QUANTILES)
        lowest, highest = _lowest_and_highest(run, (few, many), threshold)
        margin = np.hypot(UNSEEN_MARGIN, half)
        return lowest - margin, highest + margin
    unknown = np.full_like(predicted, np.nan)
    return unknown, unknown.copy()


def _band(run: RunScores, threshold: Threshold) -> tuple[Floats, Floats]:
    if threshold.source != "this_run":
        return np.full(len(run.steps), np.nan), np.full(len(run.steps), np.nan)
    lowest, highest = _lowest_and_highest(run, threshold_rules.BAND, threshold)
    margin = threshold_rules.BAND_MARGIN
    return np.clip(lowest - margin, 0.0, 1.0), np.clip(highest + margin, 0.0, 1.0)


def _lowest_and_highest(
    run: RunScores, ends: tuple[float, float], threshold: Threshold
) -> tuple[Floats, Floats]:
    """(C,) twice: the lowest and the highest PM at thresholds between two ends."""
    between = np.linspace(ends[0], ends[1], 10)
    means = [_means(run, threshold.estimator, float(t)) for t in between]
    return np.min(means, axis=0), np.max(means, axis=0)


def _means(run: RunScores, estimator: Estimator, log_log_threshold: float) -> Floats:
    """(C,): mean PM, without the other curves."""
    return estimators.premem_means(estimator, run.counts, run.nll, log_log_threshold).mean
