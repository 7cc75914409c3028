"""Fields: which column holds what, and where the final answer stands."""

from pathlib import Path
from typing import Any

import pytest

from premem_core.errors import DataError, UsageError
from premem_core.problems.fields import AnswerRule, Fields, detect_fields
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
        ({"question": "q", "solution": "four"}, "question, solution.*where the final answer is"),
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
    with pytest.raises(UsageError, match=r"field:NAME, hash .*, boxed .* or regex:PATTERN"):
        AnswerRule.parse(rule)


def test_a_bad_answer_pattern_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
        AnswerRule.parse("regex:(")
