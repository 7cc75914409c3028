"""Answer rules: where a row's final answer is, in a field or by a mark in the solution."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

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
