"""Data file picker: a data file is uploaded into the store, or its path is typed in."""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from premem_core.dashboard.cached_reads import store
from premem_core.dashboard.streamlit_workarounds import set_control
from premem_core.dashboard.upload.tickets import keep_file
from premem_core.dashboard.wording import error_in_words
from premem_core.errors import PrememError
from premem_core.problems.rows import ENDINGS


def pick_data_file(label: str, key: str) -> Path | None:
    """The path of the chosen file, which the page's address holds; None if there is none yet."""
    uploaded = st.file_uploader(label, type=ENDINGS, key=f"{key}_upload")
    if uploaded:
        try:
            file = keep_file(store().path, uploaded.name, uploaded.getvalue())
        except PrememError as error:
            st.error(error_in_words(error))
        else:
            set_control(key, str(file))
    text = st.text_input(
        f"{label}: path on this machine",
        key=key,
        bind="query-params",
        placeholder=f"or the path of a file: {key}.jsonl",
        label_visibility="collapsed",
    )
    return expanded(text)


def expanded(text: str) -> Path | None:
    """The path that a person typed, "~" expanded; None if they typed none."""
    if not text:
        return None
    with suppress(RuntimeError):  # no such user: the "~" stays in the path
        return Path(text).expanduser()
    return Path(text)
