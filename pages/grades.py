"""Grades: where two graders disagree about a run's completions, and whose grades count."""

import streamlit as st

from premem_core.analysis import run_scores
from premem_core.dashboard import cached_reads, elements, figures, grade_form, pickers
from premem_core.dashboard.view import pick_task
from premem_core.dashboard.wording import count, percent
from premem_core.errors import PrememError
from premem_core.grading import graded_completions, grader_comparison, regrade, run_graders

SHOWN = 1_000  # rows in the table; the command line writes them all
EVERY_KIND = "all"

st.header("Grades")
headline = st.empty()
home = cached_reads.store()
with elements.controls():
    task = pick_task()
    everything = cached_reads.task_runs(task)
    graded = {run.run for run in everything}
    runs = [run for run in cached_reads.read(run_graders.regradable_runs) if run in graded]
    if not runs:
        st.info(
            "The runs of this task came without completions, so there is nothing to grade. Choose "
            "a task that was scored here, or score a run on the Score page."
        )
        st.stop()
    labels = run_scores.run_labels(everything)
    longest = max(everything, key=lambda scores: len(scores.steps) * (scores.run in runs))
    run = pickers.pick_name("Run", runs, "run", default=longest.run, display=labels, width=330)
    graders = cached_reads.read(run_graders.read_graders, run)
    one = st.selectbox("Grader", graders.names, key="grader", bind="query-params", width=150)
    others = [name for name in graders.names if name != one]
    usual = others.index("math") if "math" in others else 0
    other = st.selectbox(
        "Against", others, index=usual, key="against", bind="query-params", width=150
    )


def grade(name: str) -> None:
    """Grade by `name` what it has not graded, and show how far that is."""
    bar = st.progress(0.0, f"Starting {name}…")

    def show(done: int, total: int) -> None:
        bar.progress(done / max(1, total), f"{done:,} of {count(total, 'completion')} graded")

    regrade.grade_in_process(home, run, name, show)


try:
    for name in (one, other):
        missing = run_graders.ungraded(home, graders, name)
        if missing:
            headline.markdown(
                f"**{name}** has not graded {count(missing, 'completion')} of this run yet."
            )
            st.caption("This samples nothing and leaves the run's accuracies as they are.")
            if st.button(f"Grade them with {name}", type="primary"):
                grade(name)
                st.rerun()
            grade_form.hand_grades(run)
            st.stop()
    compared = cached_reads.read(grader_comparison.compare_graders, run, one, other)
except PrememError as error:
    st.error(str(error))
    st.stop()

if compared.disagreements:
    headline.markdown(
        f"**{one}** and **{other}** disagree on **{compared.disagreements:,}** of "
        f"{count(compared.completions, 'completion')} ({percent(compared.share)}); "
        f"{compared.about_correctness:,} of these change what counts as correct."
    )
else:
    headline.markdown(
        f"**{one}** and **{other}** agree on all {count(compared.completions, 'completion')}."
    )
left, right = st.columns(2, gap="large")
with left:
    elements.chart(
        figures.grades_figure(compared.cross, one, other, elements.palette()),
        "grades",
        compared.counts,
        alt=f"Completions by the grade of {one} (rows) and of {other} (columns)",
    )
with right:
    st.subheader("Whose grades count")
    st.markdown(f"This run's accuracies, on every page, are those of **{graders.in_force}**.")
    for name in (one, other):
        if name != graders.in_force and st.button(f"Grade this run by {name}"):
            try:
                regrade.use(home, run, name)
            except PrememError as error:
                st.error(str(error))
            else:
                st.rerun()
    st.caption(
        "Another grader changes the run's accuracies, never its completions or perplexities. All "
        "grades are kept: choosing the former grader again undoes it."
    )

grade_form.hand_grades(run)
if not compared.disagreements:
    st.stop()
st.subheader("Where they disagree")
kinds = {EVERY_KIND: None, **compared.kinds}
kind = st.segmented_control(
    f"What {one} says, and what {other} says",
    list(kinds),
    default=EVERY_KIND,
    required=True,
    key="kind",
    bind="query-params",
)
rows = cached_reads.read(grader_comparison.disagreements, run, one, other, kinds[kind], SHOWN)
wanted = st.query_params.get("completion")
names = rows.index.tolist()
first = names.index(wanted) if wanted in names else 0
text = st.column_config.TextColumn
columns = [
    *("step", "split", "perturbation", "id", "question", "completion", "answer"),
    *("extracted_one", "grade_one", "extracted_other", "grade_other"),
]
event = st.dataframe(
    elements.table_of(rows, columns),
    hide_index=True,
    height="auto",
    column_config={
        "step": st.column_config.NumberColumn("Step", format="%d"),
        "split": text("Split"),
        "perturbation": text("Perturbation") if rows["perturbation"].any() else None,
        "id": text("Problem"),
        "question": text("Question", width="medium"),
        "completion": text("Completion", width="medium"),
        "answer": text("Answer"),
        "extracted_one": text(f"{one} finds", width="small"),
        "grade_one": text(one),
        "extracted_other": text(f"{other} finds", width="small"),
        "grade_other": text(other),
    },
    on_select="rerun",
    selection_mode="single-row",
    selection_default={"selection": {"rows": [first]}},
    key=f"rows-{run}-{one}-{other}-{kind}",
)
if len(rows) == SHOWN:
    st.caption(
        f"The first {SHOWN:,}; `python -m premem_core disagreements --out FILE.csv` writes all."
    )
chosen = next(iter(event.selection.rows), first)
row = rows.iloc[chosen].fillna("(no answer found)")
if chosen != first:
    st.query_params["completion"] = names[chosen]
step, sample, example = (int(row[column]) for column in ("step", "sample", "example"))
drawn = cached_reads.drawn(run, row["split"], example, row["perturbation"], step)
[answer] = drawn[drawn["sample"] == sample].to_dict("records")
left, right = st.columns(2, gap="large")
with left:
    elements.verbatim(
        ("Question", row["question"]),
        ("Reference: its solution", row["solution"]),
        ("Reference: its answer", row["answer"]),
    )
with right:
    counts = f"{graded_completions.graded(answer)} counts"
    elements.verbatim(
        (f"Completion {sample + 1} of checkpoint {step}: {counts}", row["completion"])
    )
    grade_form.grade_form(run, step, row["split"], row["perturbation"], example, [answer])
    elements.verbatim(
        *(
            (
                f"{name} says {row[f'grade_{column}'].lower()}; the answer that it found",
                row[f"extracted_{column}"],
            )
            for name, column in ((one, "one"), (other, "other"))
        )
    )
