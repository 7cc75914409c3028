"""Leave one run out: every run predicted with the threshold of the others, and the errors made."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.calibrating_runs import run_weights
from premem_core.analysis.run_scores import RunScores
from premem_core.errors import DataError
from premem_core.metrics import intervals, r2
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.thresholds import Objective, Steps


def left_out(
    runs: Sequence[RunScores],
    groups: Sequence[object],
    of_runs: Steps,
    estimator: Estimator,
    objective: Objective = "identity",
) -> pd.DataFrame | None:
    """Every checkpoint with a test accuracy, predicted with the threshold of the other groups.

    Args:
        groups: what each run belongs to and is left out with: its name, or its learning rate.
        of_runs: `curves.threshold_steps` of the runs.

    Returns:
        run, step, log_log_threshold, predicted, predicted_se, test_accuracy, weight (of the
        run's checkpoints). None where there is one group only, or what is left without one
        determines no threshold.
    """
    if len(set(groups)) < 2:
        return None
    weight_of = dict(zip((run.run for run in runs), run_weights(runs), strict=True))
    rows = []
    for group in dict.fromkeys(groups):
        others = np.array([other != group for other in groups])
        try:
            t = curves.best_step(of_runs.only(others), objective).log_log_threshold
        except DataError:
            return None
        for run in (run for run, own in zip(runs, groups, strict=True) if own == group):
            line = curves.curve(run, t, estimator)
            rows.append(
                pd.DataFrame(
                    {
                        "run": run.run,
                        "step": run.steps,
                        "log_log_threshold": t,
                        "predicted": line.premem,
                        "predicted_se": line.premem_half / intervals.Z90,
                        "test_accuracy": line.test,
                        "weight": weight_of[run.run],
                    }
                )
            )
    return pd.concat(rows, ignore_index=True).dropna(subset=["predicted", "test_accuracy"])


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are off: mean absolute, root mean square, identity R²."""

    mae: float
    rmse: float
    r2: float


def errors(rows: pd.DataFrame) -> Errors:
    """Of `left_out` predictions, each by its weight."""
    predicted, test, weights = (
        rows[name].to_numpy() for name in ("predicted", "test_accuracy", "weight")
    )
    residual = test - predicted
    return Errors(
        mae=float(np.average(np.abs(residual), weights=weights)),
        rmse=float(np.sqrt(np.average(residual**2, weights=weights))),
        r2=r2.identity_r2(predicted, test, weights),
    )


def errors_by_run(rows: pd.DataFrame) -> pd.DataFrame:
    """`errors` of each left-out run: run, log_log_threshold, mae, rmse, r2."""
    return pd.DataFrame(
        [
            {
                "run": run,
                "log_log_threshold": own["log_log_threshold"].iloc[0],
                **asdict(errors(own)),
            }
            for run, own in rows.groupby("run", sort=False)
        ]
    )
