"""Prompt templates: how an example becomes the text that a model sees."""

import re
from dataclasses import dataclass

from premem_core.records import Example

PUBLISHED_RESPONSE_END = "\nDone."


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    r"""Makes the prompt and the target of an example; the defaults are the paper's.

    >>> t = PromptTemplate()
    >>> e = Example(id="1", question="2+2?", solution="It is {4}.\n#### 4", answer="4")
    >>> t.fill(e)
    ('2+2?\nAnswer:', ' It is {4}.\n#### 4\nDone.')
    """

    prompt: str = "{question}\nAnswer:"
    target: str = " {solution}" + PUBLISHED_RESPONSE_END
    stop: tuple[str, ...] = (PUBLISHED_RESPONSE_END,)

    def fill(self, example: Example) -> tuple[str, str]:
        """The prompt, which never holds the solution, and the target text y_i."""
        return _fill(self.prompt, example), _fill(self.target, example)


def _fill(template: str, example: Example) -> str:
    # Not str.format, because questions and templates are full of LaTeX braces; and one pass,
    # because a question may itself hold "{solution}".
    fields = {"{question}": example.question, "{solution}": example.solution}
    return re.sub(r"\{question\}|\{solution\}", lambda match: fields[match[0]], template)
