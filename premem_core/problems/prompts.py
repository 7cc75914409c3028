r"""Templates: how an example becomes the text that a model sees.

A *prompt template* is text with places for the question and the solution. A *chat template* is
the checkpoint's own (Jinja), with the arguments that the run was trained with.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from premem_core.errors import UsageError
from premem_core.records import Example

PUBLISHED_RESPONSE_END = "\nDone."
_PLACEHOLDER = re.compile(r"(?<![\w\\{])\{(\w+)\}(?!\})")
_PLACES = ("question", "solution", "bos", "eos")


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    r"""Makes the prompt and the target of an example; the defaults are the paper's.

    `{question}` and `{solution}` are places for the example's texts, `{bos}` and `{eos}` for the
    tokenizer's special tokens.

    >>> t = PromptTemplate()
    >>> e = Example(id="1", question="2+2?", solution="It is {4}.\n#### 4", answer="4")
    >>> t.fill(e)
    ('2+2?\nAnswer:', ' It is {4}.\n#### 4\nDone.')
    """

    prompt: str = "{question}\nAnswer:"
    target: str = " {solution}" + PUBLISHED_RESPONSE_END
    stop: tuple[str, ...] = (PUBLISHED_RESPONSE_END,)

    def fill(self, example: Example, *, bos: str = "", eos: str = "") -> tuple[str, str]:
        """The prompt, which never holds the solution, and the target text y_i."""
        places = {"question": example.question, "solution": example.solution}
        places |= {"bos": bos, "eos": eos}
        return _fill(self.prompt, places), _fill(self.target, places)


# What TRL makes of the columns prompt and completion: nothing between them, and an EOS at the end.
PROMPT_COMPLETION = PromptTemplate("{question}", "{solution}{eos}", ())


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Makes the prompt and the target of an example with a chat template.

    Attributes:
        template: the template (Jinja); None for the one that the checkpoint has.
        arguments: of the template, such as `enable_thinking`.
        system: a system prompt for the examples that have none.
        stop: texts that end a completion, beside the token that ends a turn.
        lead: the end of the prompt with which the target begins, where training counted it too.
        is_completion: the target is all that follows the prompt, even where the template marks
            what the assistant says.
    """

    template: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    stop: tuple[str, ...] = ()
    lead: str = ""
    is_completion: bool = False


Template = PromptTemplate | ChatTemplate


def make_chat_template(
    file: Path | None, arguments: Sequence[str], system: str | None
) -> ChatTemplate:
    """A chat template as a person describes it.

    Args:
        file: with the template; None for the one that the checkpoint has.
        arguments: of the template, as NAME=VALUE, where a value is JSON or else text.
        system: as in `ChatTemplate`.

    Raises:
        UsageError: the file cannot be read, or an argument has no name.
    """
    values: dict[str, Any] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"the argument {text!r} of the chat template is not of the form NAME=VALUE; write "
                "enable_thinking=false"
            )
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = {"True": True, "False": False, "None": None}.get(value, value)
    try:
        template = file.read_text(encoding="utf-8") if file else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file} ({error}); give the path of a template") from error
    return ChatTemplate(template, values, system)


def read_template(content: Mapping[str, Any]) -> Template:
    """The template that `dataclasses.asdict` turned into a mapping."""
    kind = PromptTemplate if "prompt" in content else ChatTemplate
    return kind(**{**content, "stop": tuple(content["stop"])})


def unescaped(text: str) -> str:
    r"""The text with line breaks for \n, which is how a person types one into a line."""
    return text.replace("\\n", "\n")


def template_in_words(template: Template) -> str:
    """A template as a phrase: the texts of a plain one, where a chat template is from."""
    if isinstance(template, PromptTemplate):
        return f"plain, prompt {template.prompt!r}, target {template.target!r}"
    origin = "given" if template.template else "of the checkpoint"
    arguments = [f"{name}={json.dumps(value)}" for name, value in template.arguments.items()]
    words = " ".join([f"chat template {origin}", *arguments])
    if template.lead:
        return f"{words}; as TRL trains it, the target begins with {template.lead!r} of the prompt"
    if template.is_completion:
        return f"{words}; as TRL trains it, the target is all that follows the prompt"
    return words


def check_template(template: PromptTemplate) -> None:
    r"""Check that a template has places for the question and the solution, and no unknown ones.

    Braces after a LaTeX command, as in `\boxed{answer}`, are text.

    Raises:
        UsageError: a place is missing or unknown.
    """
    if "{question}" not in template.prompt or "{solution}" not in template.target:
        raise UsageError(
            "the prompt template must contain {question} and the target template {solution}"
        )
    for text in (template.prompt, template.target):
        for match in _PLACEHOLDER.finditer(text):
            if match[1] not in _PLACES:
                raise UsageError(
                    f"the template {text!r} holds {match[0]}, which is not known; the places are "
                    f"{', '.join(f'{{{name}}}' for name in _PLACES)}"
                )


def _fill(template: str, places: Mapping[str, str]) -> str:
    # Not str.format, because questions and templates are full of LaTeX braces; and one pass,
    # because a question may itself hold "{solution}".
    pattern = "|".join(f"{{{name}}}" for name in places)
    return re.sub(pattern, lambda match: places[match[0][1:-1]], template)
