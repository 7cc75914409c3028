"""Fields: which column of a data file is the question, the solution and the final answer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, get_args

from premem_core.errors import DataError, UsageError
from premem_core.problems.final_answers import after_hashes, boxed
from premem_core.problems.rows import Row, as_name, read_rows

_ROWS_TO_DETECT_FROM = 50

QUESTION_NAMES = ("question", "problem", "prompt", "query", "input", "instruction")
# "answer" comes last: where there is another of these columns, it is the final answer.
_SOLUTION_NAMES = (
    *("solution", "response", "output", "completion"),
    *("reasoning", "rationale", "answer"),
)
_ANSWER_NAMES = ("final_answer", "gold", "label", "target", "answer")
ID_NAMES = (
    *("id", "idx", "index", "uid", "uuid"),
    *("unique_id", "example_id", "question_id", "problem_id"),
)

AnswerKind = Literal["field", "hash", "boxed", "regex"]


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
        r"""The rule that is written as `field:NAME`, `hash`, `boxed` or `regex:PATTERN`.

        Raises:
            UsageError: `text` is none of these, or the pattern is not a regular expression.
        """
        kind, colon, argument = text.partition(":")
        expects_argument = kind in ("field", "regex")
        if (
            kind not in get_args(AnswerKind)
            or not bool(colon) == bool(argument) == expects_argument
        ):
            raise UsageError(
                f"{text!r} is not a rule for finding the final answer; write field:NAME, "
                "hash (#### x), boxed (\\boxed{x}) or regex:PATTERN."
            )
        if kind == "regex":
            try:
                re.compile(argument)
            except re.error as error:
                raise UsageError(
                    f"The answer pattern {argument!r} is not a regular expression ({error}); "
                    "correct it."
                ) from None
        return cls(kind, argument)  # type: ignore[arg-type]

    def find(self, row: Mapping[str, Any], solution: str) -> str | None:
        """The final answer of a row, without white space around it; None if there is none.

        Of several marks in the solution the last one counts. A pattern's answer is its first
        group, or the whole match if the pattern has no group.
        """
        match self.kind:
            case "field":
                answer = as_name(row.get(self.argument))
            case "hash":
                answer = next(reversed(after_hashes(solution)), None)
            case "boxed":
                answer = next(reversed(boxed(solution)), None)
            case "regex":
                matches = list(re.finditer(self.argument, solution))
                last = matches[-1] if matches else None
                answer = last and last[1 if last.re.groups else 0]
        return (answer or "").strip() or None

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind


@dataclass(frozen=True, slots=True)
class Fields:
    """Which column holds what; `metadata` is None where all other columns are metadata."""

    question: str
    solution: str
    answer: AnswerRule
    id: str | None = None
    metadata: tuple[str, ...] | None = None


def detect_fields(path: Path) -> Fields:
    """Detect the fields from common column names and from the solutions of the first rows.

    Raises:
        DataError: the file cannot be read, or its fields cannot be detected; the message names
            the columns.
    """
    path = Path(path)
    rows = list(islice((r for r in read_rows(path) if isinstance(r, Row)), _ROWS_TO_DETECT_FROM))
    if not rows:
        raise DataError(f"{path} has no readable row; give a file with at least one.")
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    question = first_named(QUESTION_NAMES, columns)
    solution = first_named(_SOLUTION_NAMES, [c for c in columns if c != question])
    if question is None or solution is None:
        missing = "question" if question is None else "solution"
        _cannot_detect(path, f"which one is the {missing}", columns)
    left = [column for column in columns if column not in (question, solution)]
    answer_column = first_named(_ANSWER_NAMES, left)
    rules = [
        *([AnswerRule("field", answer_column)] if answer_column else []),
        AnswerRule("hash"),
        AnswerRule("boxed"),
    ]
    for rule in rules:
        # Most rows suffice: one bad row must not change how the others are read.
        answered = sum(
            rule.find(r.values, str(r.values.get(solution, ""))) is not None for r in rows
        )
        if answered > len(rows) / 2:
            return Fields(question, solution, rule, first_named(ID_NAMES, left))
    return _cannot_detect(path, "where the final answer is", columns)


def likely_grader(fields: Fields) -> str:
    """The grader that suits the fields: `math` where the answer is boxed, `gsm8k` otherwise."""
    return "math" if fields.answer.kind == "boxed" else "gsm8k"


def choose_fields(
    path: Path, question: str | None, solution: str | None, answer: str | None
) -> Fields:
    """The fields that are given; those that are None are detected.

    Args:
        question, solution: names of columns.
        answer: where the final answer is, as `AnswerRule.parse` reads it.

    Raises:
        DataError: as `detect_fields`.
        UsageError: as `AnswerRule.parse`.
    """
    rule = AnswerRule.parse(answer) if answer else None
    if question and solution and rule:
        return Fields(question, solution, rule)
    detected = detect_fields(path)
    return replace(
        detected,
        question=question or detected.question,
        solution=solution or detected.solution,
        answer=rule or detected.answer,
    )


def first_named(names: tuple[str, ...], columns: list[str]) -> str | None:
    """The column with the first of `names` that occurs, in any case; None if none occurs."""
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _cannot_detect(path: Path, what: str, columns: list[str]) -> NoReturn:
    raise DataError(
        f"{path} has the columns {', '.join(columns)}, from whose names it is not clear {what}; "
        "name the fields."
    )
