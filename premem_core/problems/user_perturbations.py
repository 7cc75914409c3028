"""Perturbations that the user defines: a text around the question, or a file of questions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from premem_core.errors import DataError, UsageError
from premem_core.problems.answer_rule import AnswerRule
from premem_core.problems.data_files import find_data_files
from premem_core.problems.perturbations import with_answer
from premem_core.problems.rows import BadRow, as_name, read_rows, row_unit
from premem_core.records import Example


def read_perturbed(path: Path, examples: Sequence[Example]) -> list[Example]:
    """The examples whose perturbed questions a file gives.

    Args:
        path: JSONL, CSV or Parquet. `question` is the perturbed question; `id` is the example's
            id, or else `original` is its original question; `answer` is the answer to the
            perturbed question, where it differs.
        examples: the training examples.

    Raises:
        DataError: the file cannot be read or has no row; or a row has no question, names no
            training example, or names one that an earlier row named.
    """
    by_id, by_question = {e.id: e for e in examples}, {e.question: e for e in examples}
    perturbed: dict[str, Example] = {}
    for row in read_rows(find_data_files(path)):
        reason = ""
        if isinstance(row, BadRow):
            reason = row.reason
        else:
            values = row.values
            example = by_question.get(str(values.get("original"))) or by_id.get(
                str(values.get("id"))
            )
            question, answer = values.get("question"), as_name(values.get("answer"))
            for rule in (AnswerRule("hash"), AnswerRule("boxed")):  # it may be a whole solution
                answer = (rule.find(values, answer) if answer else None) or answer
            if not isinstance(question, str) or not question.strip():
                reason = "there is no text in the field 'question'"
            elif example is None:
                reason = "neither its 'id' nor its 'original' is that of a training problem"
            elif example.id in perturbed:
                reason = f"an earlier row is about the same problem '{example.id}'"
            else:
                changed = replace(example, question=question)
                perturbed[example.id] = with_answer(changed, answer) if answer else changed
        if reason:
            raise DataError(f"{path}, {row_unit(path)} {row.line}: {reason}; correct the file.")
    if not perturbed:
        raise DataError(f"{path} has no row; give a file with at least one.")
    return list(perturbed.values())


def from_template(template: str, examples: Sequence[Example]) -> list[Example]:
    """The examples with their question filled into the user's template.

    Raises:
        UsageError: the template has no `{question}` in it.
    """
    if "{question}" not in template:
        raise UsageError(
            f"the template {template!r} has no {{question}} in it; add it where the question goes"
        )
    return [replace(e, question=template.replace("{question}", e.question)) for e in examples]
