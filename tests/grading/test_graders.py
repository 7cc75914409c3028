"""Grading: the table of traps, GSM8K against itself, junk, and the killing of hung workers."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from premem_core.errors import UsageError
from premem_core.grading.built_in.math_grader import MathGrader
from premem_core.grading.built_in.numbers import number
from premem_core.grading.built_in.paper_grader import is_equiv
from premem_core.grading.grader import Grader
from premem_core.grading.graders import GRADERS, check_grader, make_grader
from premem_core.records import Example, Grade
from tests.grading.cases import (
    choice_cases,
    exact_cases,
    gsm8k_cases,
    json_cases,
    math_cases,
    number_cases,
    paper_cases,
)
from tests.grading.cases.case import Case
from tests.helpers.paths import GSM8K, GSM8K_SLICE

NAMES = [name for name in GRADERS if name != "code"]  # which needs a sandbox: test_code_grader
TABLES = {
    "gsm8k": gsm8k_cases,
    "math": math_cases,
    "paper": paper_cases,
    "choice": choice_cases,
    "exact": exact_cases,
    "json": json_cases,
}
CASES = [Case(grader, *row) for grader, table in TABLES.items() for row in table.ROWS]
CASES += [Case(*row) for row in number_cases.ROWS]

POWER_TOWER = r"\boxed{9^{9^{9^{9}}}}"

JUNK = st.one_of(
    st.text(),
    st.text(alphabet=st.characters()),  # with lone surrogates
    st.lists(
        st.sampled_from(
            [
                "#### ", "The answer is", "The answer is: ", "\\boxed{", "\\fbox{", "}", "{", "$",
                "\\frac", "\\sqrt", "\\text{ ", "1", "0", "9" * 50, "/", "e", ",", ".", "-", "^",
                "=", "\n", " ", "**", "\\(", "\\)", "%", "\\", "million", "²", "١", "½", "\0",
            ]
        ),
        max_size=20,
    ).map("".join),
)  # fmt: skip


@pytest.fixture(scope="module")
def graders() -> Iterator[dict[str, Grader]]:
    texts = {*NAMES, *(case.grader for case in CASES)}
    made = {text: make_grader(text) for text in texts}
    yield made
    for grader in made.values():
        grader.close()


@pytest.fixture
def quick() -> Iterator[MathGrader]:
    with MathGrader(timeout=1.0, workers=1) as grader:
        yield grader


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.grader}: {case.trap}")
def test_each_pair_in_the_table_gets_its_grade(case: Case, graders: dict[str, Grader]) -> None:
    [graded] = graders[case.grader].grade([case.completion], [case.reference])
    assert graded.grade == case.expected, f"extracted {graded.extracted!r}"
    assert (graded.extracted is None) == (graded.grade is Grade.UNPARSED)


def test_each_grader_has_at_least_40_cases_and_no_pair_is_there_twice() -> None:
    assert min(Counter(case.grader.partition("?")[0] for case in CASES).values()) >= 40
    assert len({(case.completion, case.reference, case.grader) for case in CASES}) == len(CASES)


def gsm8k_solutions(split: str, folder: Path = GSM8K_SLICE) -> list[str]:
    file = folder / f"{split}.jsonl"
    if not file.exists():
        pytest.skip(f"needs all of GSM8K, which is not at {file}")
    return [json.loads(line)["answer"] for line in file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("folder", "split", "rows"),
    [
        (GSM8K_SLICE, "train", 300),
        (GSM8K_SLICE, "test", 300),
        (GSM8K, "train", 7473),
        (GSM8K, "test", 1319),
    ],
)
def test_every_gsm8k_solution_is_correct_against_itself_and_its_final_answer(
    folder: Path, split: str, rows: int
) -> None:
    solutions = gsm8k_solutions(split, folder)
    answers = [solution.partition("#### ")[2] for solution in solutions]
    grader = make_grader("gsm8k")
    assert len(solutions) == rows
    assert {g.grade for g in grader.grade(solutions, solutions)} == {Grade.CORRECT}
    assert {g.grade for g in grader.grade(solutions, answers)} == {Grade.CORRECT}


@pytest.mark.parametrize(
    ("folder", "split", "rejected"),
    [(GSM8K_SLICE, "train", 0), (GSM8K, "train", 2), (GSM8K, "test", 0)],
)
def test_the_paper_grader_rejects_two_gsm8k_solutions_against_themselves_and_no_others(
    folder: Path, split: str, rejected: int
) -> None:
    # Their reasoning says "The answer is", which the published code prefers to the hash mark.
    solutions = gsm8k_solutions(split, folder)
    grades = [g.grade for g in make_grader("paper").grade(solutions, solutions)]
    assert (grades.count(Grade.INCORRECT), grades.count(Grade.CORRECT)) == (
        rejected,
        len(solutions) - rejected,
    )


def test_the_math_grader_agrees_with_gsm8k_on_its_own_answers(graders: dict[str, Grader]) -> None:
    solutions = gsm8k_solutions("test")
    # Written with cents, so that no pair is settled by being the same string.
    completions = [solution.replace(",", "") + ".00" for solution in solutions]
    assert {g.grade for g in graders["math"].grade(completions, solutions)} == {Grade.CORRECT}


@pytest.mark.parametrize("name", ["gsm8k", "paper", "choice", "exact", "number", "json"])
@settings(max_examples=100)
@given(completion=JUNK, reference=JUNK)
def test_no_text_makes_a_grader_raise(name: str, completion: str, reference: str) -> None:
    [graded] = make_grader(name).grade([completion], [reference])
    assert graded.grade in (Grade.CORRECT, Grade.INCORRECT, Grade.UNPARSED)


@settings(max_examples=10)
@given(pairs=st.lists(st.tuples(JUNK, JUNK), max_size=20))
def test_no_text_makes_the_math_grader_raise(
    graders: dict[str, Grader], pairs: list[tuple[str, str]]
) -> None:
    graded = graders["math"].grade([f"\\boxed{{{c}}}" for c, _ in pairs], [r for _, r in pairs])
    assert len(graded) == len(pairs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "junk",
    [
        r"\boxed{" * 50_000,
        r"\boxed{" * 20_000 + "1" + "}" * 20_000,
        "The answer is " * 50_000,
        "####" * 100_000,
        "#### " + "1," * 50_000,
        "#### " + "1 " * 400,
        "#### " + "9" * 100_000,
        "The answer is " + "$" * 100_000,
        "\n" * 300_000,
    ],
    ids=lambda junk: junk[:16],
)
def test_a_huge_junk_text_is_graded_in_seconds(
    name: str, junk: str, graders: dict[str, Grader]
) -> None:
    start = time.monotonic()
    assert len(graders[name].grade([junk], ["18"])) == 1
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("name", NAMES)
def test_as_many_references_as_completions_are_needed(
    name: str, graders: dict[str, Grader]
) -> None:
    with pytest.raises(ValueError, match="argument"):
        graders[name].grade(["#### 1", "#### 2"], ["1"])
    assert graders[name].grade([], []) == []


def test_an_unknown_grader_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(UsageError, match=r"'magic'.*gsm8k, math, paper, choice, exact"):
        make_grader("magic")


def test_the_paper_grades_against_solutions_and_the_others_against_answers() -> None:
    example = Example("1", "2 + 2 = ?", "It is 4.\n#### 4", "4")
    against = {name: make_grader(name).reference(example) for name in NAMES}
    assert against == dict.fromkeys(NAMES, "4") | {"paper": "It is 4.\n#### 4"}


def test_a_hung_pair_is_a_timeout_and_its_neighbours_are_still_graded(quick: MathGrader) -> None:
    completions = [r"\boxed{0.5}", POWER_TOWER, r"\boxed{3}", "no answer"]
    graded = quick.grade(completions, [r"\frac12"] * 4)
    assert [g.grade for g in graded] == [
        Grade.CORRECT,
        Grade.TIMEOUT,
        Grade.INCORRECT,
        Grade.UNPARSED,
    ]
    assert graded[1].extracted == "9^{9^{9^{9}}}"


def test_a_timeout_is_remembered_and_the_next_pair_is_graded(quick: MathGrader) -> None:
    assert quick.grade([POWER_TOWER], ["5"])[0].grade is Grade.TIMEOUT
    start = time.monotonic()
    assert quick.grade([POWER_TOWER], ["5"])[0].grade is Grade.TIMEOUT
    assert time.monotonic() - start < 0.1
    assert quick.grade([r"\boxed{5.0}"], ["5"])[0].grade is Grade.CORRECT


def test_workers_are_gone_after_close_even_when_one_was_killed() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with MathGrader(timeout=1.0, workers=2) as grader:
        grader.grade([r"\boxed{0.5}", POWER_TOWER], [r"\frac12", "5"])
        assert set(psutil.Process().children(recursive=True)) - before
    tracker = _resource_tracker()
    left = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.pid not in before and child.pid != tracker
    ]
    assert left == []


def _resource_tracker() -> int | None:
    # Python keeps one helper process per interpreter, started with the first spawn.
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]


def test_a_closed_math_grader_starts_again_when_it_is_asked() -> None:
    grader = MathGrader(workers=1)
    grader.close()
    assert grader.grade([r"\boxed{0.5}"], [r"\frac12"])[0].grade is Grade.CORRECT
    grader.close()


def test_a_number_is_exact() -> None:
    assert number("0.1") != number("0.1000000000000000055")
    assert number("1e9999") is not None
    assert number("1e10000") is None


def test_paper_equivalence_treats_two_missing_answers_as_equal_as_published() -> None:
    assert is_equiv(None, None)
    assert not is_equiv(None, "5")


@pytest.mark.parametrize(
    "text",
    [
        *("code?workers=-1", "code?workers=0", "code?timeout=nan", "code?timeout=inf"),
        *("math?workers=-1", "math?timeout=0", "math?timeout=nan", "math?timeout=1e300"),
        "judge?endpoint=http://localhost/v1&model=m&at_once=0",
        "judge?endpoint=http://localhost/v1&model=m&max_tokens=-1",
    ],
)
def test_a_number_that_a_setting_cannot_have_is_refused(text: str) -> None:
    setting = text.replace("&", "?").split("?")[-1].partition("=")[0]
    with pytest.raises(UsageError, match=f"the setting '{setting}' of .* cannot be .*; correct it"):
        check_grader(text)
