"""Examples: the rows of data files as problems with a question, a solution and a final answer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from premem_core.errors import DataError
from premem_core.problems.data_files import Source, Split, find_data_files, source_name
from premem_core.problems.fields import ID_NAMES, QUESTION_NAMES, Fields, detect_fields, first_named
from premem_core.problems.row_examples import examples_of_row
from premem_core.problems.rows import BadRow, BadRowError, Row, as_name, read_rows
from premem_core.records import Example


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of data files, the fields that were used, and the rows that were left out."""

    source: Source
    fields: Fields
    examples: tuple[Example, ...]
    skipped: tuple[BadRow, ...] = ()

    @property
    def name(self) -> str:
        """The source as messages name it."""
        return source_name(self.source)

    @property
    def has_conversations(self) -> bool:
        """Whether some example comes from a chat."""
        return any(example.conversation for example in self.examples)

    def fields_in_words(self) -> str:
        """Which columns are read as what, and which are kept aside."""
        question, solution = self.fields.question, self.fields.solution
        words = f"question in '{question}', solution in '{solution}'"
        if solution is None:
            words = f"turns in '{question}'"
        aside = ", ".join(f"'{name}'" for name in self.examples[0].metadata)
        return f"fields: {words}, answer by {self.fields.answer}; only kept: {aside or 'none'}"


def read_examples(
    source: Source,
    fields: Fields | None = None,
    *,
    skip_bad: bool = False,
    split: Split = "train",
) -> Dataset:
    """The examples of data files: rows → conversations → examples.

    An example's id is the value of the id column. Without such a column it is 12 hexadecimal
    digits of the SHA-256 of question and solution (of a conversation, all turns), so that it does
    not depend on the order of the rows; a repeated row gets "-2", "-3" and so on at its end. Where
    a row makes several examples, those after the first get these endings too.

    Args:
        source: as `find_data_files`.
        fields: which column holds what; by default they are detected.
        skip_bad: leave bad rows out instead of raising an error.
        split: which split of a folder is meant.

    Raises:
        DataError: the data cannot be read, has no usable row, or has a bad row without
            `skip_bad`; the message names the file, the first bad line and the reason.
    """
    fields = fields or detect_fields(source, split=split)
    examples: dict[str, Example] = {}
    bad: list[BadRow] = []
    for row in read_rows(find_data_files(source, split)):
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            found = examples_of_row(row.values, fields, examples)
        except BadRowError as error:
            bad.append(BadRow(row.line, str(error), row.file))
        else:
            examples |= {example.id: example for example in found}
    if bad and not skip_bad:
        more = f" ({len(bad) - 1} more bad rows follow)" if len(bad) > 1 else ""
        raise DataError(
            f"{bad[0].place}: {bad[0].reason}{more}; nothing was imported: "
            "correct the file, or leave bad rows out (--skip-bad)."
        )
    if not examples:
        counted = f"; all {len(bad)} rows are bad, the first because {bad[0].reason}" if bad else ""
        name = source_name(source)
        raise DataError(f"{name} has no usable row{counted}; give a file with at least one.")
    return Dataset(source, fields, tuple(examples.values()), tuple(bad))


def read_questions(path: Path) -> list[tuple[str, str]]:
    """The id and the question of each row of a file that needs no other columns.

    Where a row has no id, its line is the id. Rows without a question are left out.

    Raises:
        DataError: the file cannot be read, or has no column of questions.
    """
    rows = [row for row in read_rows(find_data_files(Path(path))) if isinstance(row, Row)]
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


def draw_first(examples: Sequence[Example], n: int | None, seed: int) -> tuple[Example, ...]:
    """As `draw`, but a larger sample contains every smaller one."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    return tuple(examples[i] for i in sorted(order[:n]))
