"""A completion's grade on a page: what counts, and the form that sets it by hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.dashboard import cached_reads
from premem_core.dashboard.wording import plain
from premem_core.errors import PrememError
from premem_core.grading.graded_completions import in_words
from premem_core.grading.hand_grades import GRADES, set_grade, undo_grade
from premem_core.records import SampleKey
from premem_core.store.grades import read_overrides

LONGEST_REASON = 500  # characters
Answer = Mapping[Any, Any]  # a row of `completions.completions`


def grade_form(
    run: str, step: int, split: str, perturbation: str, example: int, answers: Sequence[Answer]
) -> None:
    """Set the grade of one of an example's completions by hand, or undo that.

    Args:
        answers: rows of `completions.completions`, of that checkpoint.
    """
    name = "-".join(map(str, (run, step, split, perturbation, example)))
    with st.popover("Wrong grade?"):
        chosen = answers[0]
        if len(answers) > 1:
            numbers = [answer["sample"] + 1 for answer in answers]
            number = st.selectbox("Completion", numbers, key=f"which-{name}")
            chosen = answers[numbers.index(number)]
        if isinstance(chosen["reason"], str):
            st.markdown(told(chosen))
            if st.button("Undo", key=f"undo-{name}"):
                _done(st.empty(), undo_grade, run, int(chosen["override"]))
            return
        with st.form(f"grade-{name}-{chosen['sample']}", border=False):
            grade = st.radio(
                f"It is graded {chosen['grade']}. Count it as",
                [each for each in GRADES if in_words(each) != chosen["grade"]],
                format_func=in_words,
            )
            reason = st.text_input(
                "Because", placeholder="why the grader is wrong", max_chars=LONGEST_REASON
            )
            refusal = st.empty()
            st.caption(
                "It counts so on every page, whoever grades the run. Your user name, the time and "
                "the reason are kept with it; it can be undone here and on the Grades page."
            )
            if st.form_submit_button("Set the grade", type="primary"):
                key = SampleKey(step, split, perturbation, example, int(chosen["sample"]))
                _done(refusal, set_grade, run, key, grade, reason)


def told(answer: Answer) -> str:
    """Who set a grade by hand, when and why, and what it replaced, as Markdown."""
    return (
        f"Set by hand by {plain(answer['who'])}, {answer['made']:%Y-%m-%d %H:%M}: "
        f"“{plain(answer['reason'])}”. {plain(answer['grader'])} says "
        f"{in_words(answer['replaced'])}."
    )


def hand_grades(run: str) -> None:
    """The grades of a run that were set by hand, each with its undoing; nothing where none was."""
    rows = cached_reads.read(read_overrides, run)
    if rows.empty:
        return
    st.subheader("Set by hand")
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    event = st.dataframe(
        rows.assign(
            completion=rows["sample"] + 1,
            **{column: rows[column].map(in_words) for column in ("replaced", "grade")},
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
            "id": text("Problem"),
            "completion": number("Completion", format="%d"),
            "replaced": text("Was"),
            "grader": text("By"),
            "grade": text("Counts as"),
            "reason": text("Because", width="medium"),
            "who": text("Set by"),
            "made": st.column_config.DatetimeColumn("At"),
            "undone": st.column_config.DatetimeColumn("Undone"),
        },
        on_select="rerun",
        selection_mode="single-row",
        key=f"by-hand-{run}",
    )
    chosen = rows.iloc[event.selection.rows[:1]]
    if not chosen["undone"].isna().any():
        st.caption("Select one that is not undone to undo it.")
    elif st.button("Undo the selected one"):
        _done(st.empty(), undo_grade, run, int(chosen["override"].iloc[0]))


def _done(refusal: DeltaGenerator, action: Callable[..., None], *arguments: Any) -> None:
    try:
        action(cached_reads.store(), *arguments)
    except PrememError as error:
        refusal.error(str(error))
    else:
        st.rerun()
