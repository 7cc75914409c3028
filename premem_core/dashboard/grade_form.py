"""Grade form: sets a completion's grade by hand, and lists the grades that were set so."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.dashboard import cached_reads
from premem_core.dashboard.wording import error_in_words, plain
from premem_core.errors import PrememError
from premem_core.grading.graded_completions import grade_name
from premem_core.grading.hand_grades import GRADES, set_grade, undo_grade
from premem_core.records import SampleKey
from premem_core.store.grades import read_overrides

LONGEST_REASON = 500  # characters
Answer = Mapping[Any, Any]  # a row of `graded_completions.read_graded_completions`


def grade_form(
    run: str, step: int, split: str, perturbation: str, example: int, answers: Sequence[Answer]
) -> None:
    """Set the grade of one of an example's completions by hand, or undo that.

    Args:
        answers: rows of `graded_completions.read_graded_completions` at that checkpoint.
    """
    name = "-".join(map(str, (run, step, split, perturbation, example)))
    with st.popover("Wrong grade?"):
        chosen = answers[0]
        if len(answers) > 1:
            numbers = [answer["sample"] + 1 for answer in answers]
            number = st.selectbox("Completion", numbers, key=f"which-{name}")
            chosen = answers[numbers.index(number)]
        if isinstance(chosen["reason"], str):
            st.markdown(override_in_words(chosen))
            if st.button("Undo", key=f"undo-{name}"):
                _apply(st.empty(), undo_grade, run, int(chosen["override"]))
            return
        with st.form(f"grade-{name}-{chosen['sample']}", border=False):
            grade = st.radio(
                f"It is graded {chosen['grade']}. Count it as",
                [grade for grade in GRADES if grade_name(grade) != chosen["grade"]],
                format_func=grade_name,
            )
            reason = st.text_input(
                "Reason", placeholder="why the grader is wrong", max_chars=LONGEST_REASON
            )
            refusal = st.empty()
            st.caption(
                "This grade counts on every page, whichever grader the run uses. Your user name, "
                "the time and the reason are kept. You can undo it here or on the Grades page."
            )
            if st.form_submit_button("Set the grade", type="primary"):
                key = SampleKey(step, split, perturbation, example, int(chosen["sample"]))
                _apply(refusal, set_grade, run, key, grade, reason)


def override_in_words(answer: Answer) -> str:
    """Who set a grade by hand, when and why, and the grade that it replaced, as Markdown."""
    return (
        f"Set by hand by {plain(answer['who'])}, {answer['made']:%Y-%m-%d %H:%M}: "
        f"“{plain(answer['reason'])}”. The grader {plain(answer['grader'])} graded it "
        f"{grade_name(answer['replaced'])}."
    )


def hand_grades(run: str) -> None:
    """A table of a run's grades that were set by hand, where one can be undone."""
    rows = cached_reads.read(read_overrides, run)
    if rows.empty:
        return
    st.subheader("Grades set by hand")
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    event = st.dataframe(
        rows.assign(
            completion=rows["sample"] + 1,
            **{column: rows[column].map(grade_name) for column in ("replaced", "grade")},
        ),
        hide_index=True,
        height="auto",
        placeholder="–",
        column_order=[
            *("step", "split", "perturbation", "id", "completion", "replaced", "grader", "grade"),
            *("reason", "who", "made", "undone"),
        ],
        column_config={
            "step": number("Step", format="%d"),
            "split": text("Split"),
            "perturbation": text("Perturbation") if rows["perturbation"].any() else None,
            "id": text("Example"),
            "completion": number("Completion", format="%d"),
            "replaced": text("Grader's grade"),
            "grader": text("Grader"),
            "grade": text("Counts as"),
            "reason": text("Reason", width="medium"),
            "who": text("Set by"),
            "made": st.column_config.DatetimeColumn("Set at"),
            "undone": st.column_config.DatetimeColumn("Undone at"),
        },
        on_select="rerun",
        selection_mode="single-row",
        key=f"by-hand-{run}",
    )
    chosen = rows.iloc[event.selection.rows[:1]]
    if not chosen["undone"].isna().any():
        st.caption("Select a grade that is not undone yet to undo it.")
    elif st.button("Undo the selected grade"):
        _apply(st.empty(), undo_grade, run, int(chosen["override"].iloc[0]))


def _apply(refusal: DeltaGenerator, action: Callable[..., None], *arguments: Any) -> None:
    """Change the store and draw the page again, or show why the change is refused."""
    try:
        action(cached_reads.store(), *arguments)
    except PrememError as error:
        refusal.error(error_in_words(error))
    else:
        st.rerun()
