"""Verdict: which checkpoint of a run to ship, what to expect of it, and how sure that is."""

import streamlit as st

from premem_core.analysis import run_scores
from premem_core.analysis.measures import read_measures
from premem_core.analysis.studies.calibration import Calibration
from premem_core.analysis.verdict.threshold import SOURCE_NAMES, SOURCES
from premem_core.analysis.verdict.verdict import Verdict
from premem_core.dashboard import cached_reads, elements, figures, pickers
from premem_core.dashboard.figures import html_report
from premem_core.dashboard.view import has_traces, pick_task
from premem_core.dashboard.wording import error_in_words, percent, plain
from premem_core.errors import PrememError

CHECKPOINTS: elements.Columns = {
    "step": ("Step", str),
    "premem": ("PM", percent),
    "lu": ("LU", percent),
    "predicted": ("Predicted", percent),
    "low": ("from", percent),
    "high": ("to", percent),
    "memorized_share": ("Memorized", percent),
}
LABELLED: elements.Columns = {
    "labelled": ("By labels", percent),
    "joined": ("Joined", percent),
    "joined_low": ("from", percent),
    "joined_high": ("to", percent),
}
INTERVALS = {
    "90 %": "The band is a 90 % interval per checkpoint: how far predictions were off on runs that "
    "the threshold was not fitted to.",
    "typical": "The band is typical: it held nine in ten checkpoints of published runs, and "
    "promises nothing for another task.",
    None: "There is no interval.",
}

st.header("Verdict")


def pick_verdict() -> Verdict | str:
    """The verdict on the chosen run with the chosen source, or why there is none."""
    with elements.controls():
        task = pick_task()
        segment = pickers.pick_segment(draw=has_traces(task))
        runs = {run.run: run for run in cached_reads.task_runs(task, segment)}
        labels = run_scores.run_labels(list(runs.values()))
        untested_first = sorted(runs.values(), key=lambda run: (run.tested, -len(run.steps)))
        name = pickers.pick_name(
            "Run", list(runs), "run", default=untested_first[0].run, display=labels, width=330
        )
        source = pickers.pick_name(
            "Threshold from", ["best", *SOURCES[:-1]], "from", width=190,
            display={"best": "the best evidence"} | {one: SOURCE_NAMES[one] for one in SOURCES},
            help="unseen solutions: less perplexing than 99 % of solutions that the run was not "
            "trained on. other runs: the threshold that fits runs with a test set. this run alone: "
            "a rule from the accuracy at its first checkpoint.",
        )  # fmt: skip
        estimator = pickers.pick_estimator(run_scores.default_estimator(list(runs.values())))
        tested = [run.run for run in runs.values() if run.tested]
        with st.popover("Calibration"):
            picked = pickers.pick_names(
                "Runs to calibrate on", tested, "calibrate", display=labels,
                placeholder="the task's other runs",
            )  # fmt: skip
            upload = st.file_uploader(
                "or a saved calibration.json for the same base model and data set", type="json"
            )
    calibration = None
    try:
        if upload is not None:
            calibration = Calibration.from_json(upload.getvalue().decode(), upload.name)
        elif picked:
            others = [runs[run] for run in picked if run != name]
            calibration = cached_reads.calibration(task, others, estimator)
    except (PrememError, UnicodeDecodeError) as error:
        return error_in_words(error)
    chosen = next((one for one in SOURCES if one == source), None)
    verdict = cached_reads.verdict(task, runs[name], estimator, chosen, calibration)
    if isinstance(verdict, str):
        return plain(verdict)
    return verdict.with_measures(cached_reads.read(read_measures, name))


def show_verdict(verdict: Verdict) -> None:
    """The verdict's sentences, what makes it doubtful, its chart and its numbers."""
    ship, *others = verdict.in_words()
    st.markdown(f"**{plain(ship)}**")
    st.markdown("\n".join(f"- {plain(sentence)}" for sentence in others if sentence))
    if verdict.cautions:
        st.warning("  \n".join(map(plain, verdict.cautions)))
    rows = verdict.checkpoints
    elements.chart(
        figures.prediction_figure(rows, elements.palette(), verdict.interval),
        "prediction",
        rows.assign(
            log_log_threshold=verdict.threshold.log_log_threshold,
            threshold_source=verdict.threshold.source,
            estimator=verdict.threshold.estimator,
        ),
        alt=f"Expected test accuracy of {verdict.run} at each checkpoint",
    )
    st.caption(
        plain(f"{INTERVALS[verdict.interval]} {verdict.threshold.estimator.title()} estimator.")
    )
    st.subheader("Each checkpoint")
    labelled = rows["labelled"].notna().any()
    elements.small_table(
        rows,
        CHECKPOINTS | (LABELLED if labelled else {}),
        alt="Pre-memorization accuracy and expected test accuracy at each checkpoint",
    )
    st.caption(
        "PM: pre-memorization accuracy. LU: the same at the last checkpoint before each example "
        "was memorized. Predicted: accuracy on new problems, without labels."
        + (
            " By labels: on the labelled test questions, with the perplexities of unseen "
            "solutions where these are like theirs. Joined: labels and prediction together."
            if labelled
            else ""
        )
    )


def show_downloads(verdict: Verdict) -> None:
    """The verdict as files."""
    with elements.controls():
        st.download_button(
            "Report as HTML",
            lambda: html_report.verdict_report(verdict),
            f"premem-{verdict.run}.html",
            "text/html",
            on_click="ignore",
        )
        st.download_button(
            "Verdict as JSON",
            verdict.to_json,
            f"premem-{verdict.run}.json",
            "application/json",
            on_click="ignore",
        )
        if calibration := verdict.threshold.calibration:
            st.download_button(
                "Export this calibration",
                calibration.to_json(),
                "calibration.json",
                "application/json",
                on_click="ignore",
            )


found = pick_verdict()
if isinstance(found, str):
    st.info(f"No verdict yet: {found}")
else:
    show_verdict(found)
    show_downloads(found)
