"""How often a grader agrees with grades set by hand, and how the command and the page say it."""

import math

import pytest

from premem_core.errors import StoreError
from premem_core.grading import hand_grades, regrade
from premem_core.grading.hand_agreement import HandAgreement, hand_agreement
from premem_core.records import Grade, SampleKey
from premem_core.store.database import Store
from premem_core.store.scores import commit_inbox
from tests.helpers.commands import premem
from tests.helpers.stores import register, write_samples

C, W, U = Grade.CORRECT, Grade.INCORRECT, Grade.UNPARSED  # W: wrong


@pytest.fixture
def store(tmp_path) -> Store:
    """A run with eight samples of one example, graded correct, incorrect or unparsed."""
    store = Store(tmp_path / "store")
    write_samples(store.path / "inbox", "r", register(store)[0], [C, C, C, C, W, W, W, U])
    commit_inbox(store)
    return store


def set_by_hand(store: Store, *grades: Grade) -> None:
    for sample, grade in enumerate(grades):
        key = SampleKey(10, "train", "", 1, sample)
        hand_grades.set_grade(store, "r", key, grade, "read", who="kim")


def test_agreement_and_kappa_are_those_of_the_table(store):
    assert (agreement := hand_agreement(store, "r", "as scored")).n == 0
    assert math.isnan(agreement.kappa)
    set_by_hand(store, C, C, C, W, W, W, C, W)
    # 3 and 3 of 8 agree; by chance, with 4 correct on either side, half would.
    assert hand_agreement(store, "r", "as scored") == HandAgreement(8, 6, 0.5)
    hand_grades.undo_grade(store, "r", 7)  # the one that calls an incorrect grade correct
    agreement = hand_agreement(store, "r", "as scored")
    assert (agreement.n, agreement.agree) == (7, 6)


def test_a_kappa_without_variation_is_not_defined(store):
    set_by_hand(store, C, C)
    agreement = hand_agreement(store, "r", "as scored")
    assert (agreement.n, agreement.agree) == (2, 2)
    assert math.isnan(agreement.kappa)


def test_another_grader_is_compared_by_its_own_grades(store):
    set_by_hand(store, C, C, W)
    with pytest.raises(StoreError, match="not graded by 'exact' yet"):
        hand_agreement(store, "r", "exact")
    regrade.grade_again(store, "r", "exact")
    assert hand_agreement(store, "r", "exact").n == 3


def test_the_command_says_it(store):
    set_by_hand(store, C, C, C, W, W, W, C, W)
    place = ("--store", store.path, "--run", "r")
    done = premem("disagreements", *place, "--grader", "as scored", "--against", "gsm8k")
    assert "as scored agrees with 6 of 8 grades set by hand (Cohen's kappa 0.50)" in done.stdout, (
        done.stderr
    )
