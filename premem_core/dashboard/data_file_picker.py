"""A data file that a person gives: uploaded, and kept in the store, or named where it lies."""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from premem_core.dashboard.cached_reads import store
from premem_core.dashboard.upload.tickets import keep_file
from premem_core.errors import PrememError


def pick_data_file(label: str, key: str) -> Path | None:
    """The file; None: none is given yet. The page's URL keeps where it lies."""
    uploaded = st.file_uploader(label, type=["jsonl", "csv", "parquet"], key=f"{key}_upload")
    if uploaded:
        try:
            file = keep_file(store().path, uploaded.name, uploaded.getvalue())
        except PrememError as error:
            st.error(str(error))
        else:
            # At every run: a browser that has not yet seen the path sends its old, empty one back.
            st.session_state[key] = str(file)
    text = st.text_input(
        f"{label}: path on this machine",
        key=key,
        bind="query-params",
        placeholder=f"or the path of a file: {key}.jsonl",
        label_visibility="collapsed",
    )
    return expanded(text)


def expanded(text: str) -> Path | None:
    """A path that a person typed; None: they did not."""
    if not text:
        return None
    with suppress(RuntimeError):  # "~nobody": the path is then what it says
        return Path(text).expanduser()
    return Path(text)
