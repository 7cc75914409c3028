"""Memorization curves: accuracy and memorized share of each run at every checkpoint."""

import streamlit as st

from premem_core.analysis import caveats, curves, run_scores
from premem_core.analysis.measures import read_measures
from premem_core.analysis.repeated_answers import repeated_answers
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.solutions import solution_measures, solution_table
from premem_core.analysis.verdict.threshold import source_in_words
from premem_core.dashboard import cached_reads, elements, figures, pickers
from premem_core.dashboard.jobs_panel import offer_missing
from premem_core.dashboard.view import View, has_traces, pick_view
from premem_core.dashboard.wording import nats, percent, perplexity, plain, whole
from premem_core.records import SEGMENTS, Segment
from premem_core.store.sample_imports import imported_in_words, imports_of
from premem_core.store.scores import read_lengths

SOLUTIONS = {
    "train_nll": "NLL: training",
    "test_nll": "NLL: test",
    "train_token_accuracy": "Token accuracy: training",
    "test_token_accuracy": "Token accuracy: test",
}
PARTS: dict[Segment, str] = {"target": "whole", "trace": "trace", "answer": "answer"}


def expectation(view: View, run: RunScores, step: int) -> str:
    """The test accuracy to expect of a checkpoint, or why it cannot be predicted, as a sentence."""
    verdict = cached_reads.verdict(view.task, run, view.estimator)
    if isinstance(verdict, str):
        return f"The accuracy on new problems cannot be predicted: {plain(verdict)}."
    if (expected := verdict.expectation_in_words(step)) is None:
        why = next(iter(verdict.cautions), "samples that the threshold needs are missing.")
        return f"The accuracy on new problems cannot be predicted. {plain(why)}"
    return (
        f"Expect **{expected}** on new problems, with the threshold "
        f"{source_in_words(verdict.threshold.source)}."
    )


def show_lengths(view: View, run: RunScores) -> None:
    """How long the run's completions are, how many finished, and what of traces is memorized."""
    parts = SEGMENTS if has_traces(view.task) else ()
    segments = [
        scores
        for part in parts
        for scores in cached_reads.task_runs(view.task, part)
        if scores.run == run.run
    ]
    measured = cached_reads.read(read_lengths, view.task)
    table = curves.lengths(run, measured, segments, view.threshold)
    columns: elements.Columns = {
        "step": ("Step", str),
        "finished": ("Finished", percent),
        "completion_tokens": ("Tokens", whole),
    }
    if parts:
        columns["completion_trace_tokens"] = ("of which thinking", whole)
        columns |= {f"memorized_{s}": (f"Memorized: {PARTS[s]}", percent) for s in SEGMENTS}
    if table["finished"].notna().any():
        elements.small_table(table, columns, alt="Lengths of completions at each checkpoint")
        st.caption(
            "Completions of training questions: the share that ended before the limit of tokens, "
            "and their mean length."
        )


def show_solutions(run: RunScores) -> None:
    """The NLL of training and test solutions, and how many of their tokens are predicted."""
    table = solution_table(cached_reads.read(solution_measures, run.run), run.steps)
    columns: elements.Columns = {"step": ("Step", str)}
    for name, title in SOLUTIONS.items():
        if table[name].notna().any():
            columns[name] = (title, percent if "accuracy" in name else nats)
    if columns.keys() - {"step", "train_nll"}:
        elements.small_table(table, columns, alt="Likelihood of solutions at each checkpoint")
        st.caption(
            "Solutions of training and of test problems: the mean NLL per token (held-out NLL, for "
            "test problems), and the share of tokens that the model finds most likely."
        )


def show_repeated_answers(run: RunScores) -> None:
    """pass@k and maj@k: of test questions, or of training questions where none is sampled."""
    table = cached_reads.read(repeated_answers, run.run)
    splits = [name for name in ("test", "train") if (table["split"] == name).any()]
    if not splits or table["k"].max() < 2:
        return
    of_split = table[table["split"] == splits[0]]
    largest = of_split.loc[of_split.groupby("step")["k"].idxmax()]
    k = int(largest["k"].max())
    columns: elements.Columns = {
        "step": ("Step", str),
        "accuracy": ("pass@1", percent),
        "pass_at_k": (f"pass@{k}", percent),
    }
    if largest["maj_at_k"].notna().any():
        columns |= {"maj_at_k": (f"maj@{k}", percent), "entropy": ("Answer entropy, nats", nats)}
    once = of_split[of_split["k"] == 1].set_index("step")["pass_at_k"]
    elements.small_table(
        largest.assign(accuracy=largest["step"].map(once)),
        columns,
        alt="pass@k and maj@k at each checkpoint",
    )
    half = 100 * largest["pass_half"].max()
    memorized = "" if splits[0] == "test" else " Memorized solutions are part of them."
    st.caption(
        f"Of {splits[0]} questions: how often one of {k} samples is correct, and how often their "
        f"majority is (90 % intervals: at most ± {half:.1f} points). To choose a checkpoint for "
        f"reinforcement learning, pass@k says more than accuracy does.{memorized}"
    )


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
    headline.markdown(
        f"Checkpoint {step} of **{plain(view.labels[curve.scores.run])}** has memorized "
        f"{percent(curve.memorized[c])} of its training examples, and its pre-memorization "
        f"accuracy is {percent(curve.premem[c])}. {expectation(view, curve.scores, step)}"
    )
else:
    headline.markdown(
        "At this threshold, pre-memorization accuracy is not known for any checkpoint."
    )
bases = cached_reads.base_models(view.shown)
elements.chart(
    figures.curves_figure(
        run_curves,
        [view.labels[run.run] for run in view.shown],
        elements.palette(),
        by_epoch=unit == "epoch",
        bases=bases,
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
for sentence in caveats.base_caveats(list(bases.values()), view.labels):
    st.caption(plain(sentence))
offer_missing(run_curves)

st.subheader("Each checkpoint of one run")
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
for sentence in imported_in_words(cached_reads.read(imports_of, run.run)):
    st.caption(plain(f"Note: {sentence}."))
show_lengths(view, run)
show_solutions(run)
show_repeated_answers(run)
st.download_button(
    "Every measure as CSV",
    lambda: (
        curves.table([c for c in run_curves if c.scores.run == name])
        .merge(cached_reads.read(read_measures, name), "left", on="step")
        .to_csv(index=False)
    ),
    file_name=f"premem-{name}.csv",
    mime="text/csv",
    type="tertiary",
    on_click="ignore",
)
