"""The score page's widgets: which checkpoints, which data, and the jobs.

What a person typed or uploaded is named by paths in the page's URL, so a reload loses nothing.
"""

import itertools
import re
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import streamlit as st

from premem_core import jobs
from premem_core.datasets import AnswerRule, Fields, detect_fields
from premem_core.errors import JobError, StoreError
from premem_core.folder_upload import folder_upload, forget_ticket, session_ticket
from premem_core.jobs import Progress
from premem_core.ui import store
from premem_core.uploads import Ticket, finish, keep_file


def pick_run_folder() -> Path | None:
    """A run's folder: uploaded from the browser, or named where it lies on this machine."""
    ticket = session_ticket(store().path)
    upload = folder_upload(ticket, key="run_upload")
    if upload and upload.state == "done":
        try:
            uploaded = store().relative(_finish_upload(ticket, upload.folder))
            st.session_state["folder"] = str(store().path / uploaded)
        except StoreError as error:
            st.error(str(error))
        else:
            forget_ticket()
            st.rerun()
    text = st.text_input(
        "or its folder on this machine",
        key="folder",
        bind="query-params",
        placeholder="runs/lr2e-5 (it holds checkpoint-<step> folders)",
    )
    return _path(text)


def _path(text: str) -> Path | None:
    if not text:
        return None
    with suppress(RuntimeError):  # "~nobody": the path is then what it says
        return Path(text).expanduser()
    return Path(text)


def _finish_upload(ticket: Ticket, name: str) -> Path:
    """The uploaded folder under its own name, made safe, or that with the first free number."""
    name = re.sub(r"[^\w.=+-]+", "-", name).strip(".-") or "run"
    home = store().path / "checkpoints"
    names = (name if n == 1 else f"{name}-{n}" for n in itertools.count(1))
    return finish(ticket, next(free for free in names if not (home / free).exists()))


def pick_data_file(label: str, key: str) -> Path | None:
    """A data file: uploaded (and kept in the store), or named where it lies on this machine."""
    uploaded = st.file_uploader(label, type=["jsonl", "csv", "parquet"], key=f"{key}_upload")
    if uploaded:
        try:
            file = keep_file(store().path, uploaded.name, uploaded.getvalue())
        except StoreError as error:
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
    return _path(text)


def pick_fields(file: Path) -> Fields:
    """Where question, solution and final answer are; as detected, until changed."""
    found = detect_fields(file)
    question = st.text_input("Field of the question", found.question)
    solution = st.text_input("Field of the solution", found.solution)
    rule = st.text_input(
        "Final answer: field:NAME, hash (#### x), boxed, or regex:PATTERN", str(found.answer)
    )
    return replace(found, question=question, solution=solution, answer=AnswerRule.parse(rule))


def likely_task(file: Path) -> str:
    """The data's folder, as on the command line; of an uploaded file its own name."""
    if file.is_relative_to(store().path):
        return file.stem
    return file.resolve().parent.name


def jobs_panel() -> None:
    """Every job and where it stands; looks again each second while one is running."""
    st.subheader("Jobs")
    running = any(p.state in ("queued", "running") for p in jobs.all_progress(store()))
    st.fragment(_jobs_list, run_every="1s" if running else None)()


def _jobs_list() -> None:
    found = jobs.all_progress(store())
    if not found:
        st.caption("No job yet.")
    for progress in found:
        _job_row(progress)


def _job_row(progress: Progress) -> None:
    with st.container(border=True, key=f"job-{progress.run}"):
        name, action = st.columns([6, 1], vertical_alignment="center")
        name.text(f"{progress.run}: {progress.state}")
        if progress.state == "running":
            action.button("Cancel", key=f"cancel-{progress.run}", on_click=_cancel, args=[progress])
        elif progress.state != "done":
            action.button("Resume", key=f"resume-{progress.run}", on_click=_resume, args=[progress])
        done, total = progress.completions_done, progress.completions_total
        st.progress(done / total if total else 0.0)
        left = progress.seconds_left
        parts = [
            f"{done:,} of {total:,} completions",
            progress.phase,
            f"{progress.completions_per_second:,.0f} per second" if left is not None else "",
            f"{timedelta(seconds=round(left))} left" if left is not None else "",
        ]
        st.caption(" · ".join(part for part in parts if part))
        if progress.message:
            st.text(progress.message)
        if progress.state in ("failed", "interrupted"):
            with st.expander("What its process printed"):
                st.code(jobs.log_tail(store(), progress.run), language=None, wrap_lines=True)


def _cancel(progress: Progress) -> None:
    with suppress(JobError):  # it ended meanwhile
        jobs.cancel(store(), progress.run)


def _resume(progress: Progress) -> None:
    with suppress(JobError):
        jobs.start(store(), progress.run)
