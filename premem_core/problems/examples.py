"""Examples: the rows of a data file as problems with a question, a solution and a final answer."""

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premem_core.errors import DataError
from premem_core.problems.fields import ID_NAMES, QUESTION_NAMES, Fields, detect_fields, first_named
from premem_core.problems.rows import (
    BadRow,
    BadRowError,
    Row,
    as_name,
    check_characters,
    read_rows,
    row_unit,
)
from premem_core.records import Example


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of a data file, the fields that were used, and the rows that were left out."""

    path: Path
    fields: Fields
    examples: tuple[Example, ...]
    skipped: tuple[BadRow, ...] = ()


def read_examples(path: Path, fields: Fields | None = None, *, skip_bad: bool = False) -> Dataset:
    """The examples of a `.jsonl`, `.ndjson`, `.csv` or `.parquet` file.

    An example's id is the value of the id column. Without such a column it is 12 hexadecimal
    digits of the SHA-256 of question and solution, so that it does not depend on the order of the
    rows; a repeated row gets "-2", "-3" and so on at its end.

    Args:
        fields: which column holds what; by default they are detected.
        skip_bad: leave bad rows out instead of raising an error.

    Raises:
        DataError: the file cannot be read, has no usable row, or has a bad row without
            `skip_bad`; the message names the file, the first bad line and the reason.
    """
    path = Path(path)
    fields = fields or detect_fields(path)
    examples: dict[str, Example] = {}
    bad: list[BadRow] = []
    for row in read_rows(path):
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            example = _example(row.values, fields, examples)
        except BadRowError as error:
            bad.append(BadRow(row.line, str(error)))
        else:
            examples[example.id] = example
    if bad and not skip_bad:
        more = f" ({len(bad) - 1} more bad rows follow)" if len(bad) > 1 else ""
        raise DataError(
            f"{path}, {row_unit(path)} {bad[0].line}: {bad[0].reason}{more}; nothing was imported: "
            "correct the file, or leave bad rows out with --skip-bad."
        )
    if not examples:
        counted = f"; all {len(bad)} rows are bad, the first because {bad[0].reason}" if bad else ""
        raise DataError(f"{path} has no usable row{counted}; give a file with at least one.")
    return Dataset(path, fields, tuple(examples.values()), tuple(bad))


def read_questions(path: Path) -> list[tuple[str, str]]:
    """The id and the question of each row of a file that needs no other columns.

    Where a row has no id, its line is the id. Rows without a question are left out.

    Raises:
        DataError: the file cannot be read, or has no column of questions.
    """
    path = Path(path)
    rows = [row for row in read_rows(path) if isinstance(row, Row)]
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    name = first_named(QUESTION_NAMES, columns)
    if name is None:
        raise DataError(
            f"{path} has the columns {', '.join(columns) or '(none)'}; expected a column of "
            f"questions named {', '.join(QUESTION_NAMES)}; rename it."
        )
    id_name = first_named(ID_NAMES, columns)
    return [
        ((as_name(row.values.get(id_name)) if id_name else None) or f"row {row.line}", question)
        for row in rows
        if isinstance(question := row.values.get(name), str) and question.strip()
    ]


def draw(examples: Sequence[Example], n: int | None, seed: int) -> tuple[Example, ...]:
    """A random sample of `n` examples without replacement, in their order; all if n is None."""
    if n is None or n >= len(examples):
        return tuple(examples)
    return tuple(examples[i] for i in sorted(random.Random(seed).sample(range(len(examples)), n)))


def _example(values: Mapping[str, Any], fields: Fields, earlier: Mapping[str, Example]) -> Example:
    """The example of a row.

    Raises:
        BadRowError: the row cannot be used.
    """
    answer_field = fields.answer.argument if fields.answer.kind == "field" else None
    used = {fields.question, fields.solution, answer_field, fields.id} - {None}
    absent = sorted(column for column in used if column and column not in values)
    if absent:
        raise BadRowError(f"there is no field {absent[0]!r} (there are: {', '.join(values)})")
    question = _text(values, fields.question)
    solution = _text(values, fields.solution)
    answer = fields.answer.find(values, solution)
    if answer is None:
        raise BadRowError(f"the rule '{fields.answer}' finds no final answer")
    names = [
        name
        for name in values
        if (name not in used if fields.metadata is None else name in fields.metadata)
    ]
    metadata = {name: _as_scalar(values[name]) for name in names}
    for text in (question, solution, answer, *map(str, metadata.values())):
        check_characters(text)
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
        raise BadRowError(f"{column!r} is {shown}, not text")
    if not value.strip():
        raise BadRowError(f"{column!r} is empty")
    return value


def _given_id(values: Mapping[str, Any], column: str, earlier: Mapping[str, Example]) -> str:
    id_ = (as_name(values[column]) or "").strip()
    if not id_:
        raise BadRowError(f"the id in {column!r} is neither text nor a number")
    check_characters(id_)
    if id_ in earlier:
        raise BadRowError(f"the id {id_!r} was used before")
    return id_


def _content_id(question: str, solution: str, earlier: Mapping[str, Example]) -> str:
    digest = hashlib.sha256(f"{question}\0{solution}".encode()).hexdigest()[:12]
    repeats = 1
    while (id_ := digest if repeats == 1 else f"{digest}-{repeats}") in earlier:
        repeats += 1
    return id_


def _as_scalar(value: object) -> str | int | float | bool | None:
    """A metadata value as a scalar that JSON and a table column can hold."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return json.dumps(value, ensure_ascii=False, default=str)
