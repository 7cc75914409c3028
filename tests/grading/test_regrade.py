"""Grading the shipped study's completions again: what changes, what stays, what a kill leaves."""

import pandas as pd
import pytest

from premem_core.errors import PrememWarning, StoreError
from premem_core.grading import graded_completions, grader_comparison, regrade, run_graders
from premem_core.grading.built_in.paper_grader import PaperGrader
from premem_core.grading.hand_grades import set_grade
from premem_core.grading.run_graders import AS_SCORED
from premem_core.records import Grade, SampleKey
from premem_core.store.completions import samples_shards
from premem_core.store.database import Store
from premem_core.store.grades import grades_folder
from premem_core.store.runs import read_runs
from premem_core.store.shards.committed_shards import withdraw_broken
from tests.helpers.demo import COMPLETIONS, RUN, completions, counts, old_store


@pytest.fixture
def store(tmp_path) -> Store:
    return old_store(tmp_path / "store")


def test_a_run_graded_by_another_grader_and_back_has_exactly_its_former_scores(store):
    before, texts, version = counts(store), completions(store), store.version()
    done = regrade.regrade_run(store, RUN, "paper")
    assert store.version() == version + 1
    assert done.newly_graded == COMPLETIONS
    assert run_graders.read_graders(store, RUN).in_force == "paper"
    after = counts(store)
    changed = after["correct"] != before["correct"]
    assert changed.sum() > 100
    assert set(after["run"][changed]) == {RUN}
    kept = [name for name in before if name not in ("correct", "unparsed", "timeout")]
    pd.testing.assert_frame_equal(after[kept], before[kept])
    row = done.change.accuracies.set_index("split").loc["train"]
    train = after.query("run == @RUN and split == 'train'")
    assert row["other"] == pytest.approx(train["correct"].sum() / train["samples"].sum())
    assert row["one"] > row["other"]
    pd.testing.assert_frame_equal(completions(store), texts)

    back = regrade.regrade_run(store, RUN, AS_SCORED)
    assert back.newly_graded == 0
    assert back.change.disagreements == done.change.disagreements
    pd.testing.assert_frame_equal(counts(store), before)
    assert read_runs(store)["grader"].isna().all()


def test_a_killed_regrading_goes_on_where_it_stopped(store, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    class Mortal(PaperGrader):
        calls = 0

        def grade_answers(self, completions, references):
            Mortal.calls += 1
            if Mortal.calls == 4:
                raise Killed
            return super().grade_answers(completions, references)

    before = counts(store)
    monkeypatch.setattr(regrade, "make_grader", lambda name, allow_code: Mortal())
    with pytest.raises(Killed):
        regrade.regrade_run(store, RUN, "paper")
    pd.testing.assert_frame_equal(counts(store), before)
    left = run_graders.ungraded(store, run_graders.read_graders(store, RUN), "paper")
    assert 0 < left < COMPLETIONS
    with pytest.raises(StoreError, match="run regrade again"):
        regrade.use_grader(store, RUN, "paper")
    pd.testing.assert_frame_equal(counts(store), before)
    assert run_graders.read_graders(store, RUN).in_force == AS_SCORED
    (grades_folder(store, RUN, "paper") / "half.parquet.tmp").write_bytes(b"PAR1")
    seen = []
    done = regrade.regrade_run(store, RUN, "paper", lambda *progress: seen.append(progress))
    assert done.newly_graded == left
    assert (seen[0], seen[-1]) == ((0, left), (left, left))
    assert not list(grades_folder(store, RUN, "paper").glob("*.tmp"))

    whole = old_store(tmp_path / "whole")
    regrade.regrade_run(whole, RUN, "paper")
    pd.testing.assert_frame_equal(counts(store), counts(whole))


def test_samples_drawn_later_must_be_graded_before_they_count(store):
    shard = samples_shards(store, RUN)[0]
    regrade.grade_again(store, RUN, "paper")
    (grades_folder(store, RUN, "paper") / shard.name).unlink()
    with pytest.raises(StoreError, match="run regrade again"):
        regrade.use_grader(store, RUN, "paper")
    assert 0 < regrade.regrade_run(store, RUN, "paper").newly_graded < COMPLETIONS


@pytest.mark.parametrize("size", [0, 200])
def test_grades_that_were_cut_are_named_and_given_again_by_regrade(size, store):
    regrade.regrade_run(store, RUN, "paper")
    before = counts(store)
    file = sorted(grades_folder(store, RUN, "paper").glob("*.parquet"))[0]
    rows = run_graders.count_rows(file)
    file.write_bytes(file.read_bytes()[:size])
    message = r"cannot be read, because it is empty or cut off; run regrade with --grader paper"
    for read in (
        lambda: regrade.use_grader(store, RUN, "paper"),
        lambda: grader_comparison.compare_graders(store, RUN, AS_SCORED, "paper"),
        lambda: graded_completions.regraded_shards(store, RUN),
        lambda: set_grade(store, RUN, SampleKey(0, "train", "", 1, 0), Grade.CORRECT, "seen"),
    ):
        with pytest.raises(StoreError, match=message) as caught:
            read()
        assert str(file) in str(caught.value)
    assert run_graders.read_graders(store, RUN).in_force == "paper"
    assert regrade.regrade_run(store, RUN, "paper").newly_graded == rows
    pd.testing.assert_frame_equal(counts(store), before)


def test_completions_that_were_cut_are_withdrawn_beside_grades_that_were(store):
    regrade.regrade_run(store, RUN, "paper")
    grades = sorted(grades_folder(store, RUN, "paper").glob("*.parquet"))
    grades[0].write_bytes(b"PAR1")
    shard = next(s for s in samples_shards(store, RUN) if s.name == grades[1].name)
    shard.write_bytes(b"PAR1")
    with pytest.warns(PrememWarning, match=r"by 'paper', cannot be read.*run regrade"):
        assert withdraw_broken(store, RUN) == 1
    regrade.regrade_run(store, RUN, "paper")
    assert len(run_graders.shards_of(store, run_graders.read_graders(store, RUN), "paper"))
