"""Memorization curves: what each run learned, and when it began to copy."""

import streamlit as st

from premem_core import curves, figures, ui
from premem_core.jobs_panel import offer_missing

st.header("Memorization curves")
headline = st.empty()
with ui.controls():
    task = ui.pick_task()
    if task is None:
        st.stop()
    everything = ui.task_runs(task)
    shown = ui.pick_runs(everything)
    estimator = ui.pick_estimator()
    threshold = ui.pick_threshold(task, everything, estimator)
    unit = st.segmented_control(
        "By", ["step", "epoch"], default="step", required=True, key="by", bind="query-params"
    )

lines = ui.lines(shown, threshold, estimator)
labels = curves.labels(everything)
if best := ui.best_checkpoint(lines):
    curve, at = best
    headline.markdown(
        f"Checkpoint {curve.scores.steps[at]} of **{ui.plain(labels[curve.scores.run])}** "
        f"memorized {ui.percent(curve.memorized[at])} of its examples; expect "
        f"**{ui.percent(curve.premem[at], curve.premem_half[at])}** on new problems."
    )
else:
    headline.markdown("At this threshold pre-memorization accuracy is known of no checkpoint.")
ui.chart(
    figures.curves_figure(
        lines, [labels[run.run] for run in shown], ui.palette(), by_epoch=unit == "epoch"
    ),
    "curves",
    curves.table(lines),
    alt="Train, masked, pre-memorization and test accuracy and memorized share per checkpoint",
)
st.caption(
    "A star marks the checkpoint with the highest pre-memorization accuracy. "
    f"Bands are 90 % intervals over questions. {ui.count(shown[0].samples, 'sample')} per "
    f"training question, {estimator} estimator. The warm area is the share of examples whose "
    "solution has a perplexity below the threshold. "
    f"{ui.threshold_note(task, everything, estimator)} {curves.not_known(lines)}"
)
offer_missing(lines)

st.subheader("How perplexities are spread")
with ui.controls():
    run = ui.pick_run(shown)
ui.chart(
    figures.perplexity_figure(run, threshold, ui.palette()),
    "perplexities",
    curves.perplexities(run),
    alt="Share of the training examples by perplexity of their solution, at each checkpoint",
)
st.caption(
    "The stronger the colour, the more training examples have a solution of that perplexity; "
    "dashed: the "
    f"threshold, perplexity {ui.perplexity(threshold)}. What lies below it is memorized."
)
