"""Pickers: the controls at a page's top that choose task, runs, estimator and threshold."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import streamlit as st

from premem_core.analysis import run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.study import THRESHOLDS
from premem_core.dashboard.cached_reads import SLIDER_STEP, best_threshold, read, store
from premem_core.dashboard.wording import perplexity, signed
from premem_core.metrics.estimators import ESTIMATORS, Estimator
from premem_core.metrics.thresholds import OBJECTIVES, Objective
from premem_core.store.runs import read_runs

SLIDER = THRESHOLDS
PAPER_GSM8K = -2.3  # the paper's threshold for GSM8K


def pick_task() -> str | None:
    """The task in force; None when nothing is scored yet (said on the page)."""
    runs = read(read_runs)
    tasks = sorted(runs[runs["scored"] > 0]["task"].unique())
    if not tasks:
        st.info(
            "Nothing is scored yet. Score a run on the Score page, or run `python -m premem_core "
            f"demo --store {store().path}` for the demo study."
        )
        return None
    task: str = st.selectbox("Task", tasks, key="task", bind="query-params", width=150)
    return task


def pick_runs(runs: Sequence[RunScores]) -> list[RunScores]:
    """Which runs a page shows; all by default, and all when none is chosen.

    The address keeps them by their labels, and they are kept from page to page. Not by `bind`: out
    of a closed popover Streamlit writes nothing to a new page's address.
    """
    labels = run_scores.run_labels(runs)
    names = {label: name for name, label in labels.items()}
    asked = st.query_params.get_all("runs")
    kept = st.session_state.get("kept_runs", [])
    if asked and asked != kept:  # by a link, or on the way back
        kept = asked
        st.session_state.pop("runs", None)
    chosen = st.session_state.get("runs", [names.get(each, each) for each in kept])
    st.session_state["runs"] = [name for name in chosen if name in labels] or list(labels)
    n = len(st.session_state["runs"])
    some = f"all {len(labels)}" if n == len(labels) else f"{n} of {len(labels)}"
    with st.popover(f"Runs: {some}", width=150):
        chosen = st.multiselect("Runs", list(labels), format_func=labels.__getitem__, key="runs")
    kept = [] if len(chosen) == len(labels) else [labels[name] for name in chosen]
    st.session_state["kept_runs"] = kept
    if kept and kept != asked:
        st.query_params["runs"] = kept
    elif asked and not kept:
        del st.query_params["runs"]
    return [run for run in runs if run.run in (chosen or labels)]


def pick_run(runs: Sequence[RunScores]) -> RunScores:
    """The run in force; the one with the most checkpoints by default."""
    labels = run_scores.run_labels(runs)
    longest = max(runs, key=lambda run: len(run.steps))
    name = st.selectbox(
        "Run",
        list(labels),
        index=list(labels).index(longest.run),
        format_func=labels.__getitem__,
        key="run",
        bind="query-params",
        width=330,
    )
    return next(run for run in runs if run.run == name)


def pick_estimator() -> Estimator:
    """The estimator in force; plain, the paper's, by default."""
    estimator: Estimator = st.segmented_control(
        "Estimator",
        ESTIMATORS,
        default="plain",
        required=True,
        key="estimator",
        bind="query-params",
        help="plain: the paper's formula. jackknife: corrects most of the upward bias that a "
        "maximum over few samples has; the mean is more accurate, one example's value less.",
    )
    return estimator


def pick_objective() -> Objective:
    """The R² that thresholds are chosen by; identity by default."""
    objective: Objective = st.segmented_control(
        "Best by R²",
        OBJECTIVES,
        default="identity",
        required=True,
        key="objective",
        bind="query-params",
        help="What the best threshold is chosen by. identity: PM comes nearest to the test "
        "accuracy itself. linear: some line through PM does.",
    )
    return objective


def pick_threshold(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator,
    objective: Objective = "identity",
) -> float:
    """t = log log PPL from a slider; by default the optimum over the given runs."""
    best = best_threshold(task, runs, estimator, objective)
    start = PAPER_GSM8K
    if best:
        # The samples that a plan left out are missing below its threshold, not above.
        nearest = np.ceil if best.restricted else np.round
        start = float(nearest(np.clip(best.log_log_threshold, *SLIDER) * 100)) / 100
    t = st.session_state.get("t", start)
    if "t" not in st.session_state:  # the first run of a page opened by its URL
        with suppress(ValueError):
            asked = float(st.query_params.get("t", start))
            t = asked if np.isfinite(asked) else start
    return st.slider(
        f"Memorized below perplexity {perplexity(t)} (slider: t = log log PPL)",
        *SLIDER,
        value=start,
        step=SLIDER_STEP,
        key="t",
        bind="query-params",
        width=350,
    )


def threshold_note(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator,
    objective: Objective = "identity",
) -> str:
    """Where the best threshold of these runs lies, or why there is none."""
    best = best_threshold(task, runs, estimator, objective)
    if not best:
        return (
            f"Too few test accuracies or samples to fit t here with the {estimator} estimator; "
            f"{signed(PAPER_GSM8K, 1)} is the paper's."
        )
    t = best.log_log_threshold
    where = f"Where no sample is missing, {objective}" if best.restricted else objective.title()
    return (
        f"{where} R² ({estimator} estimator) is best at t = {signed(t)} "
        f"(perplexity {perplexity(t)}), with {signed(best.r2)}."
    )
