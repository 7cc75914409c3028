"""A grader is checked on the data's own solutions, and guessed from them."""

import json

import pytest

from premem_core.errors import DataError, UsageError
from premem_core.grading.built_in.math_grader import MathGrader
from premem_core.grading.reference_check import (
    SAMPLE,
    check_references,
    guess_grader,
    require_readable,
)
from premem_core.problems.fields import AnswerRule
from premem_core.records import Example
from tests.helpers.paths import GSM8K_SLICE


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    """Equal texts need no comparison; a check that starts processes would take seconds."""
    monkeypatch.setattr(MathGrader, "_started_pool", lambda self: pytest.fail("a worker started"))


def examples(*rows: tuple[str, str], question: str = "") -> list[Example]:
    return [Example(str(n), question, *row) for n, row in enumerate(rows)]


LATEX = examples(
    (r"Both roots count: \boxed{\pm 2}.", r"\pm 2"),
    (r"All but 2: \boxed{(-\infty,2)\cup(2,\infty)}.", r"(-\infty,2)\cup(2,\infty)"),
    (r"\boxed{\text{Evelyn}}.", r"\text{Evelyn}"),
)
LABELLED = examples(("1+1 makes 2.\nResult -> 2", "2"), ("2+2 makes 4.\nResult -> 4", "4"))
LETTERS = examples(("Four. The answer is B.", "B"), question="2+2?\nA) 3\nB) 4")
DIGITS = examples(("2", "2"), ("1", "1"), question="2+2?\n1) 3\n2) 4")
HASHES = examples(("3*6=18\n#### 18", "18"), ("#### 1,000", "1,000"))
WORDS = examples(("It is large. The answer is Paris.", "Paris"), ("#### Rome", "Rome"))
BELOW = examples(("Sum.\n\nThe answer is:\n\n7", "7"), ("The answer is:\n\n12", "12"))
ALONE = examples(("Sum.\n7", "7"), ("Sum.\n8", "8"), ("Sum.\n12 #### 12", "12"))
LONG = examples(("So\nthe man\nsays no", "no"), ("And\nhe\nsays yes", "yes"))


@pytest.mark.parametrize(
    ("data", "rule", "grader"),
    [
        (LATEX, None, "math"),
        (LETTERS, None, "choice"),
        (DIGITS, None, "choice"),
        (HASHES, None, "gsm8k"),
        (WORDS, None, "exact"),
        (BELOW, None, "gsm8k"),
        (LABELLED, "regex:Result -> (.*)", "gsm8k?rule=regex:Result%20-%3E%20(.*)"),
        (HASHES, "hash", "gsm8k?rule=hash"),
        (HASHES, "field:gold", "gsm8k"),
        (LONG, r"regex:\w+\Z", r"exact?rule=regex:\w%2B\Z"),
    ],
)
def test_the_grader_that_reads_the_solutions_is_guessed(data, rule, grader):
    guessed = guess_grader(data, rule and AnswerRule.parse(rule))
    assert guessed == grader
    require_readable(check_references(guessed, data))


def test_numbers_without_options_are_no_choices():
    # Alone in the last line, each is as short as a letter.
    assert check_references("choice", ALONE).failed < check_references("gsm8k", ALONE).failed
    assert guess_grader(ALONE) != "choice"


def test_all_of_gsm8k_is_read_by_its_grader():
    lines = (GSM8K_SLICE / "train.jsonl").read_text("utf-8").splitlines()
    solutions = [json.loads(line)["answer"] for line in lines]
    data = [Example(s, "", s, s.partition("#### ")[2]) for s in solutions]
    assert guess_grader(data) == "gsm8k"
    assert (check := check_references("gsm8k", data)).failed == 0
    assert (check.n, check.share, check.example) == (300, 1.0, None)


def test_where_no_grader_reads_all_the_one_that_reads_most_is_guessed():
    data = examples(*[(f"#### {n}", str(n)) for n in range(9)], ("I do not know", "5"))
    assert guess_grader(data) == "gsm8k"
    check = check_references("gsm8k", data)
    assert (check.n, check.failed, check.extracted) == (10, 1, None)
    assert check.example is data[-1]
    require_readable(check)


def test_a_grader_that_cannot_read_half_is_refused_with_an_example():
    check = check_references("gsm8k", LATEX)
    assert (check.failed, check.share) == (3, 0)
    with pytest.raises(DataError) as refused:
        require_readable(check)
    assert str(refused.value) == (
        "the grader gsm8k calls only 0 of 3 training solutions correct against their own answers: "
        r"the solution of example '0' ends with 'Both roots count: \\boxed{\\pm 2}.', where it "
        r"finds no answer, and its answer is '\\pm 2'; give another --grader, or say where the "
        "answer is with --answer"
    )


def test_a_large_file_is_sampled_the_same_each_time():
    data = examples(*[(f"#### {n}", str(n)) for n in range(3 * SAMPLE)])
    data[::7] = [Example("bad", "", "#### x", "5")] * len(data[::7])
    check, again = (check_references("gsm8k", data) for _ in range(2))
    assert check == again
    assert check.n == SAMPLE
    assert 0.8 < check.share < 0.92


def test_a_judge_is_not_paid_for_a_check(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    text = "judge?endpoint=http://127.0.0.1:1/v1&model=m"
    check = check_references(text, HASHES, allow_code=True)
    assert (check.n, check.share) == (0, 1.0)
    require_readable(check)


def test_without_examples_there_is_nothing_to_guess_from():
    with pytest.raises(UsageError, match="no examples to choose a grader for"):
        guess_grader([])
