"""Study: how well PM predicts the test accuracy of the runs of a task."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from premem_core.analysis import baselines, curves
from premem_core.analysis.caveats import caveats
from premem_core.analysis.curves import R2, Curve
from premem_core.analysis.run_scores import RunScores, segment_note
from premem_core.analysis.studies import leave_one_out
from premem_core.analysis.studies.calibrating_runs import calibrating_runs, what_counts_less
from premem_core.errors import DataError
from premem_core.metrics import thresholds
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.thresholds import Objective, Resamples, Steps, ThresholdFit
from premem_core.records import Segment
from premem_core.scoring.extra_passes import MEASURES
from premem_core.store.checkpoint_measures import read_baselines
from premem_core.store.completions import read_agreement
from premem_core.store.database import Store

THRESHOLDS = (-5.0, 0.5)  # lowest and highest t = log log PPL that is shown; PPL 1.007 to 5.2
INTERVAL = (0.05, 0.95)  # quantiles of a two-sided 90 % interval
FEWEST_RUNS = 5  # with fewer runs, intervals from resampled runs contain the true R² too rarely


@dataclass(frozen=True)
class Study:
    """The results for one estimator that do not depend on the threshold in use.

    Attributes:
        runs: the runs that take part (`calibrating_runs`), weighted by `run_weights`.
        counts_less: sentences about runs that do not take part, or that count less than others.
        objective: the R² by which thresholds are chosen.
        predictors: `read_baseline_predictors` of the runs.
        steps: R² as a function of the threshold.
        fit: the threshold with the best R²; None if there is none.
        left_out: each run predicted with the threshold of the other runs
            (`leave_one_out.predict_left_out`); None if this is impossible.
        rate_left_out: each run predicted with the threshold of the runs with other learning rates;
            None if this is impossible.
        refitted: R² over resampled runs, with the best threshold of each resample; None with fewer
            than FEWEST_RUNS runs, or without `fit`.
    """

    runs: tuple[RunScores, ...]
    counts_less: tuple[str, ...]
    estimator: Estimator
    objective: Objective
    predictors: pd.DataFrame
    steps: Steps
    fit: ThresholdFit | None
    left_out: pd.DataFrame | None
    rate_left_out: pd.DataFrame | None
    refitted: Resamples | None

    @property
    def segment(self) -> Segment:
        """The part of the solutions whose NLL is compared with the threshold."""
        return self.runs[0].segment

    @cached_property
    def errors_by_run(self) -> pd.DataFrame | None:
        """The prediction errors of each left-out run (`leave_one_out.errors_by_run`)."""
        return None if self.left_out is None else leave_one_out.errors_by_run(self.left_out)

    @cached_property
    def by_threshold(self) -> pd.DataFrame:
        """R² of the objective at every hundredth of t within THRESHOLDS.

        Columns: log_log_threshold, perplexity, r2 (NaN where samples are missing).
        """
        low, high = THRESHOLDS
        t = np.linspace(low, high, round((high - low) * 100) + 1)
        r2 = self.steps.r2(self.objective)[np.searchsorted(self.steps.breakpoints, np.exp(t))]
        return pd.DataFrame({"log_log_threshold": t, "perplexity": np.exp(np.exp(t)), "r2": r2})


@dataclass(frozen=True)
class Analysis:
    """A study at one threshold. Slow results are computed at their first use.

    Attributes:
        log_log_threshold: t.
        fitted: whether t is the study's best threshold.
        lines: the curve of each run.
        points: one row per checkpoint with a test accuracy (`curves.weighted_points`).
    """

    study: Study
    log_log_threshold: float
    fitted: bool
    lines: tuple[Curve, ...]
    points: pd.DataFrame

    @cached_property
    def r2(self) -> R2:
        """R² of PM against test accuracy, over the points whose PM is known."""
        return curves.points_r2(self.points)

    @cached_property
    def train_r2(self) -> R2:
        """R² of train accuracy against test accuracy, over the points where it is known."""
        return curves.points_r2(self.points, "train_accuracy")

    @property
    def identity_ci90(self) -> tuple[float, float] | None:
        """90 % interval of identity R², from resampled runs.

        If the threshold is fitted, it is fitted again to each resample. None with fewer than
        FEWEST_RUNS runs, or if any PM is unknown.
        """
        return _interval(self._resamples.identity) if self._resamples else None

    @property
    def linear_ci90(self) -> tuple[float, float] | None:
        """90 % interval of linear R², as `identity_ci90`."""
        return _interval(self._resamples.linear) if self._resamples else None

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """How well other predictors agree with the same points (`baselines.evaluate`)."""
        return baselines.evaluate(self.points.join(self.study.predictors, on=["run", "step"]))

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """Sentences that say why these numbers may be wrong or say little."""
        return (
            *caveats(self.lines, self.study.fit),
            *self.study.counts_less,
            *_mixed_settings(self.study.predictors),
        )

    @cached_property
    def _resamples(self) -> Resamples | None:
        study = self.study
        if len(study.runs) < FEWEST_RUNS or self.points["premem"].isna().any():
            return None
        if self.fitted:
            return study.refitted
        return thresholds.resample(study.steps, study.objective, self.log_log_threshold)

    def in_words(self) -> list[str]:
        """Sentences with the data, the threshold, R², and the errors on left-out runs."""
        points = self.points.dropna(subset=["premem"])
        study, runs = self.study, points["run"].nunique()
        source = f"the optimum of {study.objective} R²" if self.fitted else "given"
        sentences = [
            f"{len(points)} checkpoints of {runs} run{'' if runs == 1 else 's'}; threshold t = "
            f"{self.log_log_threshold:.3f} ({source}){segment_note(study.segment)}; "
            f"{study.estimator} estimator.",
            curves.no_r2_in_words(points)
            or "Against test accuracy, pre-memorization accuracy has an identity R² of "
            f"{self.r2.identity:.3f}{_between(self.identity_ci90)} and a linear R² of "
            f"{self.r2.linear:.3f}{_between(self.linear_ci90)}; train accuracy has a linear R² of "
            f"{self.train_r2.linear:.3f}.",
        ]
        for left_out, rows in (("run", study.left_out), ("learning rate", study.rate_left_out)):
            if rows is not None:
                errors = leave_one_out.prediction_errors(rows)
                sentences.append(
                    f"Errors when one {left_out} is left out and predicted with the threshold of "
                    f"the others: MAE {errors.mae:.3f}, RMSE {errors.rmse:.3f}, R² {errors.r2:.3f}."
                )
        return sentences


def make_study(
    runs: Sequence[RunScores],
    predictors: pd.DataFrame,
    estimator: Estimator = "plain",
    objective: Objective = "identity",
) -> Study:
    """Make the study of the runs that take part, those with a test set and a finished job.

    Args:
        predictors: `read_baseline_predictors` of these runs.

    Raises:
        DataError: no run takes part, or the estimator is not defined for a run's numbers of
            samples.
    """
    all_runs, runs = runs, calibrating_runs(runs)
    if not any(run.tested for run in all_runs):
        raise DataError("no run of this task has test problems; score a run with a test file")
    if not runs:
        raise DataError(" ".join(what_counts_less(all_runs)) + " Wait for its job, or resume it.")
    steps = curves.threshold_steps(runs, estimator)
    fit: ThresholdFit | None = None
    with suppress(DataError):
        fit = curves.best_step(steps, objective)
    names = [run.run for run in runs]
    rates = [run.learning_rate for run in runs]
    if np.isnan(rates).any():  # it is unknown which runs share a learning rate
        rates = [np.nan] * len(runs)
    return Study(
        runs=tuple(runs),
        counts_less=tuple(what_counts_less(all_runs)),
        estimator=estimator,
        objective=objective,
        predictors=predictors,
        steps=steps,
        fit=fit,
        left_out=leave_one_out.predict_left_out(runs, names, steps, estimator, objective),
        rate_left_out=leave_one_out.predict_left_out(runs, rates, steps, estimator, objective),
        refitted=thresholds.resample(steps, objective)
        if fit and len(runs) >= FEWEST_RUNS
        else None,
    )


def analyse(study: Study, log_log_threshold: float | None = None, fitted: bool = False) -> Analysis:
    """Analyse a study at a threshold, by default the one with the best R².

    Args:
        fitted: whether the given threshold is the best one, apart from rounding.

    Raises:
        DataError: no threshold was given and none can be fitted.
    """
    if log_log_threshold is None:
        best = study.fit or curves.best_step(study.steps, study.objective)
        log_log_threshold, fitted = best.log_log_threshold, True
    lines = tuple(curves.curve(run, log_log_threshold, study.estimator) for run in study.runs)
    return Analysis(study, log_log_threshold, fitted, lines, curves.weighted_points(lines))


def read_baseline_predictors(store: Store, runs: Sequence[RunScores]) -> pd.DataFrame:
    """Read the values of `baselines.PREDICTORS`, other than train accuracy and PM.

    Returns:
        train_nll, first_accuracy, atc, distance and gradient_variance, NaN where unknown, and
        distance_settings and gradient_variance_settings (how these two were measured), indexed by
        run and step. θ of ATC is chosen on the test problems of the other runs.
    """
    confidences = []
    for run in runs:
        agreement = read_agreement(store, run.run, "test")
        wide = agreement.pivot(index="step", columns="example", values="agreement")
        wide = wide.reindex(index=run.steps, columns=run.test_examples)
        confidences.append(wide.to_numpy(dtype=np.float64))
    atc = baselines.leave_out_atc(confidences, [run.test_accuracy for run in runs])
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
    measured = pd.concat([read_baselines(store, run.run) for run in runs])
    values, settings = (
        measured.pivot(index=index, columns="name", values=column).reindex(columns=list(MEASURES))
        for column in ("value", "settings")
    )
    return pd.concat(frames).set_index(index).join(values).join(settings.add_suffix("_settings"))


def _mixed_settings(predictors: pd.DataFrame) -> list[str]:
    """Sentences about baselines that were measured with different settings in these runs."""
    sentences = []
    for measure in MEASURES:
        settings = predictors[f"{measure}_settings"].dropna().unique()
        if len(settings) > 1:
            label = baselines.PREDICTORS[measure].label
            sentences.append(
                f"The {label} was measured with different settings "
                f"({', '.join(sorted(settings))}), so its values cannot be compared between runs."
            )
    return sentences


def _between(ends: tuple[float, float] | None) -> str:
    return f" (90 % over resampled runs: {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""


def _interval(values: Floats) -> tuple[float, float] | None:
    """The ends of the 90 % interval; None if all values are NaN."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, INTERVAL)
    return float(low), float(high)
