"""Which graders a run has, and whose grades count."""

import fcntl
import json

import pandas as pd
import pytest

from premem_core.demo import demo_study
from premem_core.errors import JobError, StoreError, UsageError
from premem_core.files import flock
from premem_core.grading import grader_comparison, regrade, run_graders
from premem_core.grading.graders import GRADERS
from premem_core.grading.run_graders import AS_SCORED
from premem_core.store.completions import samples_shards
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples
from premem_core.store.grades import grades_folder
from premem_core.store.runs import read_runs
from premem_core.store.scores import commit_inbox
from premem_core.store.shards.shards import GRADES
from tests.helpers.demo import RUN, counts, imported, old_store
from tests.helpers.stores import register, write_samples


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
    assert run_graders.read_graders(store, RUN).names == list(GRADERS)
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


@pytest.fixture
def small(tmp_path) -> Store:
    """A run with two samples of one example, not saying who graded it."""
    store = Store(tmp_path / "small")
    write_samples(store.path / "inbox", "r", register(store)[0], [0, 1])
    commit_inbox(store)
    return store


def grade_by(store: Store, grader: str) -> None:
    write_samples(grades_folder(store, "r", grader), "r", 1, [1, 1], schema=GRADES)


def name_graders(store: Store, grader: str | None, scored_by: str | None) -> None:
    with store.writing() as connection:
        connection.execute("UPDATE runs SET grader = ?, scored_by = ?", [grader, scored_by])


@pytest.mark.parametrize(
    ("grader", "scored_by", "job", "original", "in_force"),
    [
        (None, None, None, AS_SCORED, AS_SCORED),
        ("math", None, None, "math", "math"),  # it graded the run, for it has no shards besides
        ("paper", None, None, AS_SCORED, "paper"),  # whose grades lie beside the job's
        ("paper", "gsm8k", None, "gsm8k", "paper"),
        (None, "gsm8k", None, "gsm8k", "gsm8k"),
        ("paper", "gsm8k", "math", "math", "paper"),  # the job's description is the surest
    ],
)
def test_the_original_grader_is_found_in_what_a_store_of_any_version_says(
    small, grader, scored_by, job, original, in_force
):
    grade_by(small, "paper")
    name_graders(small, grader, scored_by)
    if job:
        folder = small.job_folder("r")
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps({"run": "r", "grader": job}))
    found = run_graders.read_graders(small, "r")
    assert (found.task, found.original, found.in_force) == ("t", original, in_force)
    assert found.names[0] == original
    assert set(found.names) - {AS_SCORED} == set(GRADERS)


def test_the_grades_that_count_lie_in_the_completions_or_beside_them(small):
    graders = run_graders.read_graders(small, "r")
    [of_job] = samples_shards(small, "r")
    assert run_graders.shards_in_force(small, graders) == [of_job]
    grade_by(small, "paper")
    name_graders(small, "paper", "gsm8k")
    [of_other] = run_graders.shards_in_force(small, run_graders.read_graders(small, "r"))
    assert (of_other.name, of_other.parent.name) == (of_job.name, "grader=paper")
    with pytest.raises(StoreError, match="run regrade with --grader math"):
        run_graders.shards_of(small, graders, "math")


def test_only_what_a_grader_has_not_graded_is_left_to_grade(small):
    graders = run_graders.read_graders(small, "r")
    assert run_graders.ungraded(small, graders, AS_SCORED) == 0
    assert run_graders.ungraded(small, graders, "paper") == 2
    grade_by(small, "paper")
    assert run_graders.ungraded(small, graders, "paper") == 0
    write_samples(small.path / "inbox", "r", 2, [0, 0, 0])
    commit_inbox(small)
    assert run_graders.ungraded(small, graders, "paper") == 3


def test_a_job_cannot_begin_while_grades_change(small):
    folder = small.job_folder("r")
    folder.mkdir(parents=True)
    lock_now = fcntl.LOCK_EX | fcntl.LOCK_NB
    with (
        run_graders.not_being_scored(small, "r"),
        pytest.raises(BlockingIOError),
        flock(folder / "lock", lock_now),
    ):
        pass
    with flock(folder / "lock", lock_now):
        pass
