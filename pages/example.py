"""One example: its accuracy and perplexity by checkpoint, its completions, what they copied."""

import streamlit as st

from premem_core.analysis import copied_text, example_table, run_scores
from premem_core.analysis.perturbed.robustness import perturbed_steps
from premem_core.dashboard import cached_reads, elements, figures, grade_form
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import percent, plain, signed
from premem_core.grading import graded_completions
from premem_core.grading.grader_texts import marks_of
from premem_core.problems.perturbations import perturbation_label
from premem_core.problems.thinking import is_opened, split_thinking
from premem_core.records import BASE_STEP
from premem_core.store.completions import samples_shards
from premem_core.store.examples import read_perturbed_examples
from premem_core.store.scores import read_counts

st.header("One example")
view = pick_view("one")
run = view.run
table = cached_reads.example_table(view.task, run, view.threshold, view.estimator)
all_ids = table["id"].tolist()
existing = set(all_ids)
listed = [name for name in st.session_state.get("neighbours", []) if name in existing]
ids = listed or all_ids
requested = st.query_params.get("example")
if requested is not None and requested not in existing:
    st.error(
        f"This run was not trained on an example '{plain(requested)}'; choose another run or "
        "example."
    )
    st.stop()
chosen = requested or ids[0]
if chosen not in ids:
    ids = all_ids
place = ids.index(chosen)


def open_example(place: int) -> None:
    """Open the example at this place in the list; after the last comes the first."""
    st.query_params["example"] = ids[place % len(ids)]


with elements.controls():
    for label, key, target in (("Previous", "Left", place - 1), ("Next", "Right", place + 1)):
        st.button(label, shortcut=key, on_click=open_example, args=[target], disabled=len(ids) < 2)
    st.caption(f"{plain(chosen)}: {place + 1:,} of {len(ids):,}")
    if st.button("All examples", type="tertiary"):
        chosen_on_map = st.session_state.get("ids") or []
        st.switch_page("pages/examples.py", query_params={"ids": chosen_on_map})
number = int(table.index[table["id"] == chosen][0])
[row] = table.loc[[number]].to_dict("records")
marks = marks_of(run.grader)
history = example_table.example_history(run, number)
incomplete = history["accuracy"].isna().any()
memorized, learned = (
    f"from step {row[name]:.0f}" if row[name] == row[name] else otherwise
    for name, otherwise in (
        ("memorized", "never"),
        ("learned", "not known" if incomplete else "never"),
    )
)
premem = f"**{percent(row['premem'])}**"
if row["premem"] != row["premem"]:
    premem = "not known, because the sampling plan left out samples of this example"
st.markdown(
    f"Pre-memorization accuracy at step {run.steps[-1]}: {premem}; answered right: {learned}; "
    f"memorized: {memorized}. {run_scores.single_sample_note(run)}"
)
left, right = st.columns(2, gap="large")
with left:
    no_text = "The store does not have this text."
    solution = split_thinking(row["solution"] or no_text, marks)
    fold = elements.Fold("Thinking trace", [copied_text.Passage(solution.trace, False)])
    elements.verbatim(
        ("Question", row["question"] or no_text),
        ("Solution", solution.answer.lstrip() if solution.trace else solution.answer),
        folds=[None, fold if solution.trace else None],
    )
with right:
    elements.chart(
        figures.example_history_figure(history, view.threshold, elements.palette()),
        "life",
        history,
        alt="Accuracy and perplexity of the example at each checkpoint",
    )
    st.caption(view.threshold_note())

forms = {"": "none"}
forms |= {name: perturbation_label(name) for name in cached_reads.read(perturbed_steps, run.run)}
with elements.controls():
    perturbation = ""
    if len(forms) > 1:
        perturbation = st.selectbox(
            "Perturbation", list(forms), format_func=forms.__getitem__, key="form",
            bind="query-params", width=300,
        )  # fmt: skip
    steps = []
    if cached_reads.read(samples_shards, run.run):
        steps = graded_completions.sampled_steps(
            cached_reads.read(read_counts, run.run), number, perturbation
        )
    if steps:
        step = st.segmented_control(
            "Checkpoint", steps, default=steps[-1], required=True, key="at", bind="query-params",
            format_func=lambda step: "base model" if step == BASE_STEP else str(step),
        )  # fmt: skip
if not steps:
    st.info(
        "There is no completion to show: the scores were imported without completions, the "
        "sampling plan needed none, or the perturbation does not apply to this example."
    )
completions = []
if steps:
    rows = cached_reads.completions(run.run, "train", number, perturbation, step)
    completions = rows.to_dict("records")
if perturbation and completions:
    perturbed = cached_reads.read(read_perturbed_examples, view.task, perturbation)
    perturbed = perturbed.set_index("example")
    question = perturbed["question"].get(number, row["question"])
    answer = perturbed["answer"].get(number, "")
    title = f"Perturbed question, changes are marked{f'; its answer: {answer}' if answer else ''}"
    elements.passages([(title, copied_text.mark_matches(question, row["question"]))], mark=False)
opened = is_opened(
    [completion["completion"] for completion in completions],
    [completion["trace_tokens"] for completion in completions],
    marks,
)
texts, folds = [], []
for completion, begun in zip(completions, opened, strict=True):
    said = split_thinking(completion["completion"], marks, opened=begun)
    marked = copied_text.mark_copied(completion["completion"], row["solution"])
    extracted = completion["extracted"]
    answer = f"answer {extracted}" if isinstance(extracted, str) else "no answer found"
    cut_off = ", cut off" if completion["finished"] is False else ""  # None is unknown
    title = (
        f"Completion {completion['sample'] + 1}: {graded_completions.grade_label(completion)}, "
        f"{answer}{cut_off}; {100 * copied_text.copied_share(marked):.0f} % copied from the "
        "solution"
    )
    answer_text = said.answer.lstrip() if said.trace else said.answer
    texts.append((title, copied_text.mark_copied(answer_text, row["solution"])))
    summary = f"Thinking trace{'' if said.finished else ', unfinished'}"
    if completion["trace_tokens"]:
        summary += f": {completion['trace_tokens']:,.0f} tokens"
    trace = copied_text.mark_copied(said.trace, row["solution"])
    folds.append(elements.Fold(summary, trace) if said.trace else None)
elements.passages(texts, side_by_side=True, folds=folds)
if completions:
    grade_form.grade_form(run.run, step, "train", perturbation, number, completions)

similar = cached_reads.similar_questions(view.task, number, table.index)
if len(similar):
    st.subheader("Similar questions")
    elements.small_table(
        elements.table_of(
            table.reindex(similar.index).assign(similarity=similar),
            ["id", "question", "premem", "accuracy", "similarity"],
        ),
        {
            "id": "Example",
            "question": "Question",
            "premem": ("PM", percent),
            "accuracy": ("Accuracy", percent),
            "similarity": ("Similarity", lambda cosine: signed(cosine, 2)),
        },
        alt="The training examples with the most similar questions",
        links={"id": "example"},
    )
    st.caption("Similarity is the cosine between the TF-IDF vectors of the two questions.")
