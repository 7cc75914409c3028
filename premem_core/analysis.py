"""What a task's runs say about PM as a predictor, computed once for page, command and report."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core import baselines, curves, fits, prediction, thresholds
from premem_core.caveats import caveats
from premem_core.curves import Curve, RunScores
from premem_core.errors import DataError
from premem_core.estimators import Estimator
from premem_core.metrics import Floats
from premem_core.store import Store
from premem_core.thresholds import Objective, Steps, ThresholdFit
from premem_core.weight_pass import MEASURES

THRESHOLDS = (-5.0, 0.5)  # t = log log PPL, that are shown; PPL 1.007 to 5.2
INTERVAL = (0.05, 0.95)  # two-sided 90 %
FEWEST_RUNS = 3  # below it, resampling runs says nothing about R²
NEAR = 0.005  # in t: a threshold this near to the optimum counts as the fitted one


@dataclass(frozen=True, slots=True)
class Study:
    """Runs under one estimator: all that does not hang on the threshold in force.

    Attributes:
        objective: the R² that thresholds are chosen by.
        others: `read_baselines` of the runs.
        of_runs: R² at every threshold; `fit` its optimum, None where there is none.
        left_out: each run predicted with the others' threshold (`prediction.left_out`);
            `rate_left_out` with that of the runs of other learning rates. None where impossible.
    """

    runs: tuple[RunScores, ...]
    estimator: Estimator
    objective: Objective
    others: pd.DataFrame
    of_runs: Steps
    fit: ThresholdFit | None
    left_out: pd.DataFrame | None
    rate_left_out: pd.DataFrame | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """A study at one threshold.

    Attributes:
        log_log_threshold: t in force; `fitted` when it is the study's optimum, up to rounding.
        points: one row per checkpoint with a test accuracy (`curves.points`).
        identity_r2, linear_r2: over the points whose PM is known; NaN where undefined.
        identity_ci90, linear_ci90: over resampled runs; a fitted threshold is chosen anew in each.
            None with fewer than FEWEST_RUNS runs.
        baselines: how well simpler predictors do on the same points (`baselines.evaluate`).
        caveats: in sentences.
    """

    study: Study
    log_log_threshold: float
    fitted: bool
    lines: tuple[Curve, ...]
    points: pd.DataFrame
    identity_r2: float
    linear_r2: float
    identity_ci90: tuple[float, float] | None
    linear_ci90: tuple[float, float] | None
    baselines: pd.DataFrame
    caveats: tuple[str, ...]


def study(
    runs: Sequence[RunScores],
    others: pd.DataFrame,
    estimator: Estimator = "plain",
    objective: Objective = "identity",
) -> Study:
    """Study runs.

    Args:
        others: `read_baselines` of these runs.

    Raises:
        DataError: the estimator is not defined for a run's numbers of samples.
    """
    of_runs = curves.threshold_steps(runs, estimator)
    fit: ThresholdFit | None = None
    with suppress(DataError):
        fit = curves.best_step(of_runs, objective)
    tested = [run for run in runs if run.test_accuracy.shape[1]]
    return Study(
        runs=tuple(runs),
        estimator=estimator,
        objective=objective,
        others=others,
        of_runs=of_runs,
        fit=fit,
        left_out=_left_out(tested, [run.run for run in tested], estimator),
        rate_left_out=_left_out(tested, [run.learning_rate for run in tested], estimator),
    )


def analyse(of: Study, log_log_threshold: float | None = None) -> Analysis:
    """A study at a threshold, by default its optimum.

    Raises:
        DataError: no threshold was given and none can be fitted.
    """
    if log_log_threshold is None:
        log_log_threshold = curves.best_step(of.of_runs, of.objective).log_log_threshold
    fitted = of.fit is not None and abs(log_log_threshold - of.fit.log_log_threshold) <= NEAR
    lines = tuple(curves.curve(run, log_log_threshold, of.estimator) for run in of.runs)
    points = curves.points(lines)
    x, y = points["premem"].to_numpy(), points["test_accuracy"].to_numpy()
    again = None
    if (of.of_runs.fixed[:, 0] > 0).sum() >= FEWEST_RUNS:
        given = None if fitted else log_log_threshold
        again = thresholds.resample(of.of_runs, of.objective, given)
    return Analysis(
        study=of,
        log_log_threshold=log_log_threshold,
        fitted=fitted,
        lines=lines,
        points=points,
        identity_r2=fits.identity_r2(x, y),
        linear_r2=fits.linear_r2(x, y),
        identity_ci90=_interval(again.identity) if again else None,
        linear_ci90=_interval(again.linear) if again else None,
        baselines=baselines.evaluate(points.join(of.others, on=["run", "step"])),
        caveats=(*caveats(lines, of.fit), *_mixed_settings(of.others)),
    )


def threshold_table(of: Study) -> pd.DataFrame:
    """R² by the study's objective at each of THRESHOLDS, a hundredth of t apart.

    Returns:
        log_log_threshold, perplexity, r2 (NaN where samples are missing).
    """
    low, high = THRESHOLDS
    t = np.linspace(low, high, round((high - low) * 100) + 1)
    r2 = of.of_runs.r2(of.objective)[np.searchsorted(of.of_runs.at, np.exp(t))]
    return pd.DataFrame({"log_log_threshold": t, "perplexity": np.exp(np.exp(t)), "r2": r2})


def read_baselines(store: Store, runs: Sequence[RunScores]) -> pd.DataFrame:
    """What the store has of the predictors that `baselines` names, beyond train accuracy and PM.

    Returns:
        Indexed by run and step: train_nll, first_accuracy, atc, distance, gradient_variance, how
        the last two were measured (distance_settings, gradient_variance_settings); NaN where not
        known. ATC's threshold is that of the other runs' test problems.
    """
    confidences = []
    for run in runs:
        agreement = store.agreement(run.run, "test")
        wide = agreement.pivot(index="step", columns="example", values="agreement")
        wide = wide.reindex(index=run.steps, columns=run.test_examples)
        confidences.append(wide.to_numpy(dtype=np.float64))
    names = [run.run for run in runs]
    atc = baselines.leave_out_atc(confidences, [run.test_accuracy for run in runs], names)
    frames = [
        pd.DataFrame(
            {
                "run": run.run,
                "step": run.steps,
                "train_nll": run.nll.mean(axis=1),
                "first_accuracy": run.accuracy[0].mean(),
                "atc": predicted,
            }
        )
        for run, predicted in zip(runs, atc, strict=True)
    ]
    index = ["run", "step"]
    kept = pd.concat([store.baselines(name) for name in names])
    values, settings = (
        kept.pivot(index=index, columns="name", values=column).reindex(columns=list(MEASURES))
        for column in ("value", "settings")
    )
    return pd.concat(frames).set_index(index).join(values).join(settings.add_suffix("_settings"))


def _mixed_settings(others: pd.DataFrame) -> list[str]:
    """Which baselines do not compare across these runs, in sentences."""
    found = []
    for measure in MEASURES:
        ways = others[f"{measure}_settings"].dropna().unique()
        if len(ways) > 1:
            label = baselines.PREDICTORS[measure].label
            found.append(
                f"The {label} was not measured alike in all runs ({', '.join(sorted(ways))}): its "
                "values do not compare."
            )
    return found


def _interval(values: Floats) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, INTERVAL)
    return float(low), float(high)


def _left_out(
    runs: Sequence[RunScores], groups: Sequence[object], estimator: Estimator
) -> pd.DataFrame | None:
    if len(set(groups)) < 2:
        return None
    try:
        return prediction.left_out(runs, groups, estimator)
    except DataError:  # what is left when one is out does not determine a threshold
        return None
