"""Memorization curves: what each run learned, and when it began to copy."""

import streamlit as st

from premem_core import curves, figures, ui

st.header("Memorization curves")
headline = st.empty()
with ui.controls():
    task = ui.pick_task()
    if task is None:
        st.stop()
    everything = ui.task_runs(task)
    shown = ui.pick_runs(everything)
    threshold = ui.pick_threshold(task, everything)
    unit = st.segmented_control(
        "By", ["step", "epoch"], default="step", required=True, key="by", bind="query-params"
    )

lines = [curves.curve(run, threshold) for run in shown]
best, at = ui.best_checkpoint(lines)
labels = ui.run_labels(everything)
headline.markdown(
    f"Checkpoint {best.scores.steps[at]} of **{labels[best.scores.run]}** memorized "
    f"{ui.percent(best.memorized[at])} of its examples; expect "
    f"**{ui.percent(best.premem[at], best.premem_half[at])}** on new problems."
)
ui.chart(
    figures.curves_figure(
        lines, [labels[run.run] for run in shown], ui.palette(), by_epoch=unit == "epoch"
    ),
    "curves",
    curves.table(lines),
    alt="Train, masked, pre-memorization and test accuracy and memorized share per checkpoint",
)
st.caption(
    f"Bands are 90 % intervals over questions. {ui.count(shown[0].samples, 'sample')} per "
    "training question, plain estimator. The warm area is the share of examples whose solution "
    f"has a perplexity below the threshold. {ui.threshold_note(task, everything)}"
)
