"""Compare: the accuracy of two checkpoints on the same questions, and the flipped questions."""

import streamlit as st

from premem_core.analysis import checkpoint_comparison, copied_text, run_scores
from premem_core.dashboard import cached_reads, elements, figures, pickers, wording
from premem_core.dashboard.view import pick_task
from premem_core.dashboard.wording import count, plain
from premem_core.grading import graded_completions
from premem_core.store.examples import read_task_examples

SAME = "the same run"
ALL = "all"
SHOWN = 1_000  # questions in the table; the CSV file has them all
TEXTS = ["question", "solution", "answer"]
QUESTION = {"train": "training question", "test": "test question"}

st.header("Compare")
headline = st.empty()
with elements.controls():
    task = pick_task()
    split = st.segmented_control(
        "Questions", list(QUESTION), default="train", required=True, key="split",
        bind="query-params",
    )  # fmt: skip
runs = {run.run: run for run in cached_reads.task_runs(task)}
labels = run_scores.run_labels(list(runs.values()))
comparable = [name for name, run in runs.items() if len(run.steps) > 1] or list(runs)
last_run = st.session_state.get("kept_run")  # the run that another page showed
default_run = last_run if last_run in runs else comparable[0]
with elements.controls():

    def pick_checkpoint(side: str, run: str, last: bool) -> int:
        """The step of one of the run's checkpoints; by default the first or the last."""
        steps = [str(step) for step in runs[run].steps]
        default = steps[-1] if last else steps[0]
        label = f"Checkpoint {side.upper()}"
        return int(pickers.pick_name(label, steps, f"step_{side}", default=default, width=140))

    run_a = pickers.pick_name(
        "Run A", list(runs), "run_a", default=default_run, display=labels, width=300
    )
    step_a = pick_checkpoint("a", run_a, last=False)
    choice_b = pickers.pick_name("Run B", [SAME, *runs], "run_b", display=labels, width=300)
    run_b = run_a if choice_b == SAME else choice_b
    step_b = pick_checkpoint("b", run_b, last=True)
pickers.show_missing(st.empty())

if (run_a, step_a) == (run_b, step_b):
    st.info("A and B are the same checkpoint; choose another checkpoint or run above.")
    st.stop()
name_a, name_b = (
    f"step {step}" if run_a == run_b else f"step {step} of {labels[run]}"
    for run, step in ((run_a, step_a), (run_b, step_b))
)
side_a, side_b = f"A, {name_a}", f"B, {name_b}"
accuracy_a = cached_reads.read(checkpoint_comparison.question_accuracy, run_a, step_a, split)
accuracy_b = cached_reads.read(checkpoint_comparison.question_accuracy, run_b, step_b, split)
for name, accuracy in ((name_a, accuracy_a), (name_b, accuracy_b)):
    if accuracy.empty:
        st.info(
            f"No {QUESTION[split]} is scored at {plain(name)}. Choose the other questions above, "
            "or give a test file on the Score page."
        )
        st.stop()
common = checkpoint_comparison.by_question(accuracy_a, accuracy_b)
rows = common.dropna(subset=["change"])
if common.empty:
    st.info(f"A and B have no {QUESTION[split]} in common: choose runs of the same data.")
    st.stop()
if rows.empty:
    st.info(
        "The sampling plan left out samples of every question that A and B have in common. Score "
        "the run again with `--extend --plan full` to compare its checkpoints."
    )
    st.stop()

accuracies = rows["accuracy_a"].to_numpy(), rows["accuracy_b"].to_numpy()
compared = checkpoint_comparison.compare_checkpoints(*accuracies)
n_questions = count(len(rows), QUESTION[split])
headline.markdown(compared.in_words(plain(name_a), plain(name_b), n_questions))
examples = cached_reads.read(read_task_examples, task, split).set_index("example")
rows = rows.join(examples["id"])
left, right = st.columns([1.55, 1], gap="large")
with left:
    elements.chart(
        figures.flips_figure(
            checkpoint_comparison.cross_table(*accuracies), side_a, side_b, elements.palette()
        ),
        "compare",
        rows.assign(run_a=run_a, step_a=step_a, run_b=run_b, step_b=step_b),
        alt=f"Number of questions by accuracy at {side_a}, and at {side_b}",
    )
with right:
    title = f"{split.capitalize()} accuracy at"
    elements.numbers(
        (f"{title} {side_a}", wording.percent(compared.accuracy_a, compared.half_a), ""),
        (f"{title} {side_b}", wording.percent(compared.accuracy_b, compared.half_b), ""),
    )
    left_out = len(common) - len(rows)
    st.caption(
        f"Over the {n_questions} that both have; ± is a 90 % interval over questions. Both tests "
        "compare question by question: the t test the accuracies, the sign test how many questions "
        "flipped each way. A question is right where more than half of its samples are correct, so "
        "a few flip by chance. The chart rounds accuracies to the nearest fifth."
    )
    if left_out:
        st.caption(
            f"{count(left_out, 'question')} left out, because the sampling plan did not need all "
            "of their samples. The others are not a random part of the questions."
        )

st.subheader("Flipped questions")
kind = st.segmented_control(
    "Change", [ALL, *checkpoint_comparison.FLIPS], default=ALL, required=True, key="way",
    bind="query-params",
)  # fmt: skip
shown = rows[rows["outcome"].isin(checkpoint_comparison.FLIPS if kind == ALL else [kind])]
if shown.empty:
    st.info("No question flipped." if kind == ALL else f"No question changed {kind}.")
    st.stop()
n_flips, shown = len(shown), shown.head(SHOWN).join(examples[TEXTS])
percent, text = st.column_config.NumberColumn, st.column_config.TextColumn
chosen = elements.pick_question(
    shown.assign(**100 * shown[["accuracy_a", "accuracy_b", "change"]]),
    {
        "id": text("Example"),
        "question": text("Question", width="large") if shown["question"].any() else None,
        "accuracy_a": percent("Accuracy A", format="%.0f %%"),
        "accuracy_b": percent("Accuracy B", format="%.0f %%"),
        "change": percent("Change, points", format="%+.0f"),
        "outcome": text("A → B"),
    },
    key=f"flips-{run_a}-{step_a}-{run_b}-{step_b}-{split}-{kind}",
)
if n_flips > SHOWN:
    st.caption(f"The first {SHOWN:,} of {n_flips:,} questions; the CSV file has them all.")
row = shown.iloc[chosen]

if row["question"]:
    left, right = st.columns(2, gap="large")
    with left:
        elements.verbatim(("Question", row["question"]))
    with right:
        elements.verbatim(
            ("Reference solution", row["solution"]), ("Reference answer", row["answer"])
        )
else:
    st.caption(
        "The store has no texts of this task's questions: their scores were imported without "
        "texts. `import-published --train FILE --test FILE` adds them."
    )

left, right = st.columns(2, gap="large")
for column, run, step, side in (
    (left, run_a, step_a, side_a),
    (right, run_b, step_b, side_b),
):
    number = int(shown.index[chosen])
    completions = cached_reads.completions(run, split, number, "", step)
    texts = [
        (
            f"{side}: completion {completion['sample'] + 1}, "
            f"{graded_completions.grade_label(completion)}",
            copied_text.mark_copied(completion["completion"], row["solution"]),
        )
        for completion in completions.to_dict("records")
    ]
    with column:
        elements.passages(texts)
        if not texts:
            st.caption(f"{plain(side)}: its scores were imported without completions.")
