"""View: what a page looks at (task, runs, estimator, threshold), and the controls that choose it.

The address always holds all of it, runs by their names in the store. One rule gives the default
threshold: the optimum over all runs of the task that take part (`analysis.calibrating_runs`),
whichever of them a page shows. So one address shows the same numbers on every page.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.analysis import run_scores
from premem_core.analysis.calibrating_runs import calibrating_runs, what_counts_less
from premem_core.analysis.run_scores import RunScores
from premem_core.dashboard import cached_reads, elements, pickers
from premem_core.dashboard.pickers import PAPER_GSM8K
from premem_core.dashboard.wording import count, perplexity, plain, signed
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.thresholds import Objective, ThresholdFit
from premem_core.store.runs import read_runs


@dataclass(frozen=True)
class View:
    """What a page looks at.

    Attributes:
        task: its runs are compared with each other.
        runs: every scored run of the task.
        shown: those that the page shows; `run` the first of them.
        estimator, objective: of pre-memorization accuracy; of the default threshold.
        threshold: t = log log PPL in force.
        best: the optimum over the task's runs that take part; None where none can be fitted.
        labels: run → what it is shown as.
        controls: the row that a page adds its own controls to.
        notices: where it is said that the store lacks what the address asks for.
    """

    task: str
    runs: tuple[RunScores, ...]
    shown: tuple[RunScores, ...]
    estimator: Estimator
    objective: Objective
    threshold: float
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
        """What that run is shown as, as Markdown that means nothing but itself."""
        return plain(self.labels[self.run.run])

    def with_settings(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of numbers with the threshold and the estimator that they follow from."""
        return table.assign(log_log_threshold=self.threshold, estimator=self.estimator)

    def threshold_note(self) -> str:
        """Where the task's best threshold lies and what it rests on, or why there is none."""
        less = " ".join(map(plain, what_counts_less(self.runs)))
        if self.best is None:
            return (
                "Too few test accuracies or samples to fit t to this task with the "
                f"{self.estimator} estimator; {signed(PAPER_GSM8K, 1)} is the paper's. {less}"
            )
        t, restricted = self.best.log_log_threshold, self.best.restricted
        where = f"Where no sample is missing, {self.objective}" if restricted else (
            self.objective.title()
        )  # fmt: skip
        return (
            f"{where} R² ({self.estimator} estimator) is best at t = {signed(t)} (perplexity "
            f"{perplexity(t)}), with {signed(self.best.r2)} over "
            f"{count(len(calibrating_runs(self.runs)), 'run')} of the task. {less}"
        )


def pick_view(
    runs: Literal["all", "several", "one"] = "all",
    *,
    which: Callable[[RunScores], bool] = lambda run: True,
    otherwise: str = "",
    choose_objective: bool = False,
) -> View:
    """The row of controls at a page's top, and what was chosen with them.

    Where nothing is scored yet, or no run is of the kind that the page shows, that is said, and the
    page ends.

    Args:
        runs: whether the reader chooses several runs, one run, or all are shown.
        which: the runs that the page can show.
        otherwise: what to say where the task has none of those; "": the page goes on without.
    """
    row = elements.controls()
    with row:
        task = pick_task()
        every = tuple(cached_reads.task_runs(task))
        labels = run_scores.run_labels(every)
        names = [run.run for run in every if which(run)]
        if not names and otherwise:
            st.info(otherwise)
            st.stop()
        chosen = names
        if names and runs == "several":
            chosen = pickers.pick_shown_runs(names, labels)
        elif names and runs == "one":
            longest = max(
                (run for run in every if run.run in names), key=lambda run: len(run.steps)
            )
            chosen = [
                pickers.pick_name(
                    "Run", names, "run", default=longest.run, display=labels, width=330
                )
            ]
        estimator = pickers.pick_estimator()
        objective = pickers.pick_objective() if choose_objective else pickers.objective_in_force()
        best = cached_reads.best_threshold(task, every, estimator, objective)
        threshold = pickers.pick_threshold(on_slider(best), (task, estimator, objective))
    notices = st.empty()
    pickers.say_what_is_missing(notices)
    return View(
        task=task,
        runs=every,
        shown=tuple(run for run in every if run.run in chosen),
        estimator=estimator,
        objective=objective,
        threshold=threshold,
        best=best,
        labels=labels,
        controls=row,
        notices=notices,
    )


def pick_task() -> str:
    """The task in force; where nothing is scored yet, that is said and the page ends."""
    runs = cached_reads.read(read_runs)
    tasks = sorted(runs[runs["scored"] > 0]["task"].unique())
    if not tasks:
        st.info(
            "Nothing is scored yet. Score a run on the Score page, or run `python -m premem_core "
            f"demo --store {cached_reads.store().path}` for the demo study."
        )
        st.stop()
    return pickers.pick_name("Task", tasks, "task", width=150)


def on_slider(best: ThresholdFit | None) -> float:
    """The best threshold as near as the slider comes; the paper's where there is none."""
    if best is None:
        return PAPER_GSM8K
    # The samples that a plan left out are missing below its threshold, not above.
    nearest = np.ceil if best.restricted else np.round
    return float(nearest(np.clip(best.log_log_threshold, *pickers.SLIDER) * 100)) / 100
