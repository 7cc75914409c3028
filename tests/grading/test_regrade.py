"""Grading the shipped study's completions again: what changes, what stays, what a kill leaves."""

import pandas as pd
import pytest

from premem_core.errors import StoreError
from premem_core.grading import regrade, run_graders
from premem_core.grading.built_in.paper_grader import PaperGrader
from premem_core.grading.run_graders import AS_SCORED
from premem_core.store.completions import samples_shards
from premem_core.store.database import Store
from premem_core.store.grades import grades_folder
from premem_core.store.runs import read_runs
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
