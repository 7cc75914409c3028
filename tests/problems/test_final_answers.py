r"""Final answers in texts: `#### x`, "The answer is x", `\boxed{x}`, and what is none."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.problems.final_answers import (
    after_answer_is,
    after_equals,
    after_hashes,
    boxed,
    boxed_lists,
    unwrapped,
)


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
        ("Answer: 72", ["72"]),
        ("ANSWER: 72", ["72"]),
        ("**Answer:** 72.", ["72"]),
        ("**Answer**: **72**", ["72"]),
        ("## Answer:\n\n72", ["72"]),
        ("The correct answer: B", ["B"]),
        ("I will think before I give my answer: 5 is prime", []),
        ("<answer>72</answer>", ["72"]),
        ("<ANSWER>\n 72 \n</ANSWER>", ["72"]),
        ("<answer>72", []),
        ("The final answer is therefore 72.", ["72"]),
        ("The answer is, therefore, 72.", ["72"]),
        ("The answer is 72 clips", ["72 clips"]),
        ("The answer is 12, which is 3 more than 9.", ["12"]),
        ("The answer is 12 because 3 + 9 = 12.", ["12"]),
        ("The answer is 18 dollars, i.e. 9 eggs at $2 each", ["18 dollars"]),
        ("The answer is 5. Answer: 6", ["5"]),
        ("The answer is 5.\nAnswer: 6", ["5", "6"]),
        ("The answer is:\n\n7", ["7"]),
        ("**The answer is:**\r\n\r\n7", ["7"]),
        ("The answer is:\n\n\n7", []),
        ("The answer is:\n#### 7", ["7"]),
        ("The **final answer** is: 7", ["7"]),
        ("Final answer:\n7", ["7"]),
        ("The answer is:\n$$42$$", ["42"]),
        ("The answer is\n\\[\n42\n\\]\nDone.", ["42"]),
        ("### Answer\n42", ["42"]),
        ("**Final Answer**\n\n42", ["42"]),
        ("My own answer\n42", []),
        ("### How to find the answer\n42", []),
        ("So the answer to the problem is 12", ["12"]),
        ("The answer to the first question is 3.", []),
        ("The answer is 42。", ["42"]),
        ("The answer is 42。7 + 35。", ["42"]),
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
        ("5。", "5"),
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
        (r"\boxed 1", ["1"]),
        (r"our answer is $\boxed 2$.", ["2"]),
        (r"We get $\boxed 3.$", ["3"]),
        (r"$\boxed{3}-1=\boxed 2$.", ["3", "2"]),
        (r"\boxed{\boxed 2}", ["2"]),
        (r"\boxed .", []),
        (r"\boxed  72 clips", ["72"]),
        ("{1}", []),
    ],
)
def test_a_boxed_answer_has_balanced_braces(text, answers):
    assert boxed(text) == answers


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        (r"\boxed{3}, \boxed{5} and \boxed{7}.", ["3, 5, 7"]),
        (r"$\boxed{3}$ or $\boxed{5}$", ["3, 5"]),
        (r"\boxed{3} and so \boxed{5}", ["3", "5"]),
        (r"\boxed{3}, then \boxed{5}", ["3", "5"]),
        (r"\boxed{3}. \boxed{5}", ["3", "5"]),
        (r"\boxed{3}\boxed{5}", ["3", "5"]),
        (r"\boxed{3}-1=\boxed 2", ["3", "2"]),
    ],
)
def test_boxes_that_a_comma_or_a_word_joins_are_one_answer(text, answers):
    assert boxed_lists(text) == answers


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("48+24=72", ["72"]),
        ("First 48/2=24.\n48 + 24 = **72**.\n", ["72"]),
        ("$48 + 24 = 72$", ["72$"]),
        ("48 + 24 = 72\nSo she sold many.", []),
        ("She sold 72", []),
        ("48 + 24 =", []),
        ("48 + 24 = 72 clips", []),
        ("48+24 = <<48+24=72>>72", ["72"]),
        ("x = 72", ["72"]),
        (r"48 \times 2 = 96", ["96"]),
        ("Next, that is 80 - 22 = 58.", []),
    ],
)
def test_a_last_line_that_is_an_equation_without_words_states_its_right_side(text, answers):
    assert after_equals(text) == answers


@given(st.text(alphabet="ab $`*.\\(){}[]#\n"))
def test_no_text_makes_them_raise_or_gives_an_empty_answer(text):
    for find in (after_hashes, after_answer_is, after_equals, boxed, boxed_lists):
        assert all(answer.strip() for answer in find(f"{text} #### {text} answer is {text}"))
    assert unwrapped(unwrapped(text)) == unwrapped(text)


@pytest.mark.parametrize(
    "piece",
    [
        "####",
        "answer is ",
        "answer is:\n",
        "### answer\n",
        "answer to the ",
        "answer is\n$$\n",
        r"\boxed{",
        "{",
        "}",
        "**",
        "answer: ",
        "<answer>",
        r"\boxed 1 ",
        "the ",
    ],
)
def test_a_long_text_of_marks_is_read_in_a_moment(piece):
    begun = time.process_time()
    for find in (after_hashes, after_answer_is, after_equals, boxed_lists, unwrapped):
        find(piece * 20_000)
    assert time.process_time() - begun < 5  # in quadratic time it would be minutes
