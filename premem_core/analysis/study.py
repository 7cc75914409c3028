"""What a task's runs say about PM as a predictor, computed once for page, command and report."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from premem_core.analysis import baselines, curves, leave_one_out
from premem_core.analysis.calibrating_runs import calibrating_runs, what_counts_less
from premem_core.analysis.caveats import caveats
from premem_core.analysis.curves import Curve
from premem_core.analysis.run_scores import RunScores
from premem_core.errors import DataError
from premem_core.metrics import thresholds
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.r2 import identity_r2, linear_r2
from premem_core.metrics.thresholds import Objective, Resamples, Steps, ThresholdFit
from premem_core.scoring.extra_passes import MEASURES
from premem_core.store.checkpoint_measures import read_baselines
from premem_core.store.completions import read_agreement
from premem_core.store.database import Store

THRESHOLDS = (-5.0, 0.5)  # t = log log PPL, that are shown; PPL 1.007 to 5.2
INTERVAL = (0.05, 0.95)  # two-sided 90 %
FEWEST_RUNS = 5  # below it, intervals from resampled runs hold the truth too rarely


@dataclass(frozen=True)
class Study:
    """Runs under one estimator: all that does not hang on the threshold in force.

    Attributes:
        objective: the R² that thresholds are chosen by.
        others: `read_baselines` of the runs.
        of_runs: R² at every threshold; `fit` its optimum, None where there is none.
        runs: those that take part (`calibrating_runs`), each counting by its weight.
        counts_less: in sentences, which of the runs given do not take part, or count less.
        left_out: each run predicted with the others' threshold (`prediction.left_out`);
            `rate_left_out` with that of the runs of other learning rates. None where impossible.
        refitted: R² over resampled runs, each with its own best threshold; None with fewer than
            FEWEST_RUNS runs, or no fit.
    """

    runs: tuple[RunScores, ...]
    counts_less: tuple[str, ...]
    estimator: Estimator
    objective: Objective
    others: pd.DataFrame
    of_runs: Steps
    fit: ThresholdFit | None
    left_out: pd.DataFrame | None
    rate_left_out: pd.DataFrame | None
    refitted: Resamples | None

    @cached_property
    def off_by_run(self) -> pd.DataFrame | None:
        """`prediction.errors_by_run` of `left_out`."""
        return None if self.left_out is None else leave_one_out.errors_by_run(self.left_out)

    @cached_property
    def by_threshold(self) -> pd.DataFrame:
        """R² by the objective at each of THRESHOLDS, a hundredth of t apart.

        log_log_threshold, perplexity, r2 (NaN where samples are missing).
        """
        low, high = THRESHOLDS
        t = np.linspace(low, high, round((high - low) * 100) + 1)
        r2 = self.of_runs.r2(self.objective)[np.searchsorted(self.of_runs.at, np.exp(t))]
        return pd.DataFrame({"log_log_threshold": t, "perplexity": np.exp(np.exp(t)), "r2": r2})


@dataclass(frozen=True)
class Analysis:
    """A study at one threshold. What takes time is computed when it is first asked for.

    Attributes:
        log_log_threshold: t in force; `fitted` when it stands for the study's optimum.
        lines: the runs' curves.
        points: one row per checkpoint with a test accuracy (`curves.points`), and how much it
            counts (weight).
    """

    study: Study
    log_log_threshold: float
    fitted: bool
    lines: tuple[Curve, ...]
    points: pd.DataFrame

    @cached_property
    def identity_r2(self) -> float:
        """Over the points whose PM is known; NaN where undefined."""
        return identity_r2(*self._premem_and_test(), self._weights())

    @cached_property
    def linear_r2(self) -> float:
        """Over the points whose PM is known; NaN where undefined."""
        return linear_r2(*self._premem_and_test(), self._weights())

    @property
    def identity_ci90(self) -> tuple[float, float] | None:
        """Over resampled runs; a fitted threshold is chosen anew in each.

        None with fewer than FEWEST_RUNS runs, or where a PM is not known.
        """
        return _interval(self._again.identity) if self._again else None

    @property
    def linear_ci90(self) -> tuple[float, float] | None:
        """As `identity_ci90`."""
        return _interval(self._again.linear) if self._again else None

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """How well simpler predictors do on the same points (`baselines.evaluate`)."""
        return baselines.evaluate(self.points.join(self.study.others, on=["run", "step"]))

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """What these numbers do not say, in sentences."""
        return (
            *caveats(self.lines, self.study.fit),
            *self.study.counts_less,
            *_mixed_settings(self.study.others),
        )

    @cached_property
    def _again(self) -> Resamples | None:
        of, premem = self.study, self.points["premem"]
        if len(of.runs) < FEWEST_RUNS or premem.isna().any():
            return None
        if self.fitted:
            return of.refitted
        return thresholds.resample(of.of_runs, of.objective, self.log_log_threshold)

    def train_accuracy_r2(self) -> tuple[float, float]:
        """Identity and linear R² of plain train accuracy over the points where it is known."""
        train, test = (self.points[n].to_numpy() for n in ("train_accuracy", "test_accuracy"))
        weights = self._weights()
        return identity_r2(train, test, weights), linear_r2(train, test, weights)

    def _weights(self) -> Floats:
        return self.points["weight"].to_numpy()

    def _premem_and_test(self) -> tuple[Floats, Floats]:
        return self.points["premem"].to_numpy(), self.points["test_accuracy"].to_numpy()

    def in_words(self) -> list[str]:
        """What was fitted to what, how well, and how well on runs that it was not fitted to."""
        known = self.points.dropna(subset=["premem"])
        study = self.study
        source = f"the optimum of {study.objective} R²" if self.fitted else "given"
        sentences = [
            f"{len(known)} checkpoints of {known['run'].nunique()} runs; threshold t = "
            f"{self.log_log_threshold:.3f} ({source}); {study.estimator} estimator.",
            f"Identity R² of pre-memorization accuracy against test accuracy "
            f"{self.identity_r2:.3f}{_between(self.identity_ci90)}, linear R² {self.linear_r2:.3f}"
            f"{_between(self.linear_ci90)}; linear R² of plain train accuracy "
            f"{self.train_accuracy_r2()[1]:.3f}.",
        ]
        for what, rows in (("run", study.left_out), ("learning rate", study.rate_left_out)):
            if rows is not None:
                off = leave_one_out.errors(rows)
                sentences.append(
                    f"One {what} left out, predicted with the threshold of the others: MAE "
                    f"{off.mae:.3f}, RMSE {off.rmse:.3f}, R² {off.r2:.3f}."
                )
        return sentences


def make_study(
    runs: Sequence[RunScores],
    others: pd.DataFrame,
    estimator: Estimator = "plain",
    objective: Objective = "identity",
) -> Study:
    """Study those of the runs that take part: with a test set, and finished.

    Args:
        others: `read_baselines` of these runs.

    Raises:
        DataError: none takes part; the estimator is not defined for a run's numbers of samples.
    """
    given, runs = runs, calibrating_runs(runs)
    if not any(run.tested for run in given):
        raise DataError("no run of this task has test problems; score some with a test file")
    if not runs:
        raise DataError(" ".join(what_counts_less(given)) + " Wait for its job, or resume it.")
    of_runs = curves.threshold_steps(runs, estimator)
    fit: ThresholdFit | None = None
    with suppress(DataError):
        fit = curves.best_step(of_runs, objective)
    names = [run.run for run in runs]
    rates = [run.learning_rate for run in runs]
    if np.isnan(rates).any():  # which belong together is not known
        rates = [np.nan] * len(runs)
    return Study(
        runs=tuple(runs),
        counts_less=tuple(what_counts_less(given)),
        estimator=estimator,
        objective=objective,
        others=others,
        of_runs=of_runs,
        fit=fit,
        left_out=leave_one_out.left_out(runs, names, of_runs, estimator, objective),
        rate_left_out=leave_one_out.left_out(runs, rates, of_runs, estimator, objective),
        refitted=thresholds.resample(of_runs, objective)
        if fit and len(runs) >= FEWEST_RUNS
        else None,
    )


def analyse(of: Study, log_log_threshold: float | None = None, fitted: bool = False) -> Analysis:
    """A study at a threshold, by default its optimum.

    Args:
        fitted: the threshold given is that optimum but for rounding.

    Raises:
        DataError: no threshold was given and none can be fitted.
    """
    if log_log_threshold is None:
        best = of.fit or curves.best_step(of.of_runs, of.objective)
        log_log_threshold, fitted = best.log_log_threshold, True
    lines = tuple(curves.curve(run, log_log_threshold, of.estimator) for run in of.runs)
    return Analysis(of, log_log_threshold, fitted, lines, curves.weighted_points(lines))


def read_baseline_predictors(store: Store, runs: Sequence[RunScores]) -> pd.DataFrame:
    """What the store has of the predictors that `baselines` names, beyond train accuracy and PM.

    Returns:
        Indexed by run and step: train_nll, first_accuracy, atc, distance, gradient_variance, how
        the last two were measured (distance_settings, gradient_variance_settings); NaN where not
        known. ATC's threshold is that of the other runs' test problems.
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
    kept = pd.concat([read_baselines(store, run.run) for run in runs])
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


def _between(ends: tuple[float, float] | None) -> str:
    return f" (90 % over resampled runs: {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""


def _interval(values: Floats) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, INTERVAL)
    return float(low), float(high)
