import pytest

from premem_core.errors import UsageError
from premem_core.problems import perturbations
from premem_core.records import Example
from tests.helpers import tiny

EXAMPLES = [
    Example("a", "Ann has 3 apples and buys 4. How many?", "<<3+4=7>>7\n#### 7", "7"),
    Example("b", "What is 2?", r"It is \boxed{2}.", "2"),
    Example("c", "Tom eats 6 apples of 10.", r"<<10-6=4>>4, \boxed{4}", "4"),
]


@pytest.mark.parametrize("name", perturbations.CHANGES)
def test_a_seed_gives_the_same_texts_whatever_the_order_of_the_examples(name):
    made = perturbations.perturb(name, EXAMPLES, seed=5)
    assert made == perturbations.perturb(name, EXAMPLES[::-1], seed=5)[::-1]
    for example, new in zip(EXAMPLES, made, strict=True):
        if new is not None:
            assert new.id == example.id
            assert new.question != example.question
            assert (new.answer == example.answer) == (name != "redraw")


def test_redrawn_solutions_carry_the_answer_as_their_data_set_does():
    first, none, boxed = perturbations.perturb("redraw", EXAMPLES, seed=1)
    assert first.solution == f"#### {first.answer}"
    assert none is None
    assert boxed.solution == rf"\boxed{{{boxed.answer}}}"


def test_names_are_checked():
    perturbations.check_perturbation("redraw")
    perturbations.check_perturbation("mine", user_perturbations={"mine"})
    with pytest.raises(UsageError, match="'mine' is unknown; choose among: first"):
        perturbations.check_perturbation("mine")
    for bad in ("redraw", "Über", "a.b", "", "x" * 41):
        with pytest.raises(UsageError, match="cannot be the name"):
            perturbations.check_perturbation(bad, user_perturbations={bad})


def test_every_kind_is_named():
    assert set(perturbations.KINDS) == {*perturbations.PREFIXES, *perturbations.CHANGES}


def test_sums_have_no_people_and_no_things():
    assert perturbations.perturb("rename", tiny.sums(0, 3)) == [None] * 3
