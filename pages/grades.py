"""Grades: where two graders disagree about a run's completions, and which grades count."""

import streamlit as st

from premem_core.analysis import run_scores
from premem_core.dashboard import cached_reads, elements, figures, grade_form, pickers
from premem_core.dashboard.view import pick_task
from premem_core.dashboard.wording import count, error_in_words, percent, plain
from premem_core.errors import PrememError
from premem_core.grading import graded_completions, grader_comparison, regrade, run_graders
from premem_core.grading.grader_texts import grader_label
from premem_core.grading.hand_agreement import hand_agreement

SHOWN = 1_000  # rows in the table; the command line writes them all
EVERY_KIND = "all"

st.header("Grades")
headline = st.empty()
home = cached_reads.store()
with elements.controls():
    task = pick_task()
    task_runs = cached_reads.task_runs(task)
    names = {scores.run for scores in task_runs}
    runs = [run for run in cached_reads.read(run_graders.regradable_runs) if run in names]
    if not runs:
        st.info(
            "The runs of this task were imported without completions, so there is nothing to "
            "grade. Choose a task that was scored here, or score a run on the Score page."
        )
        st.stop()
    labels = run_scores.run_labels(task_runs)
    longest = max(task_runs, key=lambda scores: len(scores.steps) * (scores.run in runs))
    run = pickers.pick_name("Run", runs, "run", default=longest.run, display=labels, width=330)
    graders = cached_reads.read(run_graders.read_graders, run)
    grader_a = st.selectbox(
        "Grader",
        graders.names,
        key="grader",
        bind="query-params",
        width=150,
        format_func=grader_label,
    )
    others = [name for name in graders.names if name != grader_a]
    default = others.index("math") if "math" in others else 0
    grader_b = st.selectbox(
        "Compared with",
        others,
        index=default,
        key="against",
        bind="query-params",
        width=150,
        format_func=grader_label,
    )
    label_a, label_b = grader_label(grader_a), grader_label(grader_b)


def grade(name: str) -> None:
    """Grade the completions that this grader has not graded yet, and show the progress."""
    bar = st.progress(0.0, f"Starting {plain(grader_label(name))}…")

    def show(done: int, total: int) -> None:
        bar.progress(done / max(1, total), f"{done:,} of {count(total, 'completion')} graded")

    regrade.grade_in_process(home, run, name, show)


try:
    for name in (grader_a, grader_b):
        missing, label = run_graders.ungraded(home, graders, name), plain(grader_label(name))
        if missing:
            headline.markdown(
                f"**{label}** has not graded {count(missing, 'completion')} of this run yet."
            )
            st.caption("Grading draws no samples and does not change the run's accuracies.")
            if st.button(f"Grade them with {label}", type="primary"):
                grade(name)
                st.rerun()
            grade_form.hand_grades(run)
            st.stop()
    compared = cached_reads.read(grader_comparison.compare_graders, run, grader_a, grader_b)
except PrememError as error:
    st.error(error_in_words(error))
    st.stop()

if compared.disagreements:
    headline.markdown(
        f"**{plain(label_a)}** and **{plain(label_b)}** disagree on "
        f"**{compared.disagreements:,}** of {count(compared.completions, 'completion')} "
        f"({percent(compared.share)}); in "
        f"{compared.about_correctness:,} of these, only one grader says correct."
    )
else:
    headline.markdown(
        f"**{plain(label_a)}** and **{plain(label_b)}** agree on all "
        f"{count(compared.completions, 'completion')}."
    )
left, right = st.columns(2, gap="large")
with left:
    elements.chart(
        figures.grades_figure(compared.cross, label_a, label_b, elements.palette()),
        "grades",
        compared.counts,
        alt=f"Completions by the grade of {label_a} (rows) and of {label_b} (columns)",
    )
with right:
    st.subheader("Which grades count")
    st.markdown(
        f"On every page, this run's accuracies are those of "
        f"**{plain(grader_label(graders.in_force))}**."
    )
    for name in (grader_a, grader_b):
        if name != graders.in_force and st.button(f"Use the grades of {plain(grader_label(name))}"):
            try:
                regrade.use_grader(home, run, name)
            except PrememError as error:
                st.error(error_in_words(error))
            else:
                st.rerun()
    for name, label in ((grader_a, label_a), (grader_b, label_b)):
        agreement = cached_reads.read(hand_agreement, run, name)
        if agreement.n:
            st.markdown(
                f"**{plain(label)}** agrees with {agreement.agree:,} of "
                f"{count(agreement.n, 'grade')} set by hand (Cohen's κ {agreement.kappa:.2f})."
            )
    st.caption(
        "Another grader changes the run's accuracies, never its completions or perplexities. All "
        "grades are kept, so you can return to the former grader."
    )

grade_form.hand_grades(run)
if not compared.disagreements:
    st.stop()
st.subheader("Where they disagree")
kinds = {EVERY_KIND: None, **compared.kinds}
kind = st.segmented_control(
    f"Grade by {plain(label_a)}, grade by {plain(label_b)}",
    list(kinds),
    default=EVERY_KIND,
    required=True,
    key="kind",
    bind="query-params",
)
rows = cached_reads.read(
    grader_comparison.disagreements, run, grader_a, grader_b, kinds[kind], SHOWN
)
requested = st.query_params.get("completion")
completion_names = rows.index.tolist()
first = completion_names.index(requested) if requested in completion_names else 0
text = st.column_config.TextColumn
columns = [
    *("step", "split", "perturbation", "id", "question", "completion", "answer"),
    *("extracted_one", "grade_one", "extracted_other", "grade_other"),
]
event = st.dataframe(
    elements.table_of(
        rows.assign(**{name: rows[name].str.lower() for name in ("grade_one", "grade_other")}),
        columns,
    ),
    hide_index=True,
    height="auto",
    column_config={
        "step": st.column_config.NumberColumn("Step", format="%d"),
        "split": text("Split"),
        "perturbation": text("Perturbation") if rows["perturbation"].any() else None,
        "id": text("Example"),
        "question": text("Question", width="medium"),
        "completion": text("Completion", width="medium"),
        "answer": text("Reference"),
        "extracted_one": text(f"{label_a} found", width="small"),
        "grade_one": text(f"{label_a} grade"),
        "extracted_other": text(f"{label_b} found", width="small"),
        "grade_other": text(f"{label_b} grade"),
    },
    on_select="rerun",
    selection_mode="single-row",
    selection_default={"selection": {"rows": [first]}},
    key=f"rows-{run}-{grader_a}-{grader_b}-{kind}",
)
if len(rows) == SHOWN:
    st.caption(
        f"The first {SHOWN:,}. `python -m premem_core disagreements --out FILE.csv` writes all."
    )
chosen = next(iter(event.selection.rows), first)
row = rows.iloc[chosen].fillna("(no answer found)")
if chosen != first:
    st.query_params["completion"] = completion_names[chosen]
step, sample, example = (int(row[column]) for column in ("step", "sample", "example"))
completions = cached_reads.completions(run, row["split"], example, row["perturbation"], step)
[completion] = completions[completions["sample"] == sample].to_dict("records")
left, right = st.columns(2, gap="large")
with left:
    elements.verbatim(
        ("Question", row["question"]),
        ("Reference solution", row["solution"]),
        ("Reference answer", row["answer"]),
    )
with right:
    grade_that_counts = graded_completions.grade_label(completion)
    title = f"Completion {sample + 1} of checkpoint {step}: counts as {grade_that_counts}"
    elements.verbatim((title, row["completion"]))
    grade_form.grade_form(run, step, row["split"], row["perturbation"], example, [completion])
    elements.verbatim(
        *(
            (
                f"Graded {row[f'grade_{column}'].lower()} by {name}; the answer that it found",
                row[f"extracted_{column}"],
            )
            for name, column in ((label_a, "one"), (label_b, "other"))
        )
    )
