"""Completions with the grades that count."""

import pytest

from premem_core.analysis import checkpoint_comparison
from premem_core.demo import demo_study
from premem_core.grading import graded_completions, hand_grades, regrade
from premem_core.grading.graded_completions import read_graded_completions
from premem_core.records import Grade, SampleKey
from premem_core.store.database import Store
from premem_core.store.grades import grade_shards, grades_folder, use_grades
from premem_core.store.scores import commit_inbox, read_counts
from premem_core.store.shards.shards import GRADES
from tests.helpers.stores import register, write_samples

RUN, STEPS = "lr1e-3_ep5_n1000", (63, 315)
K = 5


def test_the_grades_shown_are_those_that_count(demo_store, tmp_path):
    demo_study.install(tmp_path / "store")
    regraded = Store(tmp_path / "store")
    regrade.regrade_run(regraded, RUN, "paper")
    before = checkpoint_comparison.question_accuracy(demo_store, RUN, STEPS[1], "train")
    after = checkpoint_comparison.question_accuracy(regraded, RUN, STEPS[1], "train")
    changed = after.index[after != before][:3]
    assert len(changed) == 3
    for example in changed:
        shown = read_graded_completions(regraded, RUN, "train", example).query("step == @STEPS[1]")
        assert (shown["grade"] == "correct").mean() == after[example]
        assert shown["sample"].tolist() == list(range(K))


@pytest.fixture
def small(tmp_path) -> Store:
    """Two samples of one example at two checkpoints, graded by the job."""
    store = Store(tmp_path / "small")
    example = register(store)[0]
    for step in (10, 20):
        write_samples(store.path / "inbox", "r", example, [0, 1], ["7", "8"], step=step)
    write_samples(store.path / "inbox", "r", example, [1], perturbation="first")
    commit_inbox(store)
    return store


def use_paper(store: Store) -> None:
    for step in (10, 20):
        write_samples(
            grades_folder(store, "r", "paper"), "r", 1, [2, 0], [None, "x"],
            step=step, schema=GRADES,
        )  # fmt: skip
    write_samples(
        grades_folder(store, "r", "paper"), "r", 1, [1], perturbation="first", schema=GRADES
    )
    use_grades(store, "r", "paper", grade_shards(store, "r", "paper"))


def test_grades_are_in_words_and_those_of_the_grader_in_force(small):
    rows = graded_completions.read_graded_completions(small, "r", "train", 1)
    assert rows["grade"].tolist() == ["correct", "incorrect"] * 2
    assert graded_completions.regraded_shards(small, "r") == []
    use_paper(small)
    rows = graded_completions.read_graded_completions(small, "r", "train", 1, step=20)
    assert rows["grade"].tolist() == ["unparsed", "correct"]
    assert rows["extracted"].fillna("none").tolist() == ["none", "x"]
    assert len(graded_completions.regraded_shards(small, "r")) == 3


def test_the_completions_of_a_checkpoint_say_which_grades_a_person_set(small):
    key = SampleKey(20, "train", "", 1, 1)
    hand_grades.set_grade(small, "r", key, Grade.CORRECT, "it is right")
    for use, expected in ((None, ["correct", "correct"]), (use_paper, ["unparsed", "correct"])):
        if use:
            use(small)
        rows = graded_completions.read_checkpoint_completions(small, "r", 20, "train")
        assert tuple(rows.columns) == graded_completions.CHECKPOINT_COMPLETION_COLUMNS
        assert rows["grade"].tolist() == expected
        assert rows["by_hand"].tolist() == [False, True]
    other = graded_completions.read_checkpoint_completions(small, "r", 10, "train")
    assert not other["by_hand"].any()
    assert graded_completions.read_checkpoint_completions(small, "r", 30, "train").empty


def test_a_step_counts_as_sampled_where_an_example_has_completions(small):
    counts = read_counts(small, "r")
    assert graded_completions.sampled_steps(counts, 1) == [10, 20]
    assert graded_completions.sampled_steps(counts, 1, "first") == [10]
    assert graded_completions.sampled_steps(counts, 2) == []


def test_a_grade_set_by_hand_is_called_so():
    label = graded_completions.grade_label
    assert label({"grade": "correct", "reason": "it is right"}) == "correct (set by hand)"
    assert label({"grade": "incorrect", "reason": float("nan")}) == "incorrect"
    names = [graded_completions.grade_name(int(grade)) for grade in Grade]
    assert names == ["correct", "incorrect", "unparsed", "timeout"]
