import itertools
import re

import pytest

from premem_core.demo.word_problems import (
    FAMILIAR_VERBS,
    GAINS,
    LOSSES,
    make_problems,
    pretraining_texts,
    variants,
)
from premem_core.errors import DataError, UsageError
from premem_core.problems.final_answers import after_hashes
from premem_core.records import Example

PROBLEMS = make_problems(400, seed=1)
EQUATION = re.compile(r"(\d+) ([-+]) (\d+) = (\d+)")


def answer_from_the_question(question: str) -> int:
    """Reads the story with a grammar of its own, independent of the generator's bookkeeping."""
    words = "|".join(["has", "owns", "are", *GAINS, *LOSSES])
    (_, total), *events = re.findall(rf"({words}) (\d+)", question)
    return int(total) + sum(int(n) if verb in GAINS else -int(n) for verb, n in events)


def test_the_answer_follows_from_the_question_alone():
    assert [answer_from_the_question(p.question) for p in PROBLEMS] == [
        int(p.answer) for p in PROBLEMS
    ]


def test_every_equation_in_a_solution_is_right():
    for problem in PROBLEMS:
        equations = EQUATION.findall(problem.solution)
        assert len(equations) == problem.metadata["steps"]
        for left, sign, right, result in equations:
            a, b = int(left), int(right)
            assert {"+": a + b, "-": a - b}[sign] == int(result), problem.solution


def test_a_solution_ends_with_its_answer_as_in_gsm8k():
    for problem in PROBLEMS:
        assert problem.solution.splitlines()[-1] == f"#### {problem.answer}"
        assert after_hashes(problem.solution) == [problem.answer]


def test_the_same_seed_gives_the_same_problems_and_smaller_sets_nest():
    assert make_problems(50, seed=1) == PROBLEMS[:50]
    assert make_problems(50, seed=2) != PROBLEMS[:50]


def test_questions_are_distinct_and_excluded_ones_never_come_back():
    train = make_problems(5, seed=3)
    again = make_problems(200, seed=3, exclude={p.question for p in train[:3]})
    questions = {p.question for p in again}
    assert len(questions) == 200
    assert not questions & {p.question for p in train[:3]}


def test_a_step_can_be_worded_in_many_ways():
    first_lines = {p.solution.splitlines()[0] for p in make_problems(300, seed=0, steps=(2,))}
    shapes = {re.sub(r"\d+|[A-Z][a-z]+", "_", line) for line in first_lines}
    assert len(shapes) > 50


def test_metadata_names_the_verbs_in_the_order_of_the_story():
    for problem in PROBLEMS[:50]:
        verbs = problem.metadata["verbs"]
        found = [w for w in re.findall(r"\w+", problem.question) if w in {*GAINS, *LOSSES}]
        assert found == verbs
        assert problem.metadata["steps"] == len(verbs)


def test_variants_keep_the_verbs_and_change_the_question():
    seed = PROBLEMS[0]
    new = variants(seed, 20, seed=5)
    assert {tuple(p.metadata["verbs"]) for p in new} == {tuple(seed.metadata["verbs"])}
    assert len({p.question for p in new} | {seed.question}) == 21
    assert variants(seed, 20, seed=5) == new


def test_variants_of_a_foreign_example_are_refused():
    with pytest.raises(DataError, match="holds none of the verbs"):
        variants(Example("1", "2+2?", "#### 4", "4"), 1, seed=0)


def test_an_unknown_verb_or_no_step_is_refused():
    with pytest.raises(UsageError, match="juggles"):
        make_problems(1, seed=0, verbs=("juggles",))
    with pytest.raises(UsageError, match="at least 1 step"):
        make_problems(1, seed=0, steps=(0,))


def test_pretraining_never_solves_a_problem_with_more_than_two_steps_or_an_unfamiliar_verb():
    texts = list(itertools.islice(pretraining_texts(0), 1000))
    solved = [text.split("\nAnswer:")[0] for text in texts if "\nAnswer:" in text]
    unsolved = [text for text in texts if text.endswith("?")]
    assert 600 < len(solved) < 700
    for question in solved:
        verbs = [w for w in re.findall(r"\w+", question) if w in {*GAINS, *LOSSES}]
        assert len(verbs) <= 2
        assert set(verbs) <= set(FAMILIAR_VERBS)
    assert {*GAINS, *LOSSES} <= set(re.findall(r"\w+", " ".join(unsolved)))


def test_equations_in_pretraining_are_right():
    text = "\n".join(itertools.islice(pretraining_texts(1), 300))
    for left, sign, right, result in EQUATION.findall(text):
        a, b = int(left), int(right)
        assert {"+": a + b, "-": a - b}[sign] == int(result)
