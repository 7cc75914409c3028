"""Which graders a run has, and whose grades count."""

import fcntl
import json

import pandas as pd
import pytest

from premem_core.demo import demo_study
from premem_core.errors import JobError, StoreError, UsageError
from premem_core.files import flock
from premem_core.grading import grader_comparison, regrade, run_graders
from premem_core.grading.run_graders import AS_SCORED
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples
from premem_core.store.runs import read_runs
from tests.helpers.demo import RUN, counts, imported, old_store


@pytest.fixture
def store(tmp_path) -> Store:
    return old_store(tmp_path / "store")


def test_the_shipped_study_says_who_graded_it_also_after_another_did(tmp_path):
    demo_study.install(tmp_path / "store")
    store = Store(tmp_path / "store")
    before = counts(store)
    assert regrade.regrade_run(store, RUN, "paper").change.disagreements > 100
    rows = grader_comparison.disagreements(store, RUN, "gsm8k", "paper")
    redrawn = rows[rows["perturbation"] == "redraw"].iloc[0]
    asked = (
        read_perturbed_examples(store, "demo", "redraw")
        .set_index("example")
        .loc[redrawn["example"]]
    )
    assert redrawn[["question", "answer"]].tolist() == asked[["question", "answer"]].tolist()
    graders = run_graders.read_graders(store, RUN)
    assert (graders.original, graders.in_force) == ("gsm8k", "paper")
    regrade.regrade_run(store, RUN, "gsm8k")
    pd.testing.assert_frame_equal(counts(store), before)


def test_the_grader_of_a_job_is_the_original_one_even_after_another_came_into_force(store):
    folder = store.path / "jobs" / RUN
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"run": RUN, "grader": "gsm8k"}))
    assert run_graders.read_graders(store, RUN).names == ["gsm8k", "math", "paper"]
    regrade.regrade_run(store, RUN, "paper")
    graders = run_graders.read_graders(store, RUN)
    assert (graders.original, graders.in_force) == ("gsm8k", "paper")
    before = counts(store)
    with flock(folder / "lock", fcntl.LOCK_EX), pytest.raises(JobError, match="being scored"):
        regrade.regrade_run(store, RUN, "gsm8k")
    pd.testing.assert_frame_equal(counts(store), before)
    regrade.regrade_run(store, RUN, "gsm8k")
    assert read_runs(store).set_index("run")["grader"][RUN] == "gsm8k"


def test_what_cannot_be_graded_is_refused_and_nothing_changes(store):
    run = imported(store)
    version = store.version()
    with pytest.raises(StoreError, match="has no completions"):
        regrade.regrade_run(store, run, "math")
    with pytest.raises(UsageError, match="has no run 'nosuch'; it has: "):
        regrade.regrade_run(store, "nosuch", "math")
    with pytest.raises(UsageError, match="no grader 'magic'"):
        regrade.regrade_run(store, RUN, "magic")
    with pytest.raises(StoreError, match="not graded by 'math' yet"):
        grader_comparison.compare_graders(store, RUN, AS_SCORED, "math")
    assert store.version() == version
    assert not (store.path / "grades").exists()
    assert run not in run_graders.regradable_runs(store)
