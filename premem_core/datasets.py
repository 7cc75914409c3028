"""Data files to examples: JSONL, CSV and Parquet with any field names.

A row of GSM8K's JSONL: `{"question": "Natalia sold …", "answer": "…<<48+24=72>>72 …\\n#### 72"}`,
a column "answer" that is the solution, and whose last line holds the final answer.
"""

import csv
import hashlib
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import DataError, UsageError
from premem_core.grading.final_answer import after_hashes, boxed
from premem_core.perturbations import with_answer
from premem_core.types import Example

_ROWS_TO_DETECT_FROM = 50
_LONGEST_CSV_FIELD = 16 * 2**20

_QUESTION_NAMES = ("question", "problem", "prompt", "query", "input", "instruction")
# "answer" is last: beside any other of these it is the final answer.
_SOLUTION_NAMES = (
    *("solution", "response", "output", "completion"),
    *("reasoning", "rationale", "answer"),
)
_ANSWER_NAMES = ("final_answer", "gold", "label", "target", "answer")
_ID_NAMES = (
    *("id", "idx", "index", "uid", "uuid"),
    *("unique_id", "example_id", "question_id", "problem_id"),
)

AnswerKind = Literal["field", "hash", "boxed", "regex"]


@dataclass(frozen=True, slots=True)
class AnswerRule:
    r"""Where a row's final answer is: a field of its own, or a mark in the solution.

    >>> str(AnswerRule.parse("field:gold")), AnswerRule.parse("hash").kind
    ('field:gold', 'hash')
    """

    kind: AnswerKind
    argument: str = ""  # the field's name, or the regular expression

    @classmethod
    def parse(cls, text: str) -> Self:
        r"""The rule written as `field:NAME`, `hash`, `boxed` or `regex:PATTERN`.

        UsageError: it is none of these, or the pattern is not a regular expression.
        """
        kind, colon, argument = text.partition(":")
        expects_argument = kind in ("field", "regex")
        if (
            kind not in get_args(AnswerKind)
            or not bool(colon) == bool(argument) == expects_argument
        ):
            raise UsageError(
                f"{text!r} does not say where the final answer is; write field:NAME, "
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
        """The final answer of a row, without white space around it; None: there is none.

        A mark counts where it stands last; a pattern's answer is its first group.
        """
        match self.kind:
            case "field":
                answer = _as_name(row.get(self.argument))
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
    """Which column holds what; `metadata` None: all other columns."""

    question: str
    solution: str
    answer: AnswerRule
    id: str | None = None
    metadata: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: its 1-based line (Parquet: row number) and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data file's examples, the fields they were read by, and the rows that were left out."""

    path: Path
    fields: Fields
    examples: tuple[Example, ...]
    skipped: tuple[BadRow, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    values: Mapping[str, Any]


def read_examples(path: Path, fields: Fields | None = None, *, skip_bad: bool = False) -> Dataset:
    """The examples of a `.jsonl`, `.ndjson`, `.csv` or `.parquet` file.

    Without `fields` they are detected. An id is the id column's value; without such a column it
    is 12 hexadecimal digits of the SHA-256 of question and solution, so that it survives
    reordering; a repeated row gets "-2", "-3".

    DataError: the file cannot be read, has no usable row, or has a bad row and `skip_bad` is not
    given; the message names the file, the first bad line, and the reason.
    """
    path = Path(path)
    fields = fields or detect_fields(path)
    examples: dict[str, Example] = {}
    bad: list[BadRow] = []
    for row in _rows(path):
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            example = _example(row.values, fields, examples)
        except _BadRowError as error:
            bad.append(BadRow(row.line, str(error)))
        else:
            examples[example.id] = example
    if bad and not skip_bad:
        more = f" ({len(bad) - 1} more bad rows follow)" if len(bad) > 1 else ""
        raise DataError(
            f"{path}, {_unit(path)} {bad[0].line}: {bad[0].reason}{more}; nothing was imported; "
            "correct the file, or leave bad rows out with --skip-bad."
        )
    if not examples:
        counted = f"; all {len(bad)} rows are bad, the first because {bad[0].reason}" if bad else ""
        raise DataError(f"{path} has no usable row{counted}; give a file with at least one.")
    return Dataset(path, fields, tuple(examples.values()), tuple(bad))


def read_questions(path: Path) -> list[tuple[str, str]]:
    """id (the row's number where there is none) and question of a file's rows; it needs no more.

    DataError: the file cannot be read, or has no column of questions.
    """
    path = Path(path)
    rows = [row for row in _rows(path) if isinstance(row, _Row)]
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    name = _first_named(_QUESTION_NAMES, columns)
    if name is None:
        raise DataError(
            f"{path} has {', '.join(columns) or 'no row'}, and no column that is called as "
            f"questions are: {', '.join(_QUESTION_NAMES)}; rename it."
        )
    id_name = _first_named(_ID_NAMES, columns)
    return [
        ((_as_name(row.values.get(id_name)) if id_name else None) or f"row {row.line}", question)
        for row in rows
        if isinstance(question := row.values.get(name), str) and question.strip()
    ]


def read_perturbed(path: Path, examples: Sequence[Example]) -> list[Example]:
    """Examples as a file of perturbed queries asks them.

    Args:
        path: JSONL, CSV or Parquet with `question`, the perturbed one, and which example's it is:
            its `id`, or its question as `original`; an `answer` where it is another.
        examples: the examples.

    Raises:
        DataError: a row lacks one of these, or is of no example, or of one that had a row before.
    """
    by_id, by_question = {e.id: e for e in examples}, {e.question: e for e in examples}
    found: dict[str, Example] = {}
    for row in _rows(path):
        reason, example = "", None
        if isinstance(row, BadRow):
            reason = row.reason
        else:
            values = row.values
            of = by_question.get(str(values.get("original"))) or by_id.get(str(values.get("id")))
            question, answer = values.get("question"), _as_name(values.get("answer"))
            for rule in (AnswerRule("hash"), AnswerRule("boxed")):  # a whole solution, perhaps
                answer = (rule.find(values, answer) if answer else None) or answer
            if not isinstance(question, str) or not question.strip():
                reason = "there is no text in the field 'question'"
            elif of is None:
                reason = "neither its 'id' nor its 'original' is that of a training problem"
            elif of.id in found:
                reason = f"the problem '{of.id}' had a row before"
            else:
                example = replace(of, question=question)
                found[of.id] = with_answer(example, answer) if answer else example
        if reason:
            raise DataError(f"{path}, {_unit(path)} {row.line}: {reason}; correct the file.")
    if not found:
        raise DataError(f"{path} has no row; give a file with at least one.")
    return list(found.values())


def draw(examples: Sequence[Example], n: int | None, seed: int) -> tuple[Example, ...]:
    """`n` of the examples at random without replacement, in their order; all when n is None."""
    if n is None or n >= len(examples):
        return tuple(examples)
    return tuple(examples[i] for i in sorted(random.Random(seed).sample(range(len(examples)), n)))


def detect_fields(path: Path) -> Fields:
    """Guess the fields from common column names and from the first rows' solutions.

    DataError: the file cannot be read, or the guess fails; the message names the columns.
    """
    path = Path(path)
    rows = list(islice((r for r in _rows(path) if isinstance(r, _Row)), _ROWS_TO_DETECT_FROM))
    if not rows:
        raise DataError(f"{path} has no readable row; give a file with at least one.")
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    question = _first_named(_QUESTION_NAMES, columns)
    solution = _first_named(_SOLUTION_NAMES, [c for c in columns if c != question])
    if question is None or solution is None:
        missing = "question" if question is None else "solution"
        _cannot_detect(path, f"which one is the {missing}", columns)
    left = [column for column in columns if column not in (question, solution)]
    named = _first_named(_ANSWER_NAMES, left)
    rules = [
        *([AnswerRule("field", named)] if named else []),
        AnswerRule("hash"),
        AnswerRule("boxed"),
    ]
    for rule in rules:
        # Most, not all: one bad row must not change how the others are read.
        found = sum(rule.find(r.values, str(r.values.get(solution, ""))) is not None for r in rows)
        if found > len(rows) / 2:
            return Fields(question, solution, rule, _first_named(_ID_NAMES, left))
    return _cannot_detect(path, "where the final answer is", columns)


def likely_grader(fields: Fields) -> str:
    """`math` where the answer is boxed, `gsm8k` otherwise."""
    return "math" if fields.answer.kind == "boxed" else "gsm8k"


def choose_fields(
    path: Path, question: str | None, solution: str | None, answer: str | None
) -> Fields:
    """The fields that are named (`answer` as `AnswerRule.parse` reads it), the rest detected.

    DataError, UsageError: as `detect_fields` and `AnswerRule.parse`.
    """
    rule = AnswerRule.parse(answer) if answer else None
    if question and solution and rule:
        return Fields(question, solution, rule)
    found = detect_fields(path)
    return replace(
        found,
        question=question or found.question,
        solution=solution or found.solution,
        answer=rule or found.answer,
    )


def _first_named(names: tuple[str, ...], columns: list[str]) -> str | None:
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _cannot_detect(path: Path, what: str, columns: list[str]) -> NoReturn:
    raise DataError(
        f"{path} has the columns {', '.join(columns)}, and none of the usual names tells {what}; "
        "name the fields."
    )


class _BadRowError(Exception):
    """Why a row cannot be used."""


def _example(values: Mapping[str, Any], fields: Fields, earlier: Mapping[str, Example]) -> Example:
    """The example of a row. _BadRowError: there is none."""
    answer_field = fields.answer.argument if fields.answer.kind == "field" else None
    used = {fields.question, fields.solution, answer_field, fields.id} - {None}
    absent = sorted(column for column in used if column and column not in values)
    if absent:
        raise _BadRowError(f"there is no field {absent[0]!r} (there are: {', '.join(values)})")
    question = _text(values, fields.question)
    solution = _text(values, fields.solution)
    answer = fields.answer.find(values, solution)
    if answer is None:
        raise _BadRowError(f"the rule '{fields.answer}' finds no final answer")
    names = [
        name
        for name in values
        if (name not in used if fields.metadata is None else name in fields.metadata)
    ]
    metadata = {name: _as_scalar(values[name]) for name in names}
    for text in (question, solution, answer, *map(str, metadata.values())):
        _check_characters(text)
    id_ = (
        _content_id(question, solution, earlier)
        if fields.id is None
        else _given_id(values, fields.id, earlier)
    )
    return Example(id=id_, question=question, solution=solution, answer=answer, metadata=metadata)


def _text(values: Mapping[str, Any], column: str) -> str:
    value = values[column]
    if not isinstance(value, str):
        shown = "missing" if value is None else repr(value)[:40]
        raise _BadRowError(f"{column!r} is {shown}, not text")
    if not value.strip():
        raise _BadRowError(f"{column!r} is empty")
    return value


def _check_characters(text: str) -> None:
    if "\0" in text:
        raise _BadRowError("a text holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _BadRowError("a text is not valid UTF-8") from None


def _given_id(values: Mapping[str, Any], column: str, earlier: Mapping[str, Example]) -> str:
    id_ = (_as_name(values[column]) or "").strip()
    if not id_:
        raise _BadRowError(f"the id {column!r} is neither text nor a number")
    _check_characters(id_)
    if id_ in earlier:
        raise _BadRowError(f"the id {id_!r} was used before")
    return id_


def _content_id(question: str, solution: str, earlier: Mapping[str, Example]) -> str:
    digest = hashlib.sha256(f"{question}\0{solution}".encode()).hexdigest()[:12]
    repeats = 1
    while (id_ := digest if repeats == 1 else f"{digest}-{repeats}") in earlier:
        repeats += 1
    return id_


def _as_name(value: object) -> str | None:
    """An id or an answer as text; only text and finite numbers are one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return str(value)


def _as_scalar(value: object) -> str | int | float | bool | None:
    """A metadata value as something that JSON and a table column can hold."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return json.dumps(value, ensure_ascii=False, default=str)


def _rows(path: Path) -> Iterator[_Row | BadRow]:
    readers = {
        ".jsonl": _jsonl_rows,
        ".ndjson": _jsonl_rows,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} is of a type that cannot be read; give one of {', '.join(readers)}."
        )
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); give a readable file.") from None


def _unit(path: Path) -> str:
    return "row" if path.suffix.lower() == ".parquet" else "line"


def _jsonl_rows(path: Path) -> Iterator[_Row | BadRow]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if raw.strip(b" \t\r\n\xef\xbb\xbf"):
                yield _json_row(line, raw)


def _json_row(line: int, raw: bytes) -> _Row | BadRow:
    try:
        values = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
    except UnicodeDecodeError:
        return BadRow(line, "the line is not valid UTF-8")
    except json.JSONDecodeError as error:
        return BadRow(line, f"the line is not valid JSON ({error.msg}, column {error.colno})")
    except (ValueError, RecursionError):
        return BadRow(line, "the line is JSON that is nested too deeply or has too long a number")
    if not isinstance(values, dict):
        return BadRow(line, f"the line is {repr(values)[:40]}, not a JSON object")
    return _Row(line, values)


def _csv_rows(path: Path) -> Iterator[_Row | BadRow]:
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    # Undecodable bytes become surrogates here, and a bad row where they are used.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        header: list[str] | None = None
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if header is None:
                    raise DataError(
                        f"{path} has a header that is not valid CSV ({error}); correct it."
                    ) from None
                yield BadRow(line, _csv_reason(error))
                continue
            if not cells:
                continue
            if header is None:
                header = _checked_header(path, cells)
            elif len(cells) != len(header):
                yield BadRow(line, f"there are {len(cells)} columns, the header has {len(header)}")
            else:
                yield _Row(line, dict(zip(header, cells, strict=True)))


def _csv_reason(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quotation mark opened here is never closed and takes the rest of the file with it"
    return f"the line is not valid CSV ({error})"


def _checked_header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not all(names) or len(set(names)) < len(names):
        raise DataError(
            f"{path} has the header {', '.join(names)}, with an empty or repeated name; "
            "give each column its own name."
        )
    return names


def _parquet_rows(path: Path) -> Iterator[_Row | BadRow]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield _Row(number, values)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        first_line = str(error).partition("\n")[0]
        raise DataError(
            f"{path} is not a Parquet file that can be read ({first_line}); write it anew."
        ) from None
