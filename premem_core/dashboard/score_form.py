"""The score page's form: which checkpoints, which data, what is measured of them.

Files and folders, typed or uploaded, are named by their paths in the page's address, so a reload
loses none.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.dashboard.cached_reads import plan_threshold, store
from premem_core.dashboard.data_file_picker import expanded, pick_data_file
from premem_core.dashboard.elements import kept
from premem_core.dashboard.pickers import pick_segment
from premem_core.dashboard.prompt_form import pick_template
from premem_core.dashboard.upload.tickets import Ticket, finish
from premem_core.dashboard.upload.widget import folder_upload, forget_ticket, session_ticket
from premem_core.dashboard.wording import (
    PERTURB_CONTROLS,
    SCORE_CONTROLS,
    count,
    error_in_words,
    perplexity,
    plain,
)
from premem_core.errors import PrememError, StoreError, UsageError
from premem_core.grading.grader_texts import parse_grader
from premem_core.grading.graders import GRADERS
from premem_core.grading.reference_check import (
    READABLE,
    ReferenceCheck,
    check_references,
    guess_grader,
    require_readable,
)
from premem_core.metrics import budget
from premem_core.metrics.sampling_plan import Plan
from premem_core.models import load_backend
from premem_core.models.encoding.chat_template_files import read_chat_template
from premem_core.problems.answer_rule import AnswerRule
from premem_core.problems.data_files import Source, find_data_files
from premem_core.problems.examples import Dataset
from premem_core.problems.perturbations import KINDS
from premem_core.problems.thinking import find_marks
from premem_core.records import Example, Sampling, Segment
from premem_core.scoring.preparation import estimate
from premem_core.scoring.preparation.prepare import (
    PreparedJob,
    choose_grader,
    default_task,
    grading_rule,
)
from premem_core.scoring.preparation.request import RequestedData, ScoreRequest

# What each sampling plan is for.
PLAN_NAMES: dict[Plan, str] = {
    "full": "Everything",
    "last": "Each checkpoint",
    "lazy": "Each example",
    "final": "Curation",
}


def pick_run_folder() -> Path | None:
    """A run's folder: uploaded from the browser, or named where it lies on this machine."""
    ticket = session_ticket(store().path)
    upload = folder_upload(ticket, key="run_upload")
    if upload and upload.state == "done":
        try:
            uploaded = store().relative(_finish_upload(ticket, upload.folder))
            st.session_state["folder"] = str(store().path / uploaded)
        except StoreError as error:
            st.error(error_in_words(error, SCORE_CONTROLS))
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


def pick_base_folder() -> Path | None:
    """The folder of the run's base model, where the run does not say where it is."""
    text = st.text_input(
        "Folder of the base model (optional)",
        key="base",
        bind="query-params",
        help="For adapters whose base model is not beside the run or in the Hugging Face cache, "
        "to score the base model too, and for the distance of whole models from "
        "initialization.",
    )
    return expanded(text)


def _finish_upload(ticket: Ticket, name: str) -> Path:
    """The uploaded folder under its own name, made safe, or that with the first free number."""
    name = re.sub(r"[^\w.=+-]+", "-", name).strip(".-") or "run"
    home = store().path / "checkpoints"
    names = (name if n == 1 else f"{name}-{n}" for n in itertools.count(1))
    return finish(ticket, next(free for free in names if not (home / free).exists()))


def likely_task(source: Source) -> str:
    """The data's folder, as on the command line; of an uploaded file its own name."""
    [file, *_] = find_data_files(source)
    if file.is_relative_to(store().path):
        return file.stem
    return default_task(source)


def pick_plan(
    task: str, has_traces: bool, left: DeltaGenerator, right: DeltaGenerator
) -> tuple[Plan, float | None, Segment]:
    """Which samples are drawn, and, where the plan needs one, its threshold.

    Args:
        has_traces: whether the solutions have thinking traces, so that the threshold may be for a
            part of them.
    """
    plan: Plan = left.segmented_control(
        "Purpose",
        list(PLAN_NAMES),
        default="full",
        required=True,
        format_func=PLAN_NAMES.__getitem__,
        help="Everything: all samples, for any threshold. The others draw what their purpose needs "
        "at one threshold; the rest can be drawn later. Each checkpoint: its accuracy, from one "
        "sample of questions that are not memorized yet. Each example: pre-memorization accuracy, "
        "exactly. Curation: the same, at the last checkpoint only.",
        **kept("plan"),
    )
    if plan == "full":
        return plan, None, "target"
    with right:
        segment = pick_segment(draw=has_traces)
    value, source = plan_threshold(task, segment, plan)
    threshold = right.number_input(
        "Memorized below t = log log PPL", value=value, step=0.05, format="%.3f", help=source,
        **kept(f"threshold-{value}"),
    )  # fmt: skip
    right.caption(f"perplexity {perplexity(threshold)}")
    return plan, threshold, segment


def pick_request(request: ScoreRequest, data: RequestedData) -> ScoreRequest:
    """What is measured of a run: the request with all that a person chooses on the page.

    Raises:
        UsageError: a text that a person typed cannot be used.
    """
    first, second, third, fourth = st.columns(4)
    name, likely = data.run.path.resolve().name, likely_task(request.train_file)
    run = first.text_input("Name of the run", name, **kept(f"run-{name}"))
    task = second.text_input(
        "Task", likely, help="Runs of one task are fitted together.", **kept(f"task-{likely}")
    )
    grader, by_grader, amount = _pick_grader(data.train, third), third, fourth
    has_traces = find_marks(example.solution for example in data.train.examples) is not None
    first, second, third = st.columns([2.1, 1, 1.5])
    plan, threshold, segment = pick_plan(task, has_traces, first, second)
    samples, precision = _pick_amount(plan, len(data.train.examples), amount)
    perturbations = third.multiselect(
        "Perturbed training queries, at the last checkpoint",
        list(KINDS),
        format_func=KINDS.__getitem__,
        help="Another form of the question, or of the response's beginning, in which a copied "
        "solution no longer fits. Where one does not apply, the problem is left out.",
        **kept("perturbations"),
    )
    prompts = st.container()
    with st.expander("Perturbed queries: controls, and your own"):
        request = _pick_own_perturbations(request)
    with st.expander("Thinking, sampling, engine"):
        template = read_chat_template(data.run.checkpoints[-1]) or ""
        thinks = has_traces or find_marks([template]) is not None
        request = _pick_details(request, samples, thinks)
    request = replace(
        request,
        run=run,
        task=task,
        grader=grader,
        plan=plan,
        precision=precision,
        log_log_threshold=threshold,
        segment=segment,
        perturbations=tuple(perturbations),
    )
    # What raises an error comes last, so that the controls above are drawn.
    _check_may_be_chosen(grader)
    with prompts:
        request = pick_template(request, data)
    _check_grader(request, data.train, by_grader)
    return request


def _pick_amount(plan: Plan, problems: int, place: DeltaGenerator) -> tuple[int, float | None]:
    """How many samples are drawn per problem; or how precise a checkpoint's accuracy shall be."""
    if plan != "last":
        return place.number_input("Samples per problem", 1, 100, 5, **kept("samples")), None
    points = place.number_input(
        "Standard error, points", 0.1, 20.0, 1.0, 0.1, format="%.1f",
        help="Of a checkpoint's accuracy, from its samples. It chooses how many problems are "
        "sampled, and how often.",
        **kept("precision"),
    )  # fmt: skip
    place.caption(budget.for_precision(points / 100, problems).in_words().capitalize())
    return 1, points


def _pick_grader(train: Dataset, place: DeltaGenerator) -> str:
    """The text of the grader; before a person chooses, the one that reads most solutions."""
    likely = _guess(_key(train), train.examples, grading_rule(train))
    chosen: str = place.selectbox(
        "Grader",
        GRADERS,
        index=GRADERS.index(parse_grader(likely)[0]),
        accept_new_options=True,
        help="Settings may follow the name: number?tolerance=0.01. A function in a file and a "
        "judge are chosen on the command line.",
        **kept(f"grader-{likely}"),
    )
    return chosen


def _check_grader(request: ScoreRequest, train: Dataset, place: DeltaGenerator) -> None:
    """Say how many training solutions the grader reads.

    Raises:
        UsageError: there is no such grader.
        DataError: it reads too few.
    """
    check = _read_solutions(_key(train), choose_grader(request, train), train.examples)
    if check.n:
        show = place.caption if check.share >= READABLE else place.warning
        show(f"It reads {check.n - check.failed:,} of {check.n:,} training solutions.")
    require_readable(check)


def _key(train: Dataset) -> int:
    texts = ((e.id, e.solution, e.answer) for e in train.examples)
    return hash((str(grading_rule(train)), *texts))


@st.cache_data(max_entries=16, show_spinner="Finding the grader that reads the solutions…")
def _guess(key: int, _examples: Sequence[Example], _rule: AnswerRule | None) -> str:
    return guess_grader(_examples, _rule)


@st.cache_data(max_entries=64, show_spinner="Reading the solutions with the grader…")
def _read_solutions(key: int, grader: str, _examples: Sequence[Example]) -> ReferenceCheck:
    return check_references(grader, _examples)


def _check_may_be_chosen(grader: str) -> None:
    """Refuse a grader that is code in a file: a page must not name files to run."""
    if parse_grader(grader)[0] == "file":
        raise UsageError(
            f"the grader {grader!r} is a function in a file, and only the command line may choose "
            "it; choose another one here, or start the job with premem score"
        )


def _pick_own_perturbations(request: ScoreRequest) -> ScoreRequest:
    """The request with perturbations of the user's own (a text, a file, both or none)."""
    controls = st.checkbox(
        PERTURB_CONTROLS,
        value=True,
        help="A perturbation may make a question harder for any model. What it costs on test "
        "problems, and before anything was memorized, is subtracted on the Robustness page.",
        **kept("perturb-controls"),
    )
    left, right = st.columns(2, gap="large")
    with left:
        text = st.text_area(
            "A text around the question", placeholder="Please solve this: {question}", height=96,
            **kept("own-text"),
        )  # fmt: skip
        name = st.text_input("Its name in charts", "own-text", **kept("own-name"))
    with right:
        file = pick_data_file("A file: question, and the id of the problem it is of", "perturbed")
    return replace(
        request,
        perturb_controls=controls,
        perturbation_texts={name: text} if text.strip() else {},
        perturbation_files={_name_in_charts(file): file} if file else {},
    )


def _name_in_charts(file: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "own-file"


def _pick_details(request: ScoreRequest, samples: int, thinks: bool) -> ScoreRequest:
    """The request with its sampling, its backend and what is measured afterwards.

    Args:
        thinks: whether thinking traces are to be expected.
    """
    first, second, third, fourth = st.columns(4)
    thinking = first.text_input(
        "Marks of thinking traces",
        placeholder="found in the data",
        help="Such as <think>…</think>; none for a run without traces.",
        **kept("thinking"),
    )
    longest = first.number_input(
        "Cut texts after tokens", 2, None, None, placeholder="as long as the model takes",
        help="The trainer's max_length. Without it, problems longer than the model are left out.",
        **kept("longest"),
    )  # fmt: skip
    longest_thinking = second.number_input(
        "Longest thinking, tokens", 1, None, None, placeholder="no limit",
        disabled=not (thinks or thinking),
        help="A completion that still thinks after so many tokens ends there, as unfinished.",
        **kept("longest-thinking"),
    )  # fmt: skip
    temperature = third.number_input("Temperature", 0.0, 2.0, 0.8, 0.1, **kept("temperature"))
    top_p = third.number_input("Top p", 0.01, 1.0, 0.95, 0.01, **kept("top-p"))
    tokens = fourth.number_input("Longest completion, tokens", 1, 131_072, 512, **kept("tokens"))
    default = load_backend.default_backend()
    installed = [name for name in load_backend.BACKENDS if name in ("hf", default)]
    backend = fourth.selectbox(
        "Engine", installed, help="vllm where it is installed, or hf.", **kept("engine")
    )
    weights = second.checkbox(
        "Then measure the weights",
        help="Distance from initialization and gradient variance: simpler predictors of test "
        "accuracy, for the R² fits page. The distance of whole models is measured from the base "
        "model.",
        **kept("weights"),
    )
    score_base = first.checkbox(
        "Also score the base model",
        help="As step 0: its accuracy and NLL, and how many of the questions it knows already.",
        **kept("score-base"),
    )
    sampling = Sampling(samples, temperature, top_p, tokens, max_thinking_tokens=longest_thinking)
    return replace(
        request,
        thinking=thinking or None,
        longest=longest,
        sampling=sampling,
        backend=backend,
        score_base=score_base,
        execution=replace(request.execution, weights=weights),
    )


def show_job(job: PreparedJob) -> None:
    """What the job would do."""
    full, steps = job.spec.plan == "full", job.steps
    base = " and the **base model**" if job.base else ""
    which = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    st.markdown(
        f"**{count(len(steps), 'checkpoint')}** ({which}){base}, "
        f"**{len(job.train):,} training** and **{len(job.test):,} test** problems: "
        f"**{'' if full else 'at most '}{job.completions:,} completions** and "
        f"{job.perplexities:,} perplexities.{'' if full else ' ' + job.avoidable_in_words()}"
    )


def show_estimate(job: PreparedJob) -> None:
    """A button that scores a few problems and says what the whole job would take."""
    if not st.button("Estimate time and disk", help="Scores a few problems; keeps nothing."):
        return
    try:
        with st.spinner("Scoring a few problems at the last checkpoint…"):
            found = estimate.estimate_apart(store().path, job)
    except PrememError as error:
        st.error(error_in_words(error, SCORE_CONTROLS))
        return
    (st.info if found.fits else st.warning)(plain(found.in_words()))
