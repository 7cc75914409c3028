"""Perturbed questions that the user gives, as a text around the question or as a file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from premem_core.errors import DataError, UsageError
from premem_core.problems.fields import AnswerRule
from premem_core.problems.perturbations import with_answer
from premem_core.problems.rows import BadRow, as_name, read_rows, row_unit
from premem_core.records import Example


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
    for row in read_rows(path):
        reason, example = "", None
        if isinstance(row, BadRow):
            reason = row.reason
        else:
            values = row.values
            of = by_question.get(str(values.get("original"))) or by_id.get(str(values.get("id")))
            question, answer = values.get("question"), as_name(values.get("answer"))
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
            raise DataError(f"{path}, {row_unit(path)} {row.line}: {reason}; correct the file.")
    if not found:
        raise DataError(f"{path} has no row; give a file with at least one.")
    return list(found.values())


def from_template(template: str, examples: Sequence[Example]) -> list[Example]:
    """The examples with their question inside a user's own text.

    Raises:
        UsageError: the text has no place for the question.
    """
    if "{question}" not in template:
        raise UsageError(
            f"the template {template!r} has no {{question}} in it; write where the question goes"
        )
    return [replace(e, question=template.replace("{question}", e.question)) for e in examples]
