"""The threshold for all runs of a task at once, as pages and commands that show several need it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from premem_core.analysis import curves, run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibrating_runs import calibrating_runs
from premem_core.analysis.verdict.threshold import (
    SOURCE_NAMES,
    Source,
    choose_threshold,
    source_in_words,
)
from premem_core.errors import DataError
from premem_core.metrics.estimators import Estimator


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
    return "fitted to runs with a test set" if source == "other_runs" else source_in_words(source)


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
        t = curves.best_threshold(runs, estimator).log_log_threshold
    except DataError:
        return _without_test_sets(task, runs, estimator)
    n = len(calibrating_runs(runs))
    of_runs = "the run of the task that has" if n == 1 else f"the {n} runs of the task that have"
    return TaskThreshold(t, "other_runs", f"The threshold was fitted to {of_runs} a test set.")


def _without_test_sets(task: str, runs: Sequence[RunScores], estimator: Estimator) -> TaskThreshold:
    if (planned := run_scores.planned_threshold(runs)) is not None:
        why = "The threshold is that of the plan by which the runs were sampled."
        return TaskThreshold(planned, "given", why)
    own = [choose_threshold(task, run, [run], estimator=estimator) for run in runs]
    if len(own) == 1:
        return TaskThreshold(own[0].log_log_threshold, own[0].source, own[0].why)
    source: Source = "unseen" if all(one.source == "unseen" for one in own) else "this_run"
    middle = float(np.median([one.log_log_threshold for one in own]))
    why = f"The threshold is the median of those of {len(own)} runs, each {SOURCE_NAMES[source]}."
    return TaskThreshold(middle, source, why)
