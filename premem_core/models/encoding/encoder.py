"""The interface of an encoder: an example becomes token ids with one checkpoint's tokenizer."""

from typing import Any, Protocol

from premem_core.models.backend import Ending, Target
from premem_core.models.encoding.chat import ChatEncoder
from premem_core.models.encoding.plain import PlainEncoder
from premem_core.problems.prompts import PromptTemplate, Template
from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import Example


class Encoder(Protocol):
    """Makes prompts and targets.

    Attributes:
        ending: what ends a completion.
        opens_trace: whether the prompt, without a beginning, ends inside a thinking trace.
    """

    ending: Ending
    opens_trace: bool

    def prompt(self, example: Example, beginning: str = "") -> tuple[int, ...]:
        """The token ids that a model continues.

        Args:
            beginning: a text with which the response begins.

        Raises:
            DataError: the prompt has no token, or the template refuses the example.
        """

    def leaves_open(self, example: Example, beginning: str = "") -> bool:
        """Whether the prompt with this beginning ends inside a thinking trace.

        The beginning may be the answer's after a trace that the prompt closes, or the trace's.
        """

    def target(self, example: Example) -> Target:
        """The token ids that training saw, and which of them are scored.

        Raises:
            DataError: the target has no token that can be scored, or its beginning is not clear.
        """

    def unconditional_target(self, example: Example) -> Target:
        """The target without the question before it.

        Raises:
            DataError: the target has no token that can be scored.
        """


def make_encoder(
    template: Template,
    tokenizer: Any,
    ends: frozenset[int],
    marks: ThinkingMarks | None = None,
    longest: int | None = None,
) -> Encoder:
    """The encoder for a template.

    Args:
        tokenizer: the checkpoint's.
        ends: token ids that end a text, from `special_tokens.end_ids`.
        marks: of thinking traces; None if there are none.
        longest: targets are cut so that the whole text has this many tokens, as trainers cut them
            (`max_length`); None to cut none.

    Raises:
        DataError: the checkpoint has no chat template, and none is given.
    """
    if isinstance(template, PromptTemplate):
        return PlainEncoder(template, tokenizer, ends, marks, longest)
    return ChatEncoder(template, tokenizer, ends, marks, longest)
