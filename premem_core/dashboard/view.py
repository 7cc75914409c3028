"""View: what a page shows (task, runs, estimator, threshold), and the controls that choose it.

The address holds these choices, and runs by their names in the store; a choice that it does not
hold is the default: all runs, the plain estimator (or lu where a run has only the samples for that
one), identity R². It always holds the task and the
threshold. The default threshold is the best one over all calibrating runs of the task
(`analysis.calibrating_runs`), whichever runs a page shows. So one address shows the same numbers on
every page.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.analysis import run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibrating_runs import calibrating_runs, what_counts_less
from premem_core.analysis.verdict.threshold import Source
from premem_core.dashboard import cached_reads, elements, pickers
from premem_core.dashboard.wording import count, perplexity, plain, signed
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.thresholds import Objective, ThresholdFit
from premem_core.records import SEGMENT_NAMES, Segment
from premem_core.store.runs import read_runs
from premem_core.store.scores import read_lengths


@dataclass(frozen=True)
class View:
    """What a page shows.

    Attributes:
        task: the task whose runs are compared.
        runs: every scored run of the task.
        shown: the runs that the page shows; `run` is the first of them.
        segment: the part of a solution whose perplexity is compared with the threshold.
        estimator: the estimator of pre-memorization accuracy.
        objective: the R² that the default threshold maximizes.
        threshold: the current threshold, t = log log PPL.
        source: where it comes from: that of the default threshold, or "given" where it was moved.
        moved: whether a person set another threshold than the default.
        best: the best threshold over the task's calibrating runs; None where none can be fitted.
        labels: run → the text that stands for it on the page.
        controls: the row that a page adds its own controls to.
        notices: the place for notices that the store lacks what the address asks for.
    """

    task: str
    runs: tuple[RunScores, ...]
    shown: tuple[RunScores, ...]
    segment: Segment
    estimator: Estimator
    objective: Objective
    threshold: float
    source: Source
    moved: bool
    best: ThresholdFit | None
    labels: Mapping[str, str]
    controls: DeltaGenerator
    notices: DeltaGenerator

    @property
    def run(self) -> RunScores:
        """The run that the page shows."""
        return self.shown[0]

    @property
    def label(self) -> str:
        """The text that stands for that run, with its Markdown characters escaped."""
        return plain(self.labels[self.run.run])

    def with_settings(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table, and threshold, estimator and segment of its numbers in further columns."""
        return table.assign(
            log_log_threshold=self.threshold,
            threshold_source=self.source,
            estimator=self.estimator,
            segment=self.segment,
        )

    def threshold_note(self) -> str:
        """Where the threshold comes from, and how well that is fitted."""
        moved = f"The threshold was set to t = {signed(self.threshold, 2)} by hand. "
        return (moved if self.moved else "") + self._default_note()

    def _default_note(self) -> str:
        """The task's best threshold and the runs it is fitted to, or why there is none."""
        weights_note = " ".join(map(plain, what_counts_less(self.runs)))
        if self.segment != "target":
            part = f"The threshold is for the perplexity of {SEGMENT_NAMES[self.segment]}."
            weights_note = f"{part} {weights_note}"
        if self.best is None:
            default = cached_reads.task_threshold(self.task, self.runs, self.estimator)
            return (
                f"No threshold can be fitted with the {self.estimator} estimator, for lack of test "
                f"accuracies or of samples that the plan left out. t = "
                f"{signed(default.log_log_threshold)}: {plain(default.why)} {weights_note}"
            )
        t, restricted = self.best.log_log_threshold, self.best.restricted
        subject = self.objective.title()
        if restricted:
            subject = f"Among thresholds that need no missing sample, {self.objective}"
        runs = len(calibrating_runs(self.runs))
        # R² of one run at the threshold that is fitted to it says nothing.
        value = f": {signed(self.best.r2)}" if runs > 1 else ""
        return (
            f"{subject} R² ({self.estimator} estimator) is highest at t = {signed(t)} (perplexity "
            f"{perplexity(t)}){value} over {count(runs, 'run')} of the task. {weights_note}"
        )


def pick_view(
    runs: Literal["all", "several", "one"] = "all",
    *,
    eligible: Callable[[RunScores], bool] = lambda run: True,
    if_none: str = "",
    choose_objective: bool = False,
) -> View:
    """Draw the row of controls at the top of a page, and return what the reader chose.

    If no run is scored yet, or the task has no run that the page can show, a notice says so and the
    page stops.

    Args:
        runs: "several" or "one": the reader chooses among the runs; "all": every run is shown.
        eligible: whether the page can show a run.
        if_none: the notice where the task has no eligible run; "": the page goes on without runs.
    """
    row = elements.controls()
    with row:
        task = pick_task()
        segment = pickers.pick_segment(draw=has_traces(task))
        all_runs = tuple(cached_reads.task_runs(task, segment))
        labels = run_scores.run_labels(all_runs)
        names = [run.run for run in all_runs if eligible(run)]
        if not names and if_none:
            st.info(if_none)
            st.stop()
        chosen = names
        if names and runs == "several":
            chosen = pickers.pick_shown_runs(names, labels)
        elif names and runs == "one":
            longest = max(
                (run for run in all_runs if run.run in names), key=lambda run: len(run.steps)
            )
            chosen = [
                pickers.pick_name(
                    "Run", names, "run", default=longest.run, display=labels, width=330
                )
            ]
        estimator = pickers.pick_estimator(run_scores.default_estimator(all_runs))
        objective = pickers.pick_objective(draw=choose_objective)
        best = cached_reads.best_threshold(task, all_runs, estimator, objective)
        default = cached_reads.task_threshold(task, all_runs, estimator)
        at_first = slider_value(best, default.log_log_threshold)
        threshold = pickers.pick_threshold(at_first, (task, estimator, objective, segment))
        moved = abs(threshold - at_first) >= cached_reads.SLIDER_STEP / 2
    notices = st.empty()
    pickers.show_missing(notices)
    return View(
        task=task,
        runs=all_runs,
        shown=tuple(run for run in all_runs if run.run in chosen),
        segment=segment,
        estimator=estimator,
        objective=objective,
        threshold=threshold,
        source="given" if moved else default.source,
        moved=moved,
        best=best,
        labels=labels,
        controls=row,
        notices=notices,
    )


def has_traces(task: str) -> bool:
    """Whether a solution of the task has a thinking trace whose perplexity was measured."""
    return bool(cached_reads.read(read_lengths, task)["traces"].any())


def pick_task() -> str:
    """The chosen task. If no run is scored yet, a notice says so and the page stops."""
    runs = cached_reads.read(read_runs)
    tasks = sorted(runs[runs["scored"] > 0]["task"].unique())
    if not tasks:
        st.info(
            "Nothing is scored yet. Score a run on the Score page, or run `python -m premem_core "
            f"demo --store {cached_reads.store().path}` to see the demo study."
        )
        st.stop()
    return pickers.pick_name("Task", tasks, "task", width=150)


def slider_value(best: ThresholdFit | None, otherwise: float) -> float:
    """The best threshold, rounded to a step of the slider; where there is none, the other one.

    Args:
        otherwise: t where no threshold can be fitted.
    """
    t = best.log_log_threshold if best else otherwise
    # Below this threshold, samples that the plan skipped are missing: never round down.
    rounded = np.ceil if best is None or best.restricted else np.round
    return float(rounded(np.round(np.clip(t, *pickers.SLIDER) * 100, 6))) / 100
