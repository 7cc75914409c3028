"""The threshold for all runs of a task at once, as pages and commands that show several need it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from premem_core.analysis import curves, run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibrating_runs import calibrating_runs
from premem_core.analysis.verdict.threshold import Source, choose_threshold, source_in_words
from premem_core.errors import DataError
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.thresholds import ThresholdFit


@dataclass(frozen=True, slots=True)
class TaskThreshold:
    """One threshold for the runs of a task.

    Attributes:
        log_log_threshold: t.
        source: "other_runs" where it is fitted to runs of the task that have a test set; these may
            be the runs that it is used for.
        why: one sentence that says where it comes from.
    """

    log_log_threshold: float
    source: Source
    why: str

    def in_words(self) -> str:
        """Such as 't = -2.310, fitted to runs with a test set'."""
        return f"t = {self.log_log_threshold:.3f}, {fitted_or_from(self.source)}"


def fitted_or_from(source: Source) -> str:
    """As `source_in_words`, for a threshold of all runs of a task."""
    words = {"other_runs": "fitted to runs with a test set", "this_run": "from the runs alone"}
    return words.get(source) or source_in_words(source)


def given_threshold(log_log_threshold: float) -> TaskThreshold:
    """A threshold that a person gave. UsageError: it is not a finite number."""
    curves.check_threshold(log_log_threshold)
    return TaskThreshold(log_log_threshold, "given", "The threshold was given.")


def task_threshold(
    task: str, runs: Sequence[RunScores], estimator: Estimator | None = None
) -> TaskThreshold:
    """The threshold with the best R² over a task's runs; without one, that of plan or runs.

    Args:
        runs: all scored runs of the task.
        estimator: None for the default one.

    Raises:
        DataError: there is nothing that a threshold could come from.
    """
    estimator = estimator or run_scores.default_estimator(runs)
    try:
        best = curves.best_threshold(runs, estimator)
    except DataError:
        best = None
    return threshold_of_fit(task, runs, estimator, best)


def threshold_of_fit(
    task: str, runs: Sequence[RunScores], estimator: Estimator, best: ThresholdFit | None
) -> TaskThreshold:
    """As `task_threshold`.

    Args:
        best: the best threshold over the runs by identity R²; None where none can be fitted.
    """
    if best is None:
        return _without_test_sets(task, runs, estimator)
    n = len(calibrating_runs(runs))
    of_runs = "the run of the task that has" if n == 1 else f"the {n} runs of the task that have"
    why = f"The threshold was fitted to {of_runs} a test set."
    return TaskThreshold(best.log_log_threshold, "other_runs", why)


def _without_test_sets(task: str, runs: Sequence[RunScores], estimator: Estimator) -> TaskThreshold:
    if (planned := run_scores.planned_threshold(runs)) is not None:
        why = "The threshold is that of the plan by which the runs were sampled."
        return TaskThreshold(planned, "given", why)
    own, reasons = [], []
    for run in runs:
        try:
            own.append(choose_threshold(task, run, [run], estimator=estimator))
        except DataError as error:
            reasons.append(f"run '{run.run}': {error}")
    if not own:
        raise DataError("; ".join(reasons))
    # Below the threshold of a run's plan, samples are missing.
    planned_ones = [run.planned_threshold for run in runs if run.planned_threshold is not None]
    middle = max([float(np.median([one.log_log_threshold for one in own])), *planned_ones])
    if len(own) == 1:
        return TaskThreshold(middle, own[0].source, own[0].why)
    sources = {one.source for one in own}
    source: Source = "unseen" if sources == {"unseen"} else "this_run"
    each = {"unseen": "by its unseen solutions", "this_run": "by the rule for a run alone"}
    ways = " or ".join(each[one] for one in ("unseen", "this_run") if one in sources)
    why = f"The threshold is the median of those of {len(own)} runs, each {ways}."
    return TaskThreshold(middle, source, why)
