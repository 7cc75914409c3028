"""Grades in the store: other graders', those set by hand, and whose count."""

import pytest

from premem_core.errors import StoreError
from premem_core.records import Grade, SampleKey
from premem_core.store.completions import samples_shards
from premem_core.store.database import Store
from premem_core.store.grades import (
    DISAGREEMENT_COLUMNS,
    OVERRIDE_COLUMNS,
    grade_shards,
    grades_folder,
    other_graders,
    override_grade,
    read_disagreements,
    read_grade_counts,
    read_overrides,
    undo_override,
    use_grades,
)
from premem_core.store.runs import read_runs
from premem_core.store.scores import commit_inbox, read_counts
from premem_core.store.shards.shards import GRADES
from tests.helpers.stores import register, write_samples

RIGHT, WRONG = int(Grade.CORRECT), int(Grade.INCORRECT)


@pytest.fixture
def store(tmp_path) -> Store:
    """A run with three samples of two examples each, graded by the job."""
    store = Store(tmp_path)
    one, other, *_ = register(store)
    for example, grades in ((one, [RIGHT, RIGHT, WRONG]), (other, [WRONG] * 3)):
        write_samples(store.path / "inbox", "r", example, grades)
    commit_inbox(store)
    return store


def grade_by_other(store: Store, grades=((1, [RIGHT, WRONG, WRONG]), (2, [RIGHT] * 3))):
    for example, of_example in grades:
        folder = grades_folder(store, "r", "paper")
        write_samples(folder, "r", example, of_example, schema=GRADES)
    return grade_shards(store, "r", "paper")


def correct(store: Store) -> list[int]:
    return read_counts(store, "r").sort_values("example")["correct"].tolist()


def test_the_grades_of_another_grader_count_once_they_are_used_and_those_of_the_job_again(store):
    assert other_graders(store, "r") == []
    shards = grade_by_other(store)
    assert other_graders(store, "r") == ["paper"]
    assert correct(store) == [2, 0]  # they lie there, and do not count yet
    use_grades(store, "r", "paper", shards)
    assert correct(store) == [1, 3]
    assert read_runs(store)["grader"].tolist() == ["paper"]
    use_grades(store, "r", None, samples_shards(store, "r"))
    assert correct(store) == [2, 0]
    assert read_runs(store)["grader"].isna().all()


def test_grades_that_do_not_cover_every_completion_are_not_used(store):
    version = store.version()
    for partial in (((1, [RIGHT] * 3),), ((1, [RIGHT] * 3), (2, [RIGHT] * 2))):
        shards = grade_by_other(store, partial)
        with pytest.raises(StoreError, match="have no grade by this grader yet; run regrade"):
            use_grades(store, "r", "paper", shards)
    assert store.version() == version
    assert correct(store) == [2, 0]


def test_two_graders_are_counted_by_their_pairs_of_grades(store):
    rows = read_grade_counts(store, samples_shards(store, "r"), grade_by_other(store))
    counts = rows.set_index(["grade_one", "grade_other"])["completions"]
    assert counts.to_dict() == {(RIGHT, RIGHT): 1, (RIGHT, WRONG): 1, (WRONG, RIGHT): 3,
                                (WRONG, WRONG): 1}  # fmt: skip


def test_disagreements_are_the_completions_with_both_grades_and_their_texts(store):
    both = samples_shards(store, "r"), grade_by_other(store)
    rows = read_disagreements(store, "r", *both)
    assert tuple(rows.columns) == DISAGREEMENT_COLUMNS
    assert rows[["example", "sample", "grade_one", "grade_other"]].to_numpy().tolist() == [
        [1, 1, RIGHT, WRONG],
        [2, 0, WRONG, RIGHT],
        [2, 1, WRONG, RIGHT],
        [2, 2, WRONG, RIGHT],
    ]
    assert rows["question"].tolist() == ["q0", "q1", "q1", "q1"]
    assert rows["completion"].tolist()[0] == "text 1"
    kind = (Grade.CORRECT, Grade.INCORRECT)
    assert read_disagreements(store, "r", *both, kind=kind)["example"].tolist() == [1]
    assert len(read_disagreements(store, "r", *both, limit=2)) == 2


def set_by_hand(store: Store, sample: int, grade: Grade, example: int = 1) -> None:
    override_grade(
        store, "r", SampleKey(10, "train", "", example, sample), grade, "seen", "kim", "gsm8k",
        samples_shards(store, "r"),
    )  # fmt: skip


def test_a_grade_set_by_hand_counts_for_its_completion_until_it_is_undone(store):
    set_by_hand(store, 2, Grade.CORRECT)
    assert correct(store) == [3, 0]
    [row] = read_overrides(store, "r").to_dict("records")
    assert tuple(read_overrides(store, "r").columns) == OVERRIDE_COLUMNS
    assert (row["id"], row["replaced"], row["grade"], row["who"]) == ("0", WRONG, RIGHT, "kim")
    undo_override(store, "r", row["override"], samples_shards(store, "r"))
    assert correct(store) == [2, 0]
    assert read_overrides(store, "r")["undone"].notna().all()
    with pytest.raises(StoreError, match=r"no grade 1 set by hand is in force for 'r'"):
        undo_override(store, "r", row["override"], samples_shards(store, "r"))


def test_the_last_grade_set_by_hand_counts_and_the_one_before_is_kept_as_undone(store):
    set_by_hand(store, 0, Grade.INCORRECT)
    set_by_hand(store, 0, Grade.CORRECT)
    assert correct(store) == [2, 0]
    rows = read_overrides(store, "r")
    assert rows["override"].tolist() == [2, 1]  # the last first
    assert rows["undone"].isna().tolist() == [True, False]


def test_a_completion_that_was_not_sampled_has_no_grade_to_set(store):
    version = store.version()
    for sample, example in ((3, 1), (0, 4)):
        with pytest.raises(StoreError, match=rf"has no completion {sample + 1} of that example"):
            set_by_hand(store, sample, Grade.CORRECT, example)
    assert store.version() == version
    assert read_overrides(store, "r").empty
