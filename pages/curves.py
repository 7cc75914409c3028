"""Memorization curves: what each run learned, and when it began to copy."""

import streamlit as st

from premem_core.analysis import curves, run_scores
from premem_core.dashboard import cached_reads, elements, figures, pickers
from premem_core.dashboard.jobs_panel import offer_missing
from premem_core.dashboard.wording import count, percent, perplexity, plain

st.header("Memorization curves")
headline = st.empty()
with elements.controls():
    task = pickers.pick_task()
    if task is None:
        st.stop()
    everything = cached_reads.task_runs(task)
    shown = pickers.pick_runs(everything)
    estimator = pickers.pick_estimator()
    threshold = pickers.pick_threshold(task, everything, estimator)
    unit = st.segmented_control(
        "By", ["step", "epoch"], default="step", required=True, key="by", bind="query-params"
    )

lines = cached_reads.lines(shown, threshold, estimator)
labels = run_scores.run_labels(everything)
if best := cached_reads.best_checkpoint(lines):
    curve, at = best
    headline.markdown(
        f"Checkpoint {curve.scores.steps[at]} of **{plain(labels[curve.scores.run])}** "
        f"memorized {percent(curve.memorized[at])} of its examples; expect "
        f"**{percent(curve.premem[at], curve.premem_half[at])}** on new problems."
    )
else:
    headline.markdown("At this threshold pre-memorization accuracy is known of no checkpoint.")
elements.chart(
    figures.curves_figure(
        lines, [labels[run.run] for run in shown], elements.palette(), by_epoch=unit == "epoch"
    ),
    "curves",
    curves.table(lines),
    alt="Train, masked, pre-memorization and test accuracy and memorized share per checkpoint",
)
st.caption(
    "A star marks the checkpoint with the highest pre-memorization accuracy. "
    f"Bands are 90 % intervals over questions. {count(shown[0].samples, 'sample')} per "
    f"training question, {estimator} estimator. The warm area is the share of examples whose "
    "solution has a perplexity below the threshold. "
    f"{pickers.threshold_note(task, everything, estimator)} {curves.not_known(lines)}"
)
offer_missing(lines)

st.subheader("How perplexities are spread")
with elements.controls():
    run = pickers.pick_run(shown)
elements.chart(
    figures.perplexity_figure(run, threshold, elements.palette()),
    "perplexities",
    curves.perplexities(run),
    alt="Share of the training examples by perplexity of their solution, at each checkpoint",
)
st.caption(
    "The stronger the colour, the more training examples have a solution of that perplexity; "
    "dashed: the "
    f"threshold, perplexity {perplexity(threshold)}. What lies below it is memorized."
)
