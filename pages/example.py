"""One example's life: its question, what was answered at each checkpoint, what of it is copied."""

import streamlit as st

from premem_core.analysis import copied_text, example_table
from premem_core.analysis.robustness import perturbed_steps
from premem_core.dashboard import cached_reads, elements, figures, grade_form
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import percent, plain, signed
from premem_core.grading import graded_completions
from premem_core.problems.perturbations import perturbation_label
from premem_core.store.completions import samples_shards
from premem_core.store.examples import read_perturbed_examples
from premem_core.store.scores import read_counts

st.header("One example")
view = pick_view("one")
run = view.run
table = cached_reads.example_table(view.task, run, view.threshold, view.estimator)
known = set(table["id"])
ids = [each for each in st.session_state.get("neighbours", []) if each in known]
ids = ids or table["id"].tolist()
wanted = st.query_params.get("example")
if wanted is not None and wanted not in known:
    st.error(
        f"This run was not trained on an example '{plain(wanted)}'; choose another run, or example."
    )
    st.stop()
chosen = wanted or ids[0]
if chosen not in ids:
    ids = table["id"].tolist()
at = ids.index(chosen)


def go(place: int) -> None:
    """Open the example at another place of the list."""
    st.query_params["example"] = ids[place % len(ids)]


with elements.controls():
    st.button("Previous", shortcut="Left", on_click=go, args=[at - 1], disabled=len(ids) < 2)
    st.button("Next", shortcut="Right", on_click=go, args=[at + 1], disabled=len(ids) < 2)
    st.caption(f"{plain(chosen)}: {at + 1:,} of {len(ids):,}")
    if st.button("All examples", type="tertiary"):
        chosen_on_map = st.session_state.get("ids") or []
        st.switch_page("pages/examples.py", query_params={"ids": chosen_on_map})
number = int(table.index[table["id"] == chosen][0])
[row] = table.loc[[number]].to_dict("records")
life = example_table.life(run, number)
whole = not life["accuracy"].isna().any()
memorized, learned = (
    f"from step {row[name]:.0f}" if row[name] == row[name] else never
    for name, never in (("memorized", "never"), ("learned", "never" if whole else "not known"))
)
st.markdown(
    f"Pre-memorization accuracy **{percent(row['premem'])}** at the last checkpoint; answered "
    f"right: {learned}; memorized: {memorized}."
)
left, right = st.columns(2, gap="large")
with left:
    none = "The store has no text of it."
    elements.verbatim(
        ("Question", row["question"] or none), ("Its solution", row["solution"] or none)
    )
with right:
    elements.chart(
        figures.life_figure(life, view.threshold, elements.palette()),
        "life",
        life,
        alt="Accuracy and perplexity of the example at each checkpoint",
    )

asked = {"": "As it is"}
asked |= {name: perturbation_label(name) for name in cached_reads.read(perturbed_steps, run.run)}
with elements.controls():
    under = ""
    if len(asked) > 1:
        under = st.selectbox(
            "Asked", list(asked), format_func=asked.__getitem__, key="form",
            bind="query-params", width=300,
        )  # fmt: skip
    steps = []
    if cached_reads.read(samples_shards, run.run):
        steps = graded_completions.sampled_steps(
            cached_reads.read(read_counts, run.run), number, under
        )
    if steps:
        step = st.segmented_control(
            "Checkpoint", steps, default=steps[-1], required=True, key="at", bind="query-params"
        )
if not steps:
    st.info(
        "There is no completion of it here: its scores were imported without, the sampling plan "
        "needed none, or the perturbation does not apply."
    )
drawn = []
if steps:
    every = cached_reads.drawn(run.run, "train", number, under, step)
    drawn = every.to_dict("records")
if under and drawn:
    posed = cached_reads.read(read_perturbed_examples, view.task, under).set_index("example")
    question = posed["question"].get(number, row["question"])
    answer = posed["answer"].get(number, "")
    said = f"Asked so, what differs is marked{f'; its answer: {answer}' if answer else ''}"
    elements.passages([(said, copied_text.matched(question, row["question"]))], mark=False)
texts = []
for answer in drawn:
    told = copied_text.copied(answer["completion"], row["solution"])
    extracted = answer["extracted"]
    found = f"answer {extracted}" if isinstance(extracted, str) else "no answer found"
    cut = "" if answer["finished"] else ", cut off"
    title = (
        f"Completion {answer['sample'] + 1}: {graded_completions.graded(answer)}, {found}{cut}; "
        f"{100 * copied_text.copied_share(told):.0f} % copied from the solution"
    )
    texts.append((title, told))
elements.passages(texts, side_by_side=True)
if drawn:
    grade_form.grade_form(run.run, step, "train", under, number, drawn)

near = cached_reads.neighbours(view.task, number)
if len(near):
    st.subheader("Similar questions")
    elements.small_table(
        elements.table_of(
            table.reindex(near.index).assign(similarity=near),
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
    st.caption("Similarity: cosine of the questions' TF-IDF vectors.")
