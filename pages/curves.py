"""Memorization curves: accuracy and memorized share of each run at every checkpoint."""

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

run_curves = cached_reads.run_curves(view.shown, view.threshold, view.estimator)
if best := cached_reads.best_checkpoint(run_curves):
    curve, c = best
    step = int(curve.scores.steps[c])
    expected = cached_reads.expectation(view.task, curve.scores, view.estimator)
    headline.markdown(
        f"Checkpoint {step} of **{plain(view.labels[curve.scores.run])}** has memorized "
        f"{percent(curve.memorized[c])} of its training examples, and its pre-memorization "
        f"accuracy is {percent(curve.premem[c])}. "
        + (
            f"The accuracy on new problems cannot be predicted: {plain(expected)}."
            if isinstance(expected, str)
            else "Judging by the task's other runs, expect "
            f"**{prediction.expectation_in_words(expected, step)}** on new problems."
        )
    )
else:
    headline.markdown(
        "At this threshold, pre-memorization accuracy is not known for any checkpoint."
    )
elements.chart(
    figures.curves_figure(
        run_curves,
        [view.labels[run.run] for run in view.shown],
        elements.palette(),
        by_epoch=unit == "epoch",
    ),
    "curves",
    curves.table(run_curves),
    alt="Train, masked, pre-memorization and test accuracy and memorized share by checkpoint",
)
st.caption(
    "A star marks the checkpoint with the highest pre-memorization accuracy. Bands are 90 % "
    "intervals over questions: they show sampling noise, not the error of a prediction. "
    f"{run_scores.samples_in_words(view.shown)}, {view.estimator} estimator. The orange area is "
    "the memorized share: training examples whose solution has a perplexity below the threshold. "
    f"Masked accuracy counts these as wrong. {view.threshold_note()} "
    f"{curves.missing_in_words(run_curves)}"
)
offer_missing(run_curves)

st.subheader("Distribution of perplexities")
with elements.controls():
    names = [run.run for run in view.shown]
    name = pickers.pick_name("Run", names, "run", display=view.labels, width=330)
run = next(run for run in view.shown if run.run == name)
elements.chart(
    figures.perplexity_figure(run, view.threshold, elements.palette()),
    "perplexities",
    curves.perplexities(run),
    alt="Share of the training examples by the perplexity of their solution, at each checkpoint",
)
st.caption(
    "The stronger the colour, the more training examples have a solution with that perplexity. "
    f"The dashed line is the threshold, perplexity {perplexity(view.threshold)}; examples below it "
    "are memorized."
)
