"""The score page's form: which checkpoints, which data, how much of it.

What a person typed or uploaded is named by paths in the page's URL, so a reload loses nothing.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.dashboard.cached_reads import store, task_threshold
from premem_core.dashboard.data_file_picker import expanded, pick_data_file
from premem_core.dashboard.pickers import PAPER_GSM8K
from premem_core.dashboard.upload.tickets import Ticket, finish
from premem_core.dashboard.upload.widget import folder_upload, forget_ticket, session_ticket
from premem_core.dashboard.wording import perplexity
from premem_core.errors import PrememError, StoreError
from premem_core.metrics.sampling_plan import PLANS, Plan
from premem_core.problems.fields import AnswerRule, Fields, detect_fields
from premem_core.problems.perturbations import check_perturbation
from premem_core.problems.user_perturbations import from_template, read_perturbed
from premem_core.records import Example, Run
from premem_core.scoring import estimate
from premem_core.scoring.spec import ScoringSpec

PLAN_NAMES = {"full": "All", "lazy": "As far as needed", "final": "Last checkpoint only"}


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
    return expanded(text)


def _finish_upload(ticket: Ticket, name: str) -> Path:
    """The uploaded folder under its own name, made safe, or that with the first free number."""
    name = re.sub(r"[^\w.=+-]+", "-", name).strip(".-") or "run"
    home = store().path / "checkpoints"
    names = (name if n == 1 else f"{name}-{n}" for n in itertools.count(1))
    return finish(ticket, next(free for free in names if not (home / free).exists()))


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


def pick_plan(task: str, left: DeltaGenerator, right: DeltaGenerator) -> tuple[Plan, float | None]:
    """Which samples are drawn, and, where the plan needs one, its threshold."""
    plan: Plan = left.segmented_control(
        "Samples are drawn",
        PLANS,
        default="full",
        required=True,
        format_func=PLAN_NAMES.__getitem__,
        help="As far as needed: what pre-memorization accuracy needs at one threshold, exactly; "
        "the rest is not known afterwards (it can be drawn later). Last checkpoint only: enough "
        "for curating data.",
    )
    if plan == "full":
        return plan, None
    best = task_threshold(task)
    threshold = right.number_input(
        "Memorized below t = log log PPL",
        value=round(best, 3) if best is not None else PAPER_GSM8K,
        step=0.05,
        format="%.3f",
        help="The optimum over this task's runs that have test accuracies."
        if best is not None
        else "The paper's threshold for GSM8K: no run of this task has test accuracies yet.",
    )
    right.caption(f"perplexity {perplexity(threshold)}")
    return plan, threshold


def pick_own_queries(examples: Sequence[Example]) -> dict[str, Sequence[Example]]:
    """The training problems under perturbations of the user's own, by their names.

    Raises:
        UsageError: the text has no place for the question, or a name cannot be one.
        DataError: the file cannot be read, or is not of these problems.
    """
    own: dict[str, Sequence[Example]] = {}
    left, right = st.columns(2, gap="large")
    with left:
        text = st.text_area(
            "A text around the question", placeholder="Please solve this: {question}", height=96
        )
        name = st.text_input("Its name in charts", "own-text")
    with right:
        file = pick_data_file("A file: question, and the id of the problem it is of", "perturbed")
    if text.strip():
        own[name] = from_template(text, examples)
    if file:
        name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "own-file"
        own[name] = read_perturbed(file, examples)
    for name in own:
        check_perturbation(name, own)
    return own


def may_be_saved(spec: ScoringSpec, pairs: int) -> str:
    """In words, what a plan may leave out of the samples of so many (checkpoint, example) pairs."""
    if spec.plan == "full":
        return ""
    return (
        f" Up to {pairs * spec.sampling.samples:,} of the completions may prove not needed; the "
        "perplexities, measured first, will tell."
    )


def show_estimate(
    spec: ScoringSpec, run: Run, train: Sequence[Example], test: Sequence[Example]
) -> None:
    """A button that scores a few problems and says what the whole job would take."""
    if not st.button("Estimate time and disk", help="Scores a few problems; keeps nothing."):
        return
    try:
        with st.spinner("Scoring a few problems at the last checkpoint…"):
            found = estimate.estimate_apart(store().path, spec, run, train, test)
    except PrememError as error:
        st.error(str(error))
        return
    st.info(
        f"At most {timedelta(seconds=round(found.seconds))}, "
        f"{found.bytes_on_disk / 2**20:,.0f} MiB of disk ({found.bytes_free / 2**30:,.0f} GiB "
        f"free): {found.load_seconds:.0f} s to load a checkpoint, then "
        f"{found.completions_per_second:,.0f} completions per second."
    )
