"""Answer rules: a pattern that never ends is stopped, wherever it is used."""

import json
import time

import pytest

from premem_core.errors import UsageError
from premem_core.grading.graders import make_grader
from premem_core.grading.reference_check import check_references
from premem_core.problems.answer_rule import AnswerRule, SlowPatternError
from premem_core.problems.examples import read_examples
from premem_core.problems.fields import FieldNames, detect_fields
from premem_core.records import Example, Grade

SLOW = "regex:(a|aa)+c"
TEXT = "a" * 60 + "b"


def test_the_last_match_counts_and_its_first_group() -> None:
    assert AnswerRule.parse(r"regex:= (\d+)").find({}, "= 3 = 4.") == "4"
    assert AnswerRule.parse(r"regex:\d+").find({}, "3 and 4") == "4"
    assert AnswerRule.parse(r"regex:\d+").find({}, "none") is None
    with pytest.raises(UsageError, match="is not a regular expression"):
        AnswerRule.parse("regex:(")


def test_a_pattern_that_is_slow_on_a_text_is_refused_with_the_text() -> None:
    with pytest.raises(SlowPatternError, match=r"takes more than 0\.5 seconds on the text 'aaaa"):
        AnswerRule.parse(SLOW).find({}, TEXT)


def test_data_are_not_read_by_a_slow_pattern(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"question": "q", "solution": TEXT}) + "\n")
    fields = detect_fields(file, FieldNames(answer=SLOW))
    with pytest.raises(SlowPatternError):
        read_examples(file, fields, skip_bad=True)


def test_a_grader_gives_up_on_one_text_and_grades_the_others() -> None:
    with make_grader(f"gsm8k?rule={SLOW}") as grader:
        graded = grader.grade([TEXT, "#### 3", "<think>3"], ["3"] * 3)
    assert [one.grade for one in graded] == [Grade.TIMEOUT, Grade.CORRECT, Grade.UNPARSED]


def test_a_grader_whose_pattern_is_slow_on_the_solutions_is_refused_at_the_first() -> None:
    started = time.monotonic()
    with pytest.raises(SlowPatternError):
        check_references(f"gsm8k?rule={SLOW}", [Example(str(i), "q", TEXT, "3") for i in range(99)])
    assert time.monotonic() - started < 20
