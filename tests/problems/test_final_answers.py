r"""Final answers in texts: `#### x`, "The answer is x", `\boxed{x}`, and what is none."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.problems.final_answers import after_answer_is, after_hashes, boxed, unwrapped


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("#### 18", ["18"]),
        ("#### 1\n#### 2", ["1", "2"]),
        ("#####5", ["5"]),
        ("### 5", []),
        ("####", []),
        ("#### 5 #### 6", ["5", "6"]),
        ("the last number is 7", []),
    ],
)
def test_an_answer_follows_at_least_four_hashes(text, answers):
    assert after_hashes(text) == answers


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("The answer is 5.", ["5"]),
        ("the ANSWER IS: 5", ["5"]),
        ("Final answer: 3.5 apples. Done.", ["3.5 apples"]),
        ("The answer is $3$. The answer is $4$.", ["3", "4"]),
        ("**The answer is 18**", ["18"]),
        ("The answer is\n5", []),
        ("The answers are 5 and 6.", []),
        ("The answer isn't 5.", []),
    ],
)
def test_an_answer_is_the_rest_of_its_sentence(text, answers):
    assert after_answer_is(text) == answers


@pytest.mark.parametrize(
    ("answer", "bare"),
    [
        ("$5$", "5"),
        ("$$5$$", "5"),
        (r"\(5\).", "5"),
        (r"\[5\]", "5"),
        ("`5`", "5"),
        ("**$5$**.", "5"),
        ("$3$ and $4$", "$3$ and $4$"),  # two formulas: the outer signs are no pair
        (r"$5\$", r"$5\$"),
        ("5", "5"),
        ("$", "$"),
    ],
)
def test_an_answer_is_unwrapped_of_pairs_around_it(answer, bare):
    assert unwrapped(answer) == bare


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        (r"\boxed{1} \fbox{2}", ["1", "2"]),
        (r"\boxed {1}", ["1"]),
        (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]),
        (r"\boxed{\boxed{3}}", ["3"]),
        (r"\boxed{\{1, 2\}}", [r"\{1, 2\}"]),
        (r"\boxed{}", []),
        (r"\boxed{1", []),
        (r"\boxed 1", []),
        ("{1}", []),
    ],
)
def test_a_boxed_answer_has_balanced_braces(text, answers):
    assert boxed(text) == answers


@given(st.text(alphabet="ab $`*.\\(){}[]#\n"))
def test_no_text_makes_them_raise_or_gives_an_empty_answer(text):
    for find in (after_hashes, after_answer_is, boxed):
        assert all(answer.strip() for answer in find(f"{text} #### {text} answer is {text}"))
    assert unwrapped(unwrapped(text)) == unwrapped(text)


@pytest.mark.parametrize("piece", ["####", "answer is ", r"\boxed{", "{", "}", "**"])
def test_a_long_text_of_marks_is_read_in_a_moment(piece):
    begun = time.process_time()
    for find in (after_hashes, after_answer_is, boxed, unwrapped):
        find(piece * 20_000)
    assert time.process_time() - begun < 5  # in quadratic time it would be minutes
