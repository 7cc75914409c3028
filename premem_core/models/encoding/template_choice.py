"""The choice of a template: plain or chat, for a run that was trained with one of them.

Conversations are rendered by the checkpoint's own chat template. Where the rows are questions and
solutions and the checkpoint has a chat template, both are possible, and the wrong one gives wrong
numbers in silence; then a person chooses, with the NLL of some targets under each.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from premem_core.errors import DataError, UsageError
from premem_core.models import load_backend
from premem_core.models.backend import Backend, Resources, Target
from premem_core.models.encoding.chat_template_files import marks_generation, read_chat_template
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.encoding.trl_targets import is_trained_by_trl, trained_lead
from premem_core.models.server.served_models import Server
from premem_core.problems.conversations import separate_answer
from premem_core.problems.examples import Dataset, draw
from premem_core.problems.prompts import (
    PROMPT_COMPLETION,
    ChatTemplate,
    PromptTemplate,
    Template,
)
from premem_core.problems.thinking import ThinkingMarks, find_marks
from premem_core.records import Checkpoint, Example

Form = Literal["chat", "plain"]

COMPARED = 16  # targets


@dataclass(frozen=True, slots=True)
class Compared:
    """The mean NLL of some targets under one template; the option that chooses it."""

    name: str
    option: str
    nll: float  # per token, in nats; NaN where the template cannot be used


def choose_template(data: Dataset, checkpoint: Checkpoint, form: Form | None) -> Template:
    """The template for a run's problems.

    Args:
        data: the training problems.
        checkpoint: one of the run's checkpoints.
        form: the person's choice; None if there is none.

    Raises:
        UsageError: both are possible and nothing was chosen, or there is no chat template.
    """
    has_template = read_chat_template(checkpoint) is not None
    if form == "plain":
        return PROMPT_COMPLETION if is_prompt_completion(data) else PromptTemplate()
    if form == "chat" or data.has_conversations:
        if not has_template:
            raise UsageError(
                f"{'the rows are conversations, but ' if data.has_conversations else ''}"
                f"{checkpoint.path} has no chat template (chat_template.jinja); copy the one that "
                "the run was trained with beside the weights, give it with --chat-template, or "
                "choose a plain prompt with --plain"
            )
        return ChatTemplate()
    if is_prompt_completion(data):  # TRL trains these as they are
        return PROMPT_COMPLETION
    if has_template:
        raise UsageError(
            "the rows are questions and solutions and the checkpoint has a chat template, so a "
            "chat prompt and a plain one are both possible; choose --chat or --plain"
        )
    return PromptTemplate()


def as_trained(template: Template, data: Dataset, checkpoint: Checkpoint) -> Template:
    """The template with the target that TRL trains, where the rows and the run's files tell it.

    Of the columns prompt and completion it trains all that follows the prompt. Of messages it
    trains what the template marks; a template without marks is trained with marks of TRL's own,
    which are not saved.

    Args:
        template: returned as it is if it is plain, or a text that a person gave.
    """
    source = read_chat_template(checkpoint)
    if not isinstance(template, ChatTemplate) or template.template is not None or not source:
        return template
    if not data.has_conversations:
        return template
    if is_prompt_completion(data):
        return replace(template, is_completion=marks_generation(source))
    if marks_generation(source) or not is_trained_by_trl(checkpoint):
        return template
    return replace(template, lead=trained_lead(source))


def is_ambiguous(data: Dataset, checkpoint: Checkpoint) -> bool:
    """Whether both a plain and a chat prompt are possible.

    TRL never puts texts in the columns prompt and completion into a chat template.
    """
    if data.has_conversations or read_chat_template(checkpoint) is None:
        return False
    return not (is_prompt_completion(data) and is_trained_by_trl(checkpoint))


def is_prompt_completion(data: Dataset) -> bool:
    """Whether the columns are those that TRL trains without anything between them."""
    fields = data.fields
    return (fields.question.lower(), (fields.solution or "").lower()) == ("prompt", "completion")


def choose_marks(
    data: Dataset, checkpoint: Checkpoint, template: Template, given: str | None
) -> ThinkingMarks | None:
    """The marks of thinking traces: those given, or those in the solutions or the chat template.

    Args:
        given: as `ThinkingMarks.parse` reads it, or "none" for a run without traces.

    Raises:
        UsageError: `given` cannot be read.
    """
    if given:
        return None if given == "none" else ThinkingMarks.parse(given)
    if not isinstance(template, ChatTemplate):
        return find_marks([*(e.solution for e in data.examples), template.prompt])
    # Where reasoning is kept apart from the answer, the template writes marks of its own.
    within = find_marks(e.solution for e in data.examples if separate_answer(e) is None)
    return within or find_marks([template.template or read_chat_template(checkpoint) or ""])


def compare_templates(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    *,
    is_typed: bool = False,
    server: Server | None = None,
) -> list[Compared]:
    """The mean NLL of a few targets under each template at one checkpoint, the lowest first.

    A model has the lowest NLL under the template that it was trained with. The targets are those
    that every usable template can render within the model's length.

    Args:
        is_typed: whether the problems are `is_prompt_completion`.
        server: the server that computes; by default the checkpoint is loaded here.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """
    examples = draw(examples, COMPARED, 0)
    backend = "server" if server else "hf"
    model = load_backend.load_backend(backend, checkpoint, Resources(server=server))
    try:
        candidates = [
            (name, option, _targets(template, model, examples))
            for name, option, template in _candidates(is_typed)
        ]
        usable = [set(targets) for *_, targets in candidates if targets]
        common = sorted(set.intersection(*usable)) if usable else []
        compared = [
            Compared(name, option, _mean_nll(model, [targets[i] for i in common if i in targets]))
            for name, option, targets in candidates
        ]
    finally:
        model.close()
    return sorted(compared, key=lambda one: (np.isnan(one.nll), one.nll))


def _candidates(is_typed: bool) -> list[tuple[str, str, Template]]:
    """The templates that are possible: how each is called, the option that chooses it."""
    chat: tuple[str, str, Template] = ("chat template", "--chat", ChatTemplate())
    name = "plain, as the columns prompt and completion are"
    if is_typed:
        return [chat, (name, "--plain", PROMPT_COMPLETION)]
    typed = "--prompt-template '{question}' --target-template '{solution}{eos}'"
    paper = ("plain template of the paper", "--plain", PromptTemplate())
    return [chat, paper, (name, typed, PROMPT_COMPLETION)]


def _targets(template: Template, model: Backend, examples: Sequence[Example]) -> dict[str, Target]:
    """The targets that a template can render and the model can take, by the example's id."""
    targets: dict[str, Target] = {}
    try:
        encoder = make_encoder(template, model.tokenizer, model.end_tokens)
    except DataError:  # there is no chat template
        return targets
    for example in examples:
        with suppress(DataError):
            target = encoder.target(example)
            # Some engines generate a token after a target.
            if model.positions is None or len(target.ids) < model.positions:
                targets[example.id] = target
    return targets


def _mean_nll(model: Backend, targets: Sequence[Target]) -> float:
    """The mean NLL per token; NaN without targets."""
    if not targets:
        return float("nan")
    scores = model.target_scores(targets)
    return -float(np.concatenate([each.log_probabilities for each in scores]).mean())


def compared_in_words(compared: Sequence[Compared]) -> list[str]:
    """A line for each template, and the suggestion."""
    lines = [
        f"  NLL {one.nll:.3f}  {one.name} ({one.option})"
        if not np.isnan(one.nll)
        else f"  cannot be used  {one.name} ({one.option})"
        for one in compared
    ]
    best = likely_template(compared)
    suggestion = (
        f"the lowest, and so the likely one, is that of the {best.name}: choose {best.option}"
        if best
        else "none of them can be used; give the template that the run was trained with"
    )
    head = "mean NLL of a few targets at the last checkpoint under each template:"
    return [head, *lines, suggestion]


def likely_template(compared: Sequence[Compared]) -> Compared | None:
    """The template with the lowest NLL; None if none can be used."""
    usable = [one for one in compared if not np.isnan(one.nll)]
    return min(usable, key=lambda one: one.nll, default=None)
