"""Dividing questions, and comparing what a model writes with their rest."""

import pytest

from premem_core.scoring.continuations import divide, is_rest

LONG = (
    "Ann has 12 apples and gives 5 of these to Bob, who eats 2. She buys 4 more of them. "
    "How many apples has she got in all?"
)


@pytest.mark.parametrize("question", [LONG, f"  {LONG}\n", LONG.replace(". ", ".\n\n")])
def test_the_two_parts_are_the_question_and_the_second_begins_with_a_whole_word(question):
    beginning, rest = divide(question)
    assert beginning + rest == question.strip()
    assert rest[0].isspace()
    assert 0.6 <= len(beginning) / len(question.strip()) < 0.7


@pytest.mark.parametrize("question", ["", "2+2?", "x" * 50, "x" * 90 + " why?"])
def test_a_question_whose_rest_is_short_is_not_asked(question):
    assert divide(question) is None


def test_a_question_without_spaces_is_divided_within_its_text():
    question = "小明有十二个苹果，他给了小红五个，然后又买了三个，" * 5
    beginning, rest = divide(question)
    assert (len(beginning), beginning + rest) == (round(0.6 * len(question)), question)


@pytest.mark.parametrize(
    ("completion", "rest", "expected"),
    [
        (" are left in all?", " are left in all?", True),
        ("are\n left  in all? He has 5.", " are left in all?", True),
        (" are left in all", " are left in all?", False),
        (" Are left in all?", " are left in all?", False),
        (" costs $12", " costs $1", False),
        ("", " are left", False),
        ("还剩几个？还有", "还剩几个？", True),
    ],
)
def test_a_rest_must_be_written_whole_and_white_space_does_not_matter(completion, rest, expected):
    assert is_rest(completion, rest) is expected
