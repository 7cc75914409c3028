"""Answer rules: where a row's final answer is, in a field or by a mark in the solution.

A final answer may name one of the options of a multiple-choice question. A row has these as a list
of texts (MMLU), of texts with labels (AQuA's "A)3"), a mapping from labels to texts, or
{"text": […], "label": […]} (ARC).
"""

import re
import string
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

import regex

from premem_core.errors import UsageError
from premem_core.problems.final_answers import after_answer_is, after_hashes, boxed
from premem_core.problems.rows import as_name, value_at

AnswerKind = Literal["field", "hash", "boxed", "stated", "regex", "solution"]
FORMS = (
    r"field:NAME, hash (#### x), boxed (\boxed{x}), stated (The answer is x), regex:PATTERN or "
    "solution (all of it)"
)
SECONDS = 0.5  # that a pattern may take on one text


class SlowPatternError(UsageError):
    """A pattern takes too long on a text, as (a+)+c does on a long row of the letter a."""


@dataclass(frozen=True, slots=True)
class AnswerRule:
    r"""How to find a row's final answer: in a field, or by a mark in the solution.

    >>> str(AnswerRule.parse("field:gold")), AnswerRule.parse("hash").kind
    ('field:gold', 'hash')
    """

    kind: AnswerKind
    argument: str = ""  # the field's name, or the regular expression

    @classmethod
    def parse(cls, text: str) -> Self:
        r"""The rule that is written as in FORMS, such as `field:gold` or `hash`.

        Raises:
            UsageError: `text` is none of these, or the pattern is not a regular expression.
        """
        kind, colon, argument = text.partition(":")
        expects_argument = kind in ("field", "regex")
        if (
            kind not in get_args(AnswerKind)
            or not bool(colon) == bool(argument) == expects_argument
        ):
            raise UsageError(f"{text!r} is not a rule for finding the final answer; write {FORMS}.")
        if kind == "regex":
            try:
                regex.compile(argument)
            except regex.error as error:
                raise UsageError(
                    f"The answer pattern {argument!r} is not a regular expression ({error}); "
                    "correct it."
                ) from None
        return cls(kind, argument)  # type: ignore[arg-type]

    @property
    def reads_texts(self) -> bool:
        """Whether the rule finds an answer in a text, so that it can read completions too."""
        return self.kind in ("hash", "boxed", "stated", "regex")

    def find(self, row: Mapping[str, Any], solution: str) -> str | None:
        """The final answer of a row, without white space around it; None if there is none.

        Of several marks in the solution the last one counts. A pattern's answer is its first
        group, or the whole match if the pattern has no group.

        Raises:
            SlowPatternError: the pattern takes more than SECONDS on the solution.
        """
        match self.kind:
            case "field":
                answer = _single(value_at(row, self.argument))
            case "hash":
                answer = next(reversed(after_hashes(solution)), None)
            case "boxed":
                answer = next(reversed(boxed(solution)), None)
            case "stated":
                answer = next(reversed(after_answer_is(solution)), None)
            case "regex":
                answer = self._match(solution)
            case "solution":
                answer = solution
        return (answer or "").strip() or None

    def _match(self, solution: str) -> str | None:
        limits = {"timeout": SECONDS, "concurrent": True}  # other threads go on meanwhile
        try:
            last = deque(regex.finditer(self.argument, solution, **limits), maxlen=1)
        except TimeoutError:
            raise SlowPatternError(
                f"the pattern {self.argument!r} takes more than {SECONDS} seconds on the text "
                f"{solution[:60]!r}; write one whose parts cannot match the same text in many ways"
            ) from None
        return last[0][1 if last[0].re.groups else 0] if last else None

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind


def _single(value: object) -> str | None:
    """The answer in a field; a list that holds one answer is that answer."""
    return as_name(value[0] if isinstance(value, list) and len(value) == 1 else value)


class Option(NamedTuple):
    """One option: its label, its text, its line in the question, and how the row gives it."""

    label: str
    text: str
    line: str
    given: str


def options_in(value: object) -> list[Option]:
    """The options that a row's column holds; none if it holds something else.

    >>> [option.line for option in options_in({"text": ["3", "4"], "label": ["1", "2"]})]
    ['1) 3', '2) 4']
    >>> options_in(["A)3", "B)4"])[1]
    Option(label='B', text='4', line='B)4', given='B)4')
    """
    if isinstance(value, Mapping):
        texts = value.get("text", list(value.values()))
        labels = value.get("label", list(value) if "text" not in value else [])
        if isinstance(labels, list) and isinstance(texts, list) and len(texts) == len(labels):
            pairs = zip(map(str, labels), map(str, texts), strict=True)
            return [Option(label, text, *[f"{label}) {text}"] * 2) for label, text in pairs]
        value = texts
    return _lettered([str(text) for text in value]) if isinstance(value, list) else []


def _lettered(lines: list[str]) -> list[Option]:
    """Options in a list, with their own labels if all have them in order, or else with letters.

    None if there are more than letters.
    """
    for labels in (string.ascii_uppercase, string.digits[1:]):
        pairs = list(zip(labels, lines, strict=False))
        marks = [re.match(rf"\(?{label}\s*[).:]\s*", line) for label, line in pairs]
        if all(marks):
            found = zip(pairs, marks, strict=True)
            return [
                Option(label, line[mark.end() :], line, line)
                for (label, line), mark in found
                if mark
            ]
    if len(lines) > len(string.ascii_uppercase):
        return []
    pairs = list(zip(string.ascii_uppercase, lines, strict=False))
    return [Option(label, line, f"{label}) {line}", line) for label, line in pairs]


def label_of(options: list[Option], answer: object) -> str | None:
    """The label of the option that an answer names: by its label, place from 0, or text.

    >>> options = options_in(["3", "4"])
    >>> label_of(options, 1), label_of(options, "(B)"), label_of(options, "3"), label_of(options, 2)
    ('B', 'B', 'A', None)
    """
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        return None
    name = str(answer).strip()
    bare = name.removeprefix("(").rstrip(").:")
    if bare in [option.label for option in options]:
        return bare
    if isinstance(answer, int):
        return options[answer].label if 0 <= answer < len(options) else None
    same = [option.label for option in options if option.text.strip() == name]
    return same[0] if len(same) == 1 else None


def listed_in(options: list[Option], question: str, *, labels: bool) -> bool:
    """Whether a question lists the options already; with `labels`, only if it labels them too."""
    if not labels:
        return all(option.given in question for option in options)
    return all(
        re.search(rf"(?<!\w){re.escape(option.label)}\s*[).:\]}}]", question)
        and option.text.strip() in question
        for option in options
    )
