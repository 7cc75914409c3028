"""Grades set by hand, on the shipped study: they count everywhere until they are undone."""

import fcntl
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pandas as pd
import pytest

from premem_core.analysis.run_scores import read_task
from premem_core.demo import demo_study
from premem_core.errors import JobError, StoreError, UsageError
from premem_core.files import flock
from premem_core.grading import graded_completions, hand_grades, regrade
from premem_core.records import Grade, SampleKey
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.grades import read_overrides
from tests.helpers.demo import RUN, STEP, counts, wrong


@pytest.fixture
def store(tmp_path) -> Store:
    demo_study.install(tmp_path / "store")
    return Store(tmp_path / "store")


def graded(store: Store, key: SampleKey) -> pd.Series:
    rows = graded_completions.read_graded_completions(
        store, RUN, key.split, key.example, key.perturbation
    )
    [row] = rows[(rows["step"] == key.step) & (rows["sample"] == key.sample)].to_dict("records")
    return pd.Series(row)


@pytest.mark.parametrize("perturbation", ["", "redraw"])
def test_a_grade_set_by_hand_counts_and_nothing_else_changes(store, perturbation):
    key, before = wrong(store, perturbation), counts(store)
    hand_grades.set_grade(store, RUN, key, Grade.CORRECT, " it is written out ", who="kim")
    after = counts(store)
    [at] = after.index[
        (after != before).any(axis=1)
        & after["samples"].notna()
        & (after["correct"] != before["correct"])
    ]
    assert after.loc[at, "correct"] == before.loc[at, "correct"] + 1
    assert after.loc[at, ["run", "step", "perturbation", "example"]].tolist() == [
        RUN, STEP, perturbation, key.example,
    ]  # fmt: skip
    pd.testing.assert_frame_equal(after.drop(index=at), before.drop(index=at))
    row = graded(store, key)
    assert row[["grade", "replaced", "grader", "reason", "who"]].tolist() == [
        "correct", Grade.INCORRECT, "gsm8k", "it is written out", "kim",
    ]  # fmt: skip


def test_the_accuracy_of_the_run_follows(store):
    def accuracy() -> float:
        [run] = [run for run in read_task(store, "demo") if run.run == RUN]
        return float(run.counts.correct[-1].sum())

    before, key = accuracy(), wrong(store)
    hand_grades.set_grade(store, RUN, key, Grade.CORRECT, "it is right")
    assert accuracy() == before + 1
    [row] = read_overrides(store, RUN).to_dict("records")
    hand_grades.undo_grade(store, RUN, row["override"])
    assert accuracy() == before


def test_it_outlasts_other_graders_and_undoing_it_leaves_theirs(store):
    key, before = wrong(store), counts(store)
    regrade.regrade_run(store, RUN, "paper")
    by_paper = counts(store)
    regrade.regrade_run(store, RUN, "gsm8k")
    hand_grades.set_grade(store, RUN, key, Grade.CORRECT, "it is right")
    by_hand = counts(store)
    regrade.regrade_run(store, RUN, "paper")
    assert graded(store, key)["grade"] == "correct"
    hand_grades.undo_grade(store, RUN, 1)
    pd.testing.assert_frame_equal(counts(store), by_paper)
    hand_grades.set_grade(store, RUN, key, Grade.CORRECT, "it is right after all")
    regrade.regrade_run(store, RUN, "gsm8k")
    pd.testing.assert_frame_equal(counts(store), by_hand)
    hand_grades.undo_grade(store, RUN, 2)
    pd.testing.assert_frame_equal(counts(store), before)
    record = read_overrides(store, RUN)
    assert record["override"].tolist() == [2, 1]
    assert record["grader"].tolist() == ["paper", "gsm8k"]
    assert record["undone"].notna().all()


def test_a_second_one_of_the_same_completion_replaces_the_first(store):
    key, before = wrong(store), counts(store)
    hand_grades.set_grade(store, RUN, key, Grade.CORRECT, "right")
    hand_grades.set_grade(store, RUN, key, Grade.INCORRECT, "no, it was wrong")
    pd.testing.assert_frame_equal(counts(store), before)
    assert read_overrides(store, RUN)["undone"].isna().tolist() == [True, False]
    assert graded(store, key)["reason"] == "no, it was wrong"


def test_what_cannot_be_set_is_refused_and_nothing_changes(store):
    key, before = wrong(store), store.version()
    elsewhere = SampleKey(STEP, "train", "", key.example, 99)
    unknown = SampleKey(STEP, "train", "no-such", key.example, 0)
    for arguments, refusal in (
        ((RUN, key, Grade.CORRECT, "  "), "needs a reason"),
        ((RUN, key, Grade.TIMEOUT, "slow"), "correct or incorrect, not timeout"),
        (("no-run", key, Grade.CORRECT, "x"), "has no run 'no-run'"),
    ):
        with pytest.raises(UsageError, match=refusal):
            hand_grades.set_grade(store, *arguments)
    for missing in (elsewhere, unknown):
        with pytest.raises(StoreError, match="has no completion"):
            hand_grades.set_grade(store, RUN, missing, Grade.CORRECT, "x")
    with pytest.raises(StoreError, match="no grade 7 set by hand is in force"):
        hand_grades.undo_grade(store, RUN, 7)
    folder = store.job_folder(RUN)
    folder.mkdir(parents=True, exist_ok=True)
    with flock(folder / "lock", fcntl.LOCK_EX), pytest.raises(JobError, match="is being scored"):
        hand_grades.set_grade(store, RUN, key, Grade.CORRECT, "x")
    assert store.version() == before
    assert read_overrides(store, RUN).empty


def test_several_at_once_wait_for_each_other(store):
    store.job_folder(RUN).mkdir(parents=True)
    rows = read_completions(store, RUN, STEP, "train")
    rows = rows[rows["grade"] == Grade.INCORRECT].head(6)
    keys = [
        SampleKey(STEP, "train", "", int(e), int(s))
        for e, s in zip(rows["example"], rows["sample"], strict=True)
    ]
    before = counts(store)["correct"].sum()
    with ThreadPoolExecutor(6) as threads:
        set_one = partial(hand_grades.set_grade, store, RUN, grade=Grade.CORRECT, reason="right")
        list(threads.map(set_one, keys))
    assert counts(store)["correct"].sum() == before + 6
