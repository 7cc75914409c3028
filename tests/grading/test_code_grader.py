"""The grader `code`: programs with their tests, in a sandbox."""

import math
import time

import pytest

from premem_core.errors import UsageError
from premem_core.grading.built_in.code_grader import CodeGrader
from premem_core.grading.built_in.sandbox import protection
from premem_core.records import Example, Grade
from tests.grading.cases.code_cases import ADD, ROWS, TESTS

pytestmark = pytest.mark.skipif(bool(protection()), reason=protection())


def test_each_program_in_the_table_gets_its_grade():
    with CodeGrader(timeout=2, memory=512) as grader:
        graded = grader.grade([row[0] for row in ROWS], [row[1] for row in ROWS])
    for (_, _, expected, trap), result in zip(ROWS, graded, strict=True):
        assert result.grade == expected, trap
        assert (result.extracted is None) == (result.grade is Grade.UNPARSED), trap
    assert len(ROWS) >= 40


@pytest.mark.parametrize(
    "junk",
    ["(" * 100_000, "```\n" * 50_000, "~" * 300_000, "```python\n" + "-" * 100_000 + "1", "\ud800"],
    ids=lambda junk: junk[:12].encode(errors="replace").decode(),
)
def test_meaningless_texts_are_graded_in_seconds(junk):
    begun = time.monotonic()
    with CodeGrader(timeout=2) as grader:
        graded = grader.grade([junk, "x = 1"], ["", junk])
    assert {result.grade for result in graded} <= {*Grade}
    assert time.monotonic() - begun < 10


def test_the_same_program_is_run_once():
    with CodeGrader(timeout=1) as grader:
        slow = ADD + "import time; time.sleep(0.4)"
        begun = time.monotonic()
        graded = grader.grade([slow] * 20, [TESTS] * 20)
        graded += grader.grade([slow], [TESTS])
        assert {result.grade for result in graded} == {Grade.CORRECT}
        assert time.monotonic() - begun < 4


def test_the_reference_holds_the_tests_and_what_running_them_needs():
    example = Example("1", "def add(a, b):\n", "    return a + b", TESTS, {"entry_point": "add"})
    with CodeGrader() as grader:
        [graded] = grader.grade([example.solution], [grader.reference(example)])
    assert graded.grade is Grade.CORRECT


@pytest.mark.parametrize(
    "settings", [{"timeout": 0}, {"timeout": math.nan}, {"memory": 8}, {"memory": 10**30}]
)
def test_settings_that_no_program_can_run_with_are_refused(settings):
    with pytest.raises(UsageError, match="more than 0 seconds and 64 to 1048576 megabytes"):
        CodeGrader(**settings)
