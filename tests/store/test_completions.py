"""Completions, read from their shards in place."""

import pytest

from premem_core.records import Grade, SampleKey
from premem_core.store.completions import (
    ANSWER_COLUMNS,
    EXAMPLE_COMPLETION_COLUMNS,
    read_agreement,
    read_answer_votes,
    read_completions,
    read_example_completions,
    samples_shards,
)
from premem_core.store.database import Store
from premem_core.store.grades import override_grade
from premem_core.store.scores import commit_inbox
from premem_core.store.shards.shards import GRADES, SAMPLES
from tests.helpers.stores import register, write_samples

RIGHT, WRONG, UNPARSED = int(Grade.CORRECT), int(Grade.INCORRECT), int(Grade.UNPARSED)


def test_agreement_is_the_share_of_the_most_common_answer(tmp_path):
    store = Store(tmp_path)
    register(store)
    answers: dict[tuple[int, int], list[str | None]] = {
        (10, 1): ["7", "7", "8", None],  # no answer agrees with none
        (10, 2): [None, None, None, "8"],
        (10, 3): [None, None, None, None],
        (20, 1): ["7", "8", "9", "9"],
    }
    for (step, example), extracted in answers.items():
        for split, perturbation, given in (
            ("test", "", extracted),
            ("test", "first", ["5"] * 4),
            ("train", "", ["6"] * 4),
        ):
            write_samples(
                store.path / "inbox", "r", example, [0] * 4, given,
                step=step, split=split, perturbation=perturbation,
            )  # fmt: skip
    commit_inbox(store)
    assert read_agreement(store, "r", "test").to_numpy().tolist() == [
        [10, 1, 0.5],
        [10, 2, 0.25],
        [10, 3, 0],
        [20, 1, 0.5],
    ]
    assert set(read_agreement(store, "r", "train")["agreement"]) == {1.0}
    assert read_agreement(store, "imported", "test").empty


@pytest.fixture
def store(tmp_path) -> Store:
    """A run with completions of two examples at two checkpoints, and perturbed ones."""
    store = Store(tmp_path)
    one, other, *_ = register(store)
    inbox = store.path / "inbox"
    for step in (20, 10):
        write_samples(inbox, "r", one, [RIGHT, WRONG], ["7", "8"], step=step)
        write_samples(inbox, "r", other, [RIGHT, UNPARSED], ["7", None], step=step)
    write_samples(inbox, "r", one, [WRONG] * 2, ["9", "9"], perturbation="first")
    write_samples(inbox, "r", one, [WRONG] * 2, ["9", "9"], split="test")
    commit_inbox(store)
    return store


def test_the_completions_of_a_checkpoint_come_by_example_and_sample(store):
    rows = read_completions(store, "r", 10, "train")
    assert rows.columns.tolist() == SAMPLES.names
    assert rows[["step", "example", "sample", "grade"]].to_numpy().tolist() == [
        [10, 1, 0, RIGHT],
        [10, 1, 1, WRONG],
        [10, 2, 0, RIGHT],
        [10, 2, 1, UNPARSED],
    ]
    assert read_completions(store, "r", 10, "train", "first")["extracted"].tolist() == ["9", "9"]
    none = read_completions(store, "r", 30, "train")
    assert (none.empty, none.columns.tolist()) == (True, SAMPLES.names)


def test_the_completions_of_an_example_come_by_checkpoint_and_sample(store):
    rows = read_example_completions(store, "r", "train", 1)
    assert tuple(rows.columns) == EXAMPLE_COMPLETION_COLUMNS
    assert rows[["step", "sample"]].to_numpy().tolist() == [[10, 0], [10, 1], [20, 0], [20, 1]]
    assert rows["override"].isna().all()
    assert read_example_completions(store, "r", "train", 1, step=20)["step"].tolist() == [20, 20]
    none = read_example_completions(store, "imported", "train", 1)
    assert (none.empty, tuple(none.columns)) == (True, EXAMPLE_COMPLETION_COLUMNS)


def test_grades_of_another_grader_take_the_place_of_the_jobs(store, tmp_path):
    graded = write_samples(tmp_path, "r", 1, [WRONG, WRONG], ["x", "y"], schema=GRADES)
    rows = read_example_completions(store, "r", "train", 1, step=10, grades=[graded])
    assert rows["grade"].tolist() == [WRONG, WRONG]
    assert rows["extracted"].tolist() == ["x", "y"]
    assert rows["completion"].tolist() == ["text 0", "text 1"]


def test_a_grade_set_by_hand_comes_with_its_reason_and_counts_among_the_votes(store):
    shards = samples_shards(store, "r")
    key = SampleKey(10, "train", "", 1, 1)
    override_grade(store, "r", key, Grade.CORRECT, "it is right", "kim", "gsm8k", shards)
    [_, row] = read_example_completions(store, "r", "train", 1, step=10).to_dict("records")
    assert (row["grade"], row["replaced"]) == (Grade.CORRECT, Grade.INCORRECT)
    assert (row["reason"], row["who"], row["grader"]) == ("it is right", "kim", "gsm8k")
    votes = read_answer_votes(store, "r", shards)
    assert tuple(votes.columns) == ANSWER_COLUMNS
    of_one = votes[(votes["step"] == 10) & (votes["example"] == 1)]
    assert of_one[["answer", "votes", "correct"]].to_numpy().tolist() == [["7", 1, 1], ["8", 1, 1]]


def test_votes_are_counted_by_answer_without_perturbed_and_test_questions(store):
    votes = read_answer_votes(store, "r", samples_shards(store, "r")).astype(object)
    assert len(votes) == 8
    of_two = votes[(votes["step"] == 20) & (votes["example"] == 2)]
    assert of_two["answer"].fillna("none").tolist() == ["7", "none"]
    assert (of_two["votes"].tolist(), of_two["correct"].tolist()) == ([1, 1], [1, 0])
    assert "9" not in set(votes["answer"])
    assert read_answer_votes(store, "r", []).empty
