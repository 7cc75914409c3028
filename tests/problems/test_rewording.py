import random
import re

import pytest

from premem_core.problems import rewording
from premem_core.problems.rewording import (
    insert_sentence,
    people,
    rename_people,
    reorder_sentences,
    swap_things,
)

NONE: frozenset[str] = frozenset()


def rng(seed=0):
    return random.Random(seed)


def test_people_are_first_names_and_no_places_months_or_words():
    text = (
        "In June, Mary and Tom's cousin flew from San Jose to Lake Victoria. Rose picked a rose. "
        "How many roses did Bill pay the bill for?"
    )
    assert people(text) == ["Mary", "Tom"]


def test_everybody_gets_one_other_name_of_the_same_sex_wherever_named():
    text = "Mary has 3 pens. Tom has Mary's 4. Thomas has Tomatoes. Does Mary have more than Tom?"
    female, male = rewording.first_names()
    for seed in range(10):
        new = rename_people(text, NONE, rng(seed))
        mary, tom = re.match(r"(\w+) has 3 pens\. (\w+) has", new).groups()
        assert mary in female - {"Mary"}
        assert tom in male - {"Tom"}
        assert f"{tom} has {mary}'s 4." in new
        assert "Tomatoes" in new
        assert new.endswith(f"Does {mary} have more than {tom}?")
        assert "Mary" not in new


def test_names_that_the_data_set_uses_are_preferred_unless_they_are_words_too():
    familiar = rewording.vocabulary(["Mary sings.", "Anna sings.", "Rose picks a rose.", "Paul?"])
    assert rename_people("Mary sings.", familiar, rng()) == "Anna sings."


def test_a_name_in_capitals_is_another_name_in_capitals():
    text = "Anna has 3 hats. ANNA buys 2 more. How many has she?"
    new = rewording.rename_people(text, set(), random.Random(0))
    [name] = rewording.people(new)
    assert name != "Anna"
    assert new == text.replace("Anna", name).replace("ANNA", name.upper())


def test_without_people_there_is_nothing_to_rename():
    assert rename_people("A train has 3 cars. It is June.", NONE, rng()) is None


def test_things_change_with_number_case_and_article():
    for seed in range(20):
        new = swap_things("Apples are $2. An apple a day: how many apples?", NONE, rng(seed))
        thing = re.fullmatch(r"(\w+) are €2\. (An?) (\w+) a day: how many (\w+)\?", new)
        plural, article, singular, again = thing.groups()
        assert plural.lower() == again != "apples"
        assert (singular, again) in rewording.THINGS[0]
        assert article == ("An" if singular[0] in "aeiou" else "A")


@pytest.mark.parametrize(
    "question",
    [
        "A dog has 4 legs; how many legs have 3 dogs?",  # another animal may have others
        "How many cents are $3 and 2 dimes?",
        "How many feet are 3 miles?",
        "How many ounces are 2 pounds?",
        "Tom sleeps 8 hours.",
    ],
)
def test_what_may_hang_on_the_thing_or_the_unit_is_left_alone(question):
    assert swap_things(question, NONE, rng()) is None


def test_several_things_of_a_kind_stay_different():
    new = swap_things("Cats and dogs: 3 cats, 2 dogs.", NONE, rng())
    assert len(set(re.findall(r"[a-z]{4,}", new.lower())) - {"cats", "dogs"}) == 2


def test_only_neighbours_that_do_not_lean_on_each_other_change_places():
    assert reorder_sentences("Ann has 3 pens. Bob has 4 pens. How many have they?", rng()) == (
        "Bob has 4 pens. Ann has 3 pens. How many have they?"
    )
    for leaning in (
        "Ann has 3 pens. She buys 4. How many?",
        "Ann has 3 pens. Bob has twice as many. How many?",
        "Ann has 3 pens. Then Bob buys 4. How many?",
        "Ann has 3 pens. Bob has 4 pens. He buys 2. How many?",
        "Ann has 3 pens. How many pens has Ann?",
        "Mr. Smith has 3 pens. Bob has 4 pens. How many?",
        "Jean has 30 lollipops. Jean eats 2 of the lollipops. How many?",
    ):
        assert reorder_sentences(leaning, rng()) is None


def test_an_aside_stands_before_the_last_sentence_and_says_no_number():
    new = insert_sentence("Ann has 3 pens. How many pens has she?", rng())
    aside = new.removeprefix("Ann has 3 pens. ").removesuffix(" How many pens has she?")
    assert aside in rewording.IRRELEVANT
    assert insert_sentence("How many?", rng()).endswith(". How many?")
    assert not any(
        re.search(r"\d|\b(?:one|two|half|twice)\b", each) for each in rewording.IRRELEVANT
    )
