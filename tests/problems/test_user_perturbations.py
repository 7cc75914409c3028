"""Perturbations that a user brings: a file of questions, a text around the question."""

import json

import pytest

from premem_core.errors import DataError, UsageError
from premem_core.problems import user_perturbations
from premem_core.records import Example
from tests.helpers import tiny


def test_a_file_of_ones_own_is_matched_by_id_or_by_the_question(tmp_path):
    examples = tiny.sums(0, 3)
    file = tmp_path / "own.jsonl"
    rows = [
        {"id": examples[0].id, "question": "Add!"},
        {"original": examples[1].question, "question": "Sum?", "answer": 7},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    first, second = user_perturbations.read_perturbed(file, examples)
    assert (first.question, first.answer) == ("Add!", examples[0].answer)
    assert (second.id, second.answer, second.solution) == (examples[1].id, "7", "#### 7")
    for row, reason in (
        ({"id": "?", "question": "x"}, "line 3: neither its 'id' nor its 'original'"),
        ({"id": examples[0].id, "question": " "}, "line 3: there is no text in the field"),
        (
            {"id": examples[0].id, "question": "x"},
            "line 3: an earlier row is about the same problem",
        ),
    ):
        file.write_text("\n".join(map(json.dumps, [*rows, row])))
        with pytest.raises(DataError, match=reason):
            user_perturbations.read_perturbed(file, examples)


def test_a_template_of_ones_own_holds_the_question_verbatim():
    made = user_perturbations.from_template(
        "Please: {question} {x}",
        [Example("a", "How many?", "", ""), Example("b", "What is 2?", "", "")],
    )
    assert made[1].question == "Please: What is 2? {x}"
    with pytest.raises(UsageError, match=r"no \{question\} in it"):
        user_perturbations.from_template("Please", [])
