"""Leave one run out: predict every run with the threshold of the others, and measure the errors."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibrating_runs import run_weights
from premem_core.errors import DataError
from premem_core.metrics import intervals
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.thresholds import Objective, Steps


def predict_left_out(
    runs: Sequence[RunScores],
    groups: Sequence[object],
    steps: Steps,
    estimator: Estimator,
    objective: Objective = "identity",
) -> pd.DataFrame | None:
    """Predict every checkpoint that has a test accuracy with the threshold of the other groups.

    Args:
        groups: the group of each run, such as its name or its learning rate. The runs of a group
            are left out together.
        steps: `curves.threshold_steps` of the runs.

    Returns:
        run, step, log_log_threshold, predicted, predicted_se, test_accuracy and weight, one row
        per checkpoint. None if there is only one group, or if the runs outside a group determine
        no threshold.
    """
    if len(set(groups)) < 2:
        return None
    weight_of = dict(zip((run.run for run in runs), run_weights(runs), strict=True))
    rows = []
    for group in dict.fromkeys(groups):
        outside = np.array([run_group != group for run_group in groups])
        try:
            t = curves.best_step(steps.select_runs(outside), objective).log_log_threshold
        except DataError:
            return None
        for run in (run for run, is_outside in zip(runs, outside, strict=True) if not is_outside):
            rows.append(predicted_rows(run, t, estimator, weight_of[run.run]))
    return pd.concat(rows, ignore_index=True).dropna(subset=["predicted", "test_accuracy"])


def predicted_rows(
    run: RunScores, log_log_threshold: float, estimator: Estimator, weight: float
) -> pd.DataFrame:
    """The rows of `predict_left_out` of one run, at a threshold of other runs."""
    line = curves.curve(run, log_log_threshold, estimator)
    return pd.DataFrame(
        {
            "run": run.run,
            "step": run.steps,
            "log_log_threshold": log_log_threshold,
            "predicted": line.premem,
            "predicted_se": line.premem_half / intervals.Z90,
            "test_accuracy": line.test,
            "weight": weight,
        }
    )


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of predictions: mean absolute error, root mean square error, and identity R²."""

    mae: float
    rmse: float
    r2: float


def prediction_errors(rows: pd.DataFrame) -> Errors:
    """The weighted errors of the rows of `predict_left_out`."""
    predicted, test, weights = (
        rows[name].to_numpy() for name in ("predicted", "test_accuracy", "weight")
    )
    residual = test - predicted
    return Errors(
        mae=float(np.average(np.abs(residual), weights=weights)),
        rmse=float(np.sqrt(np.average(residual**2, weights=weights))),
        r2=curves.points_r2(rows, "predicted").identity,
    )


def errors_by_run(rows: pd.DataFrame) -> pd.DataFrame:
    """`prediction_errors` of each run: run, log_log_threshold, mae, rmse, r2."""
    return pd.DataFrame(
        [
            {
                "run": run,
                "log_log_threshold": run_rows["log_log_threshold"].iloc[0],
                **asdict(prediction_errors(run_rows)),
            }
            for run, run_rows in rows.groupby("run", sort=False)
        ]
    )
