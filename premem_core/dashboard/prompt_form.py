"""The prompt form: by which template examples become text, and what the model then sees."""

from dataclasses import asdict, replace

import pandas as pd
import streamlit as st

from premem_core.dashboard import elements
from premem_core.dashboard.data_file_picker import expanded
from premem_core.dashboard.wording import SCORE_CONTROLS, error_in_words, plain
from premem_core.errors import PrememError
from premem_core.models.encoding import template_choice
from premem_core.models.encoding.chat_template_files import read_chat_template
from premem_core.models.encoding.inspection import Inspection
from premem_core.models.encoding.template_choice import Form, is_prompt_completion
from premem_core.problems.prompts import (
    PROMPT_COMPLETION,
    ChatTemplate,
    PromptTemplate,
    make_chat_template,
    unescaped,
)
from premem_core.scoring.preparation.prepare import PreparedJob, prepare
from premem_core.scoring.preparation.request import RequestedData, ScoreRequest
from premem_core.scoring.preparation.scratch_job import compare_apart

FORM_NAMES = {"chat": "Chat template", "plain": "Plain text"}


def pick_template(request: ScoreRequest, data: RequestedData) -> ScoreRequest:
    """The request with a chat or a plain template.

    Nothing is chosen where both are possible until the person chooses.
    """
    has_chat = read_chat_template(data.run.checkpoints[-1]) is not None
    is_chat = data.train.has_conversations
    likely: Form | None = "plain" if is_prompt_completion(data.train) or not has_chat else None
    default: Form | None = "chat" if is_chat else likely
    form: Form | None = st.segmented_control(
        "Prompts",
        ("chat", "plain"),
        default=default,
        format_func=FORM_NAMES.__getitem__,
        help="As the run was trained: by the chat template beside the weights, or as plain text.",
        **elements.kept(f"prompts-{default}"),
    )
    request = replace(request, form=form)
    if form == "chat":
        return _pick_chat(request)
    return _pick_plain(request, data) if form == "plain" else request


def is_open(request: ScoreRequest, data: RequestedData) -> bool:
    """Whether both a chat and a plain prompt are possible and the person has chosen neither."""
    return (
        request.template is None
        and request.form is None
        and template_choice.is_ambiguous(data.train, data.run.checkpoints[-1])
    )


def _pick_chat(request: ScoreRequest) -> ScoreRequest:
    first, second, third = st.columns([1.2, 1.2, 1])
    system = first.text_input(
        "System prompt, where the problems have none", **elements.kept("system")
    )
    arguments = second.text_input(
        "Arguments of the chat template",
        placeholder="enable_thinking=false",
        **elements.kept("arguments"),
    )
    template = third.text_input(
        "Another chat template: path on this machine", **elements.kept("template")
    )
    file = expanded(template)
    chat = make_chat_template(file, arguments.split(), system or None)
    return replace(request, template=None if chat == ChatTemplate() else chat)


def _pick_plain(request: ScoreRequest, data: RequestedData) -> ScoreRequest:
    default = PROMPT_COMPLETION if is_prompt_completion(data.train) else PromptTemplate()
    first, second, third = st.columns([1.2, 1.2, 1])
    prompt = first.text_area("Prompt", default.prompt, **elements.kept(f"prompt-{default.prompt}"))
    target = second.text_area("Target", default.target, **elements.kept(f"target-{default.target}"))
    default_stop = repr("".join(default.stop))[1:-1]
    stop = third.text_input(
        "Ends a completion", default_stop, **elements.kept(f"stop-{default_stop}")
    )
    ends = tuple(filter(None, [unescaped(stop)]))
    return replace(request, template=PromptTemplate(prompt, target, ends))


def compare_templates(request: ScoreRequest, data: RequestedData) -> None:
    """A button that measures a few targets under each template, where both are possible."""
    st.info(
        "The checkpoint has a chat template and the rows are questions and solutions: the run may "
        "have been trained with a chat prompt or a plain one. The wrong choice gives wrong numbers."
    )
    if not st.button("Compare both", help="Measures a few targets at the last checkpoint."):
        return
    try:
        with st.spinner("Measuring a few targets under each template…"):
            compared = compare_apart(prepare(replace(request, form="plain"), data))
    except PrememError as error:
        st.error(error_in_words(error, SCORE_CONTROLS))
        return
    elements.small_table(
        pd.DataFrame([asdict(one) for one in compared]),
        {"name": "Template", "nll": ("NLL", "{:.3f}".format)},
        alt="Mean NLL of a few targets under each template",
    )
    best = template_choice.likely_template(compared)
    st.caption(
        f"The lowest, and so the likely one: {plain(best.name)}."
        if best
        else "None of them can be used."
    )


def inspect(job: PreparedJob) -> Inspection:
    """What the model would see; kept for the session until the job is another one.

    Raises:
        JobError: the checkpoint or the problems cannot be used.
    """
    if not is_inspected(job):
        with st.spinner("Reading the tokenizer of the last checkpoint…"):
            st.session_state["inspection"] = _key(job), job.inspect_apart()
    found: Inspection = st.session_state["inspection"][1]
    return found


def is_inspected(job: PreparedJob) -> bool:
    """Whether it is known what the model would see of this job."""
    kept = st.session_state.get("inspection")
    return kept is not None and kept[0] == _key(job)


def _key(job: PreparedJob) -> int:
    ids = tuple(example.id for example in (*job.train, *job.test))
    return hash((repr(job.spec), job.steps[-1], ids))


def show_inspection(found: Inspection) -> None:
    """The first problems token by token, what ends a completion, and what may be wrong."""
    for sentence in found.warnings:
        st.warning(error_in_words(sentence, SCORE_CONTROLS))
    if found.left_out:
        first = found.left_out[0]
        st.warning(
            f"{len(found.left_out):,} problems are left out; the first is {plain(first.id)} "
            f"({first.split}): {plain(first.reason)}"
        )
    elements.tokens([(f"Problem {seen.id}", seen.tokens) for seen in found.examples])
    ends = ", ".join(map(repr, found.stops)) or "nothing"
    st.caption(f"A completion ends at {plain(ends)}.")
