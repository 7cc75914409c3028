"""A store opened for reading, from Python."""

from pathlib import Path

import pandas as pd

from premem_core.analysis import curves, run_scores
from premem_core.analysis.curves import Curve
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.study import Study, make_study, read_baseline_predictors
from premem_core.api.stored_tables import StoredTables
from premem_core.metrics.estimators import ESTIMATORS, Estimator
from premem_core.metrics.thresholds import OBJECTIVES, Objective
from premem_core.records import SEGMENTS, Segment
from premem_core.store.database import Store

SPLITS = ("train", "test")


def open_store(path: Path | str) -> "StoreReader":
    """Open a store to read it.

    Nothing is made where there is no store. A store that an older Premem wrote is brought up to
    date, as every command does.

    Args:
        path: the store's folder.

    Raises:
        StoreError: there is no store, or a newer Premem wrote it.

    Example:
        store = premem.open_store("store")
    """
    return StoreReader(Store(path, create=False))


class StoreReader(StoredTables):
    """A store that is only read; `open_store` makes one.

    Each method reads the store as it is at that moment, and any number of processes may read while
    a job is scoring. An unknown name is a `UsageError` that says which names there are.
    """

    def premem(
        self,
        task: str,
        *,
        log_log_threshold: float | None = None,
        estimator: Estimator | None = None,
        segment: Segment = "target",
    ) -> pd.DataFrame:
        """Pre-memorization accuracy (PM): one row per run and scored checkpoint of a task.

        Accuracies are means over examples, from 0 to 1, and "half" is the half-width of the mean's
        90 % interval. A mean is missing where the sampling plan left out samples that it needs.

        Args:
            log_log_threshold: t = log log PPL, below which a solution counts as memorized; by
                default the threshold that pages and commands use: the best over the task's runs.
            estimator: "plain", the paper's formula; "jackknife", less biased with few samples; or
                "lu", last-unmasked accuracy, which one sample per example is enough for. Default:
                plain, or lu where a run was scored with the plan last.
            segment: the part of a solution whose perplexity the threshold is for: "target", all of
                it; "trace", its thinking trace; "answer", what follows the trace.

        Columns:
            run, step, epoch: the checkpoint that the row is about.
            log_log_threshold, estimator: the threshold and the estimator that were used.
            train_accuracy: accuracy on the training questions.
            masked_accuracy: the same, with 0 for every example that is memorized.
            premem, premem_half: PM, which predicts test accuracy.
            sampling_error: the standard error of PM that comes from the samples alone; only for lu.
            test_accuracy, test_half: accuracy on the test questions; missing where there are none.
            memorized_share: the share of training examples that are memorized.
            premem_unknown_examples: how many examples have a PM that is not known.

        Raises:
            UsageError: the store has no such task, or an argument is out of range.
            DataError: no threshold can be fitted to the task's runs; give one.

        Example:
            store.premem("demo")[["run", "step", "premem", "premem_half", "test_accuracy"]]
            store.premem("demo", log_log_threshold=-2.3, estimator="jackknife")
        """
        lines = self.curves(
            task, log_log_threshold=log_log_threshold, estimator=estimator, segment=segment
        )
        return curves.table(lines)

    def curves(
        self,
        task: str,
        *,
        log_log_threshold: float | None = None,
        estimator: Estimator | None = None,
        segment: Segment = "target",
    ) -> list[Curve]:
        """What `premem` tabulates, as arrays per run: what `premem.figures` draws.

        Example:
            lines = store.curves("demo")
            names = [line.scores.run for line in lines]
            chart = premem.figures.curves_figure(lines, names, premem.figures.LIGHT, by_epoch=True)
            chart.write_html("curves.html")
        """
        runs = self._scored(task, estimator, segment)
        estimator = estimator or run_scores.default_estimator(runs)
        if log_log_threshold is None:
            log_log_threshold = curves.best_threshold(runs, estimator).log_log_threshold
        curves.check_threshold(log_log_threshold)
        return [curves.curve(run, log_log_threshold, estimator) for run in runs]

    def study(
        self,
        task: str,
        *,
        estimator: Estimator | None = None,
        objective: Objective = "identity",
        segment: Segment = "target",
    ) -> Study:
        """How well PM predicts test accuracy over a task's runs, at every threshold.

        `premem.analyse` gives its numbers at one threshold.

        Args:
            estimator, segment: as for `premem`.
            objective: the R² that the threshold is chosen by: "identity" or "linear".

        Raises:
            UsageError: the store has no such task, or an argument is unknown.
            DataError: no run of the task has test examples.

        Example:
            study = store.study("demo")
            study.left_out  # each run predicted with the threshold of the others
            premem.analyse(study).identity_ci90
        """
        runs = self._scored(task, estimator, segment)
        estimator = estimator or run_scores.default_estimator(runs)
        self._check("objective", objective, OBJECTIVES)
        others = read_baseline_predictors(self._store, runs)
        return make_study(runs, others, estimator, objective)

    def _scored(self, task: str, estimator: str | None, segment: Segment) -> list[RunScores]:
        self._check("estimator", estimator or ESTIMATORS[0], ESTIMATORS)
        self._check("segment", segment, SEGMENTS)
        return run_scores.read_task(self._store, task, segment)
