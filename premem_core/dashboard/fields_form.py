"""The fields form: which columns hold question, solution and final answer."""

import streamlit as st

from premem_core.dashboard.elements import kept
from premem_core.errors import DataError
from premem_core.problems.conversations import Turns
from premem_core.problems.data_files import Source
from premem_core.problems.fields import FieldNames, Fields, column_names, detect_fields


def pick_fields(source: Source) -> Fields:
    """Where question, solution and final answer are; as detected, until changed.

    Raises:
        DataError: the data cannot be read, or a field is neither detected nor chosen.
        UsageError: the rule for the answer is none.
    """
    columns = column_names(source)
    found, reason = None, ""
    try:
        found = detect_fields(source)
    except DataError as error:
        reason = str(error)
    question = _pick_column(source, "Question", columns, found.question if found else None)
    in_turns = found is not None and found.solution is None
    solution = None
    if not in_turns or question != (found and found.question):
        solution = _pick_column(source, "Solution", columns, found.solution if found else None)
    rule = st.text_input(
        "Final answer: field:NAME, hash (#### x), boxed, stated, regex:PATTERN or solution",
        str(found.answer) if found else "",
        placeholder="field:answer" if found is None else None,
        **kept(f"answer-{source}"),
    )
    turns: Turns = "last"
    if in_turns:
        every = st.checkbox(
            "Score every turn of the assistant, not only the last", **kept(f"turns-{source}")
        )
        turns = "all" if every else "last"
    if found is None and not (question and solution and rule):
        raise DataError(f"{reason} Here: choose them under “How the fields are read”.")
    return detect_fields(source, FieldNames(question, solution, rule or None, turns))


def _pick_column(source: Source, label: str, columns: list[str], found: str | None) -> str | None:
    chosen: str | None = st.selectbox(
        label,
        columns,
        index=columns.index(found) if found in columns else None,
        placeholder="Choose a field",
        accept_new_options=True,
        help="A field within another is written as extra_info.answer.",
        **kept(f"{label}-{source}"),
    )
    return chosen
