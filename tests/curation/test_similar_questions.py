"""Questions that say what another one says: how they are found, and what is not taken for one."""

import random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.curation import similar_questions

WEEKDAYS = ("Monday", "Tuesday", "Friday")


def question(n: int) -> str:
    """One of as many problems as wanted; no two share many pairs of words."""
    rng = random.Random(n)
    words = ["".join(rng.choices("abcdefghij", k=5)) for _ in range(24)]
    return f"On {rng.choice(WEEKDAYS)} Ottoline {' '.join(words)} {n} times. Did Ottoline rest?"


QUESTIONS = pd.Series([question(n) for n in range(60)], index=range(100, 160))


@pytest.mark.parametrize(
    ("again", "exact"),
    [
        (lambda text: text, True),
        (str.upper, True),
        (str.lower, True),
        (lambda text: "\n " + text.replace(" ", " \t"), True),
        (lambda text: text.replace(".", " ."), True),
        (lambda text: text.replace("Ottoline", "Xu"), False),
        (lambda text: text.replace("Did", "So did"), False),
    ],
)
def test_a_question_told_again_is_found_and_the_first_stays(again, exact):
    questions = pd.concat([QUESTIONS, pd.Series([again(QUESTIONS[130])], index=[7])])
    [row] = similar_questions.find_duplicates(questions).to_dict("records")
    assert (row["example"], row["other"], row["exact"]) == (7, 130, exact)
    assert row["similarity"] == 1 if exact else 0.5 <= row["similarity"] <= 1


def test_another_name_alone_makes_no_other_question():
    asked = pd.Series(["Ann has 3 pens. How many has Ann?", "Bo has 3 pens. How many has Bo?"])
    [row] = similar_questions.find_duplicates(asked).to_dict("records")
    assert (row["similarity"], row["exact"]) == (1, False)


def test_other_numbers_make_another_problem():
    text = "Tom reads {} pages on each of {} days and {} more. How many pages are {} books?"
    asked = pd.Series([text.format(1, 2, 3, 4), text.format(21, 32, 43, 54)])
    assert similar_questions.find_duplicates(asked).empty


def test_leaks_are_looked_for_in_the_test_set_only():
    test = pd.Series([question(500), question(501)], index=[1, 2])
    train = pd.concat([QUESTIONS, pd.Series([QUESTIONS[100], question(501).upper()])])
    [row] = similar_questions.find_leaks(train, test).to_dict("records")
    assert (row["example"], row["other"], row["similarity"], row["exact"]) == (1, 2, 1, True)


def test_of_three_alike_the_first_stays():
    asked = pd.Series([question(1), question(1).upper(), question(1).lower()], index=[5, 3, 9])
    found = similar_questions.find_duplicates(asked)
    assert found["example"].tolist() == [3, 9]
    assert found["other"].tolist() == [5, 5]


def test_the_similarity_asked_for_decides():
    changed = QUESTIONS[100].replace(" rest?", " sleep in the end of it all?")
    asked = pd.Series([QUESTIONS[100], changed])
    [row] = similar_questions.find_duplicates(asked, 0.3).to_dict("records")
    assert similar_questions.find_duplicates(asked, row["similarity"] + 0.01).empty
    assert len(similar_questions.find_duplicates(asked, row["similarity"] - 0.01)) == 1


@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_texts_are_compared(texts):
    found = similar_questions.find_duplicates(pd.Series(texts, dtype=object))
    assert found["similarity"].between(similar_questions.SIMILARITY, 1).all()
    assert (found["other"] < found["example"]).all()
    repeated = [
        n for n, each in enumerate(texts) if each in texts[:n] and any(c.isalnum() for c in each)
    ]
    assert set(repeated) <= set(found["example"])


def test_pairs_just_similar_enough_are_not_missed():
    """Signatures only propose: what they leave out is never compared."""
    seen, asked = similar_questions.QuestionIndex(0.5), []
    rng = random.Random(3)
    for number in range(300):
        words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(31)]
        other = [*words[:21], *("".join(rng.choices("klmnop", k=6)) for _ in range(10))]
        seen.add(number, " ".join(words))
        asked.append(" ".join(other))  # 20 of 40 pairs of words are the same
    found = [seen.most_similar(text) for text in asked]
    assert sum(each is not None and each[0] == n for n, each in enumerate(found)) >= 299


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "小明有三个苹果他又买了五个苹果请问他现在一共有几个苹果",
            "小明有三个苹果他后来又买了五个苹果请问他现在一共有几个苹果",
        ),
        ("Nine men row a boat", "Ni\u200bne m\u00aden row a\ufeff boat"),
    ],
)
def test_scripts_without_spaces_and_characters_that_are_not_seen(one, other):
    seen = similar_questions.QuestionIndex()
    seen.add(1, one)
    assert seen.most_similar(other)
