"""Memorization curves: what each run learned, and when it began to copy."""

import streamlit as st

from premem_core.analysis import curves, prediction, run_scores
from premem_core.dashboard import cached_reads, elements, figures, pickers
from premem_core.dashboard.jobs_panel import offer_missing
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import percent, perplexity, plain

st.header("Memorization curves")
headline = st.empty()
view = pick_view("several")
with view.controls:
    unit = st.segmented_control(
        "By", ["step", "epoch"], default="step", required=True, key="by", bind="query-params"
    )

lines = cached_reads.lines(view.shown, view.threshold, view.estimator)
if best := cached_reads.best_checkpoint(lines):
    curve, at = best
    step = int(curve.scores.steps[at])
    expected = cached_reads.expectation(view.task, curve.scores, view.estimator)
    headline.markdown(
        f"Checkpoint {step} of **{plain(view.labels[curve.scores.run])}** memorized "
        f"{percent(curve.memorized[at])} of its examples, and its pre-memorization accuracy is "
        f"{percent(curve.premem[at])}. "
        + (
            f"What to expect on new problems is not known: {plain(expected)}."
            if isinstance(expected, str)
            else "By the task's other runs, expect "
            f"**{prediction.expectation_in_words(expected, step)}** on new problems."
        )
    )
else:
    headline.markdown("At this threshold pre-memorization accuracy is known of no checkpoint.")
elements.chart(
    figures.curves_figure(
        lines,
        [view.labels[run.run] for run in view.shown],
        elements.palette(),
        by_epoch=unit == "epoch",
    ),
    "curves",
    curves.table(lines),
    alt="Train, masked, pre-memorization and test accuracy and memorized share per checkpoint",
)
st.caption(
    "A star marks the checkpoint with the highest pre-memorization accuracy. "
    "Bands are 90 % intervals over questions: the noise of a mean over so many, not how far a "
    f"prediction may be off. {run_scores.samples_in_words(view.shown)}, {view.estimator} "
    "estimator. The warm area is the share of examples whose solution has a perplexity below the "
    f"threshold. {view.threshold_note()} {curves.not_known(lines)}"
)
offer_missing(lines)

st.subheader("How perplexities are spread")
with elements.controls():
    names = [run.run for run in view.shown]
    name = pickers.pick_name("Run", names, "run", display=view.labels, width=330)
run = next(run for run in view.shown if run.run == name)
elements.chart(
    figures.perplexity_figure(run, view.threshold, elements.palette()),
    "perplexities",
    curves.perplexities(run),
    alt="Share of the training examples by perplexity of their solution, at each checkpoint",
)
st.caption(
    "The stronger the colour, the more training examples have a solution of that perplexity; "
    f"dashed: the threshold, perplexity {perplexity(view.threshold)}. What lies below it is "
    "memorized."
)
