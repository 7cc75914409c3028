"""Fields: which column holds what, and where the final answer stands."""

from pathlib import Path
from typing import Any

import pytest

from premem_core.errors import DataError, UsageError
from premem_core.problems.answer_rule import AnswerRule
from premem_core.problems.fields import (
    FieldNames,
    Fields,
    detect_fields,
    first_named,
)
from tests.helpers.data_files import ROW, write


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW, Fields("question", "answer", AnswerRule("hash"))),
        (
            {"problem": "p", "solution": "\\boxed{1}", "answer": "1", "unique_id": "u"},
            Fields("problem", "solution", AnswerRule("field", "answer"), "unique_id"),
        ),
        (
            {"instruction": "p", "output": "so 1", "gold": 1, "idx": 7},
            Fields("instruction", "output", AnswerRule("field", "gold"), "idx"),
        ),
        (
            {"Query": "p", "Response": "The answer: \\boxed{5}"},
            Fields("Query", "Response", AnswerRule("boxed")),
        ),
        (
            {"question": "q", "solution": "s #### 4", "label": None},
            Fields("question", "solution", AnswerRule("hash")),
        ),
        (
            {"prompt": "p", "completion": "c", "answer": "5"},
            # "answer" is the commoner name of a solution, but here it is the short one.
            Fields("prompt", "completion", AnswerRule("field", "answer")),
        ),
    ],
    ids=["gsm8k", "math", "instructions", "capitals", "empty label", "answer beside a completion"],
)
def test_fields_are_detected_from_common_names(
    tmp_path: Path, row: dict[str, Any], expected: Fields
) -> None:
    assert detect_fields(write(tmp_path / "d.jsonl", row)) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"foo": "q", "solution": "#### 4"}, "foo, solution.*which one is the question"),
        ({"question": "q", "foo": "#### 4"}, "question, foo.*which one is the solution"),
        (
            {"question": "q", "solution": "four"},
            "where the final answer is; say where with --answer",
        ),
        ({"text": "<|user|>2+2?<|assistant|>4"}, "a rendered text does not say where"),
    ],
)
def test_fields_that_cannot_be_detected_are_an_error_with_the_columns(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        detect_fields(write(tmp_path / "d.jsonl", row))


@pytest.mark.parametrize(
    ("rule", "solution", "answer"),
    [
        ("field:gold", "", "7"),
        ("hash", "#### 1\n#### 1,234 ", "1,234"),
        ("hash", "####", None),
        ("boxed", "\\boxed{1} \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("boxed", "\\boxed{1", None),
        (r"regex:A: (\d+)", "A: 1, A: 23", "23"),
        (r"regex:\d+", "1, 23", "23"),
        (r"regex:A(\d)?", "A", None),
        ("regex:x:y", "x:y", "x:y"),
        ("field:absent", "", None),
    ],
)
def test_an_answer_rule_finds_the_last_final_answer(
    rule: str, solution: str, answer: str | None
) -> None:
    parsed = AnswerRule.parse(rule)
    assert parsed.find({"gold": 7}, solution) == answer
    assert AnswerRule.parse(str(parsed)) == parsed


@pytest.mark.parametrize("rule", ["", "box", "field", "field:", "regex:", "hash:x", "hash:", ":"])
def test_an_unknown_answer_rule_is_refused(rule: str) -> None:
    with pytest.raises(
        UsageError, match=r"field:NAME, hash .*, boxed .*, stated .*, regex:PATTERN or solution"
    ):
        AnswerRule.parse(rule)


def test_a_bad_answer_pattern_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
        AnswerRule.parse("regex:(")


def named(path: Path, question=None, solution=None, answer=None, split="train") -> Fields:
    return detect_fields(path, FieldNames(question, solution, answer), split)


def test_each_field_that_is_named_counts_and_the_others_are_detected(tmp_path: Path) -> None:
    row = {"ask": "q", "solution": "so 4 #### 4", "id": 7, "gold": "5"}
    path = write(tmp_path / "d.jsonl", row)
    gold = AnswerRule("field", "gold")
    assert named(path, "ask") == Fields("ask", "solution", gold, "id")
    assert named(path, "ask", answer="hash") == Fields("ask", "solution", AnswerRule("hash"), "id")
    assert named(path, "ask", "gold", "hash") == Fields("ask", "gold", AnswerRule("hash"), "id")
    with pytest.raises(DataError, match="which one is the question"):
        named(path, None, "solution", "hash")
    with pytest.raises(DataError, match="has no field 'reply'; it has ask, solution"):
        named(path, "ask", "reply")
    with pytest.raises(DataError, match="has no field 'right'"):
        named(path, "ask", answer="field:right")
    with pytest.raises(UsageError, match="not a rule"):
        named(path, "ask", "solution", "box")


def test_a_test_file_may_have_other_names_and_answers_without_solutions(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", {"problem": "q", "answer": "4"})
    expected = Fields("problem", "answer", AnswerRule("field", "answer"))
    assert named(path, "ask", "solution", "hash", split="test") == expected
    with pytest.raises(DataError, match="where the final answer is"):
        named(path)


def test_one_bad_row_does_not_change_how_the_others_are_read(tmp_path: Path) -> None:
    rows = [{"question": "q", "solution": "s #### 4"}] * 3
    bad = {"question": "q", "solution": r"\boxed{4}"}
    assert detect_fields(write(tmp_path / "d.jsonl", bad, *rows)).answer == AnswerRule("hash")
    assert detect_fields(write(tmp_path / "e.jsonl", bad, bad, *rows[:1])).answer == AnswerRule(
        "boxed"
    )


def test_the_first_of_the_names_is_taken_in_any_case() -> None:
    assert first_named(("question", "problem"), ["Problem", " QUESTION "]) == " QUESTION "
    assert first_named(("id",), ["id", "ID"]) == "id"
    assert first_named(("id",), ["idx"]) is None
