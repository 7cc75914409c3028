"""Predictors: the ways to predict test accuracy from a run's samples and perplexities.

Each is one estimator with one threshold for all runs, or with a threshold relative to each run:
t_run = u − s₁, where s₁ is the spread of log NLL at the run's first checkpoint (docs/method.md,
section 11). They are compared by the error on runs that are left out, never by the R² on the points
that a threshold is fitted to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.run_scores import RunScores, relative_scores
from premem_core.analysis.studies.calibrating_runs import calibrating_runs, run_weights
from premem_core.analysis.studies.leave_one_out import (
    Errors,
    predicted_rows,
    prediction_errors,
)
from premem_core.errors import DataError, UsageError
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.thresholds import Steps


@dataclass(frozen=True, slots=True)
class Predictor:
    """One way to predict test accuracy.

    Attributes:
        relative: the threshold is u − s₁ of each run, not the same for all.
    """

    name: str
    label: str
    estimator: Estimator
    relative: bool = False

    def scores(self, run: RunScores) -> RunScores:
        """The run with NLLs to which one threshold for all runs applies."""
        return relative_scores(run) if self.relative else run


PREDICTORS = (
    Predictor("premem", "pre-memorization accuracy", "plain"),
    Predictor("lu", "last-unmasked accuracy", "lu"),
    Predictor("half", "the mean of both", "half"),
    Predictor("half-relative", "the mean of both, threshold relative to the run", "half", True),
)
NAMES = tuple(predictor.name for predictor in PREDICTORS)


def predictor_named(name: str) -> Predictor:
    """The predictor with a name.

    Raises:
        UsageError: there is none.
    """
    if name not in NAMES:
        raise UsageError(f"there is no predictor '{name}'; the predictors are {', '.join(NAMES)}")
    return PREDICTORS[NAMES.index(name)]


@dataclass(frozen=True)
class Comparison:
    """How well each predictor does on runs that are left out.

    Attributes:
        table: predictor, label, mae, r2 (each run left out), rate_mae, rate_r2 (each learning rate
            left out), NaN where that is impossible; one row per predictor.
        best: the predictor with the smallest mean absolute error on left-out runs; None where none
            has one.
        nested: the errors of this very choice: of each left-out run, by the predictor that is best
            among the others; None where there are fewer than three runs.
    """

    table: pd.DataFrame
    best: str | None
    nested: Errors | None

    def in_words(self) -> str:
        """Which predictor these runs suggest, and what the choice itself would have cost."""
        if self.best is None:
            return "With fewer than two runs that have a test set, no predictor can be compared."
        label = predictor_named(self.best).label
        if self.nested is None:
            return (
                f"On these runs, {label} is best, but they are too few to say whether that choice "
                "would have been right for another run."
            )
        return (
            f"Suggested: {label}. Chosen again without each run in turn, the best predictor was "
            f"off by {100 * self.nested.mae:.1f} points in the mean on that run (R² "
            f"{self.nested.r2:.3f})."
        )


def compare(runs: Sequence[RunScores]) -> Comparison:
    """Compare the predictors on the runs that take part (`calibrating_runs`)."""
    runs = calibrating_runs(runs)
    everyone = frozenset(range(len(runs)))
    fits = {p.name: fit for p in PREDICTORS if (fit := _Fit.of(p, runs)) is not None}
    by_run = {name: fit.errors(everyone) for name, fit in fits.items()}
    rates = [run.learning_rate for run in runs]
    known = not np.isnan(rates).any()
    by_rate = {name: fit.errors(everyone, rates) if known else None for name, fit in fits.items()}
    rows = []
    for p in PREDICTORS:
        errors, of_rates = by_run.get(p.name), by_rate.get(p.name)
        rows.append(
            {
                "predictor": p.name,
                "label": p.label,
                "mae": errors.mae if errors else np.nan,
                "r2": errors.r2 if errors else np.nan,
                "rate_mae": of_rates.mae if of_rates else np.nan,
                "rate_r2": of_rates.r2 if of_rates else np.nan,
            }
        )
    return Comparison(pd.DataFrame(rows), _best(by_run), _nested(fits, everyone))


def _best(errors: Mapping[str, Errors | None]) -> str | None:
    known = {name: of_one.mae for name, of_one in errors.items() if of_one}
    return min(known, key=lambda name: known[name]) if known else None


def _nested(fits: "Mapping[str, _Fit]", everyone: frozenset[int]) -> Errors | None:
    """The errors of predicting each run by the predictor that is best among the others."""
    if len(everyone) < 3:
        return None
    rows = []
    for left_out in sorted(everyone):
        others = everyone - {left_out}
        name = _best({name: fit.errors(others) for name, fit in fits.items()})
        of_run = None if name is None else fits[name].rows(left_out, others)
        if of_run is None:
            return None
        rows.append(of_run)
    return prediction_errors(pd.concat(rows, ignore_index=True))


@dataclass
class _Fit:
    """One predictor's R² at every threshold, over R runs."""

    predictor: Predictor
    runs: tuple[RunScores, ...]  # as `Predictor.scores`
    weights: Floats  # (R,)
    steps: Steps
    _thresholds: dict[frozenset[int], float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, predictor: Predictor, runs: Sequence[RunScores]) -> "_Fit | None":
        """None where the predictor is not defined for these runs."""
        scaled = tuple(predictor.scores(run) for run in runs)
        try:
            steps = curves.threshold_steps(scaled, predictor.estimator)
        except DataError:
            return None
        return cls(predictor, scaled, run_weights(runs), steps)

    def errors(
        self, numbers: frozenset[int], groups: Sequence[object] | None = None
    ) -> Errors | None:
        """The errors where each group of these runs is predicted by the others of them.

        Args:
            groups: (R,) the group of each run; None for groups of one run.
        """
        of = list(range(len(self.runs))) if groups is None else groups
        rows = []
        for number in sorted(numbers):
            others = frozenset(n for n in numbers if of[n] != of[number])
            if (of_run := self.rows(number, others)) is None:
                return None
            rows.append(of_run)
        return prediction_errors(pd.concat(rows, ignore_index=True))

    def rows(self, number: int, others: frozenset[int]) -> pd.DataFrame | None:
        """The rows of `predict_left_out` of one run; None if the others determine no threshold."""
        if (t := self._threshold(others)) is None:
            return None
        rows = predicted_rows(self.runs[number], t, self.predictor.estimator, self.weights[number])
        return rows.dropna(subset=["predicted", "test_accuracy"])

    def _threshold(self, numbers: frozenset[int]) -> float | None:
        if numbers not in self._thresholds:
            selected = np.isin(np.arange(len(self.runs)), list(numbers))
            try:
                fit = curves.best_step(self.steps.select_runs(selected))
            except DataError:
                self._thresholds[numbers] = None
            else:
                self._thresholds[numbers] = fit.log_log_threshold
        return self._thresholds[numbers]
