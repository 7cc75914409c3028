"""Jobs with the plan last: what they draw, and what is known afterwards."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.errors import JobError, UsageError
from premem_core.metrics import estimators
from premem_core.models import checkpoints
from premem_core.problems import examples
from premem_core.records import Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.job_files import Execution
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from tests.helpers.commands import premem

T = -2.3
LAST = ScoringSpec(
    "sums",
    "gsm8k",
    backend="hf",
    sampling=Sampling(samples=2, max_new_tokens=30),
    chunk_examples=16,
    plan="last",
    log_log_threshold=T,
)


def scored(folder, run_dir, data, spec, only=None, **execution):
    store, run = Store(folder), checkpoints.read_run(run_dir)
    run = replace(run, checkpoints=run.checkpoints[:only])
    train = examples.read_examples(data[0]).examples
    jobs.create_job(store, spec, run, "sums", train, (), execution=Execution(**execution))
    assert job_process.run_job(store, "sums").state == "done"
    return store


def drawn(store):
    """The training completions, by what identifies them."""
    steps = read_checkpoints(store, "sums")["step"]
    frames = [read_completions(store, "sums", step, "train") for step in steps]
    found = pd.concat(frames).set_index(["step", "example", "sample"]).sort_index()
    assert found.index.is_unique
    return found[["completion", "grade"]]


def scores(store, task="sums"):
    [run] = run_scores.read_task(store, task)
    return run


@pytest.fixture(scope="module")
def full(run_dir, data, tmp_path_factory):
    spec = replace(LAST, plan="full", log_log_threshold=None)
    return scored(tmp_path_factory.mktemp("full"), run_dir, data, spec)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_plan_last_draws_the_unmasked_part_of_the_same_samples_and_gives_the_same_lu(
    full, run_dir, data, tmp_path, workers
):
    store = scored(tmp_path, run_dir, data, LAST, workers=workers)
    every, some = drawn(full), drawn(store)
    assert every.loc[some.index].equals(some)
    run, all_samples = scores(store), scores(full)
    unmasked = run.nll >= np.exp(T)
    assert 0 < unmasked.sum() < unmasked.size
    np.testing.assert_array_equal(run.counts.samples, np.where(unmasked, 2, 0))
    for t in (T, T + 0.5):  # and at every higher threshold
        one, other = (
            estimators.premem("lu", each.counts, each.nll, t) for each in (run, all_samples)
        )
        np.testing.assert_array_equal(one, other)
    assert run_scores.default_estimator([run]) == "lu"
    assert run_scores.default_estimator([all_samples]) == "plain"


@pytest.mark.slow
def test_a_share_of_the_problems_stands_for_all_and_can_grow_without_drawing_anything_twice(
    full, run_dir, data, tmp_path
):
    spec = replace(LAST, share=0.25)
    store = scored(tmp_path, run_dir, data, spec, only=2)
    first = drawn(store)
    members = scores(store).counts.drawn
    assert members.sum() == 12
    line = curves.curve(scores(store), T, "lu")
    assert not np.isnan(line.premem).any()
    assert (line.sampling_error > 0).all()
    assert curves.missing_in_words([line]).startswith("Train accuracy is not known")

    run = checkpoints.read_run(run_dir)  # a checkpoint is added: the same problems are sampled
    train = examples.read_examples(data[0]).examples
    jobs.create_job(store, spec, run, "sums", train, (), extend=True)
    assert job_process.run_job(store, "sums").state == "done"
    with_last = drawn(store)
    assert with_last.loc[first.index].equals(first)
    np.testing.assert_array_equal(scores(store).counts.drawn, members)

    jobs.extend_job(store, "sums", share=0.5)
    assert job_process.run_job(store, "sums").state == "done"
    assert (scores(store).counts.drawn & members).sum() == 12
    assert scores(store).counts.drawn.sum() == 24
    assert drawn(store).loc[with_last.index].equals(with_last)

    with pytest.raises(JobError, match=r"a share of 0\.5 is sampled, but 0\.25 is requested"):
        jobs.extend_job(store, "sums", share=0.25)
    with pytest.raises(UsageError, match="the lazy plan samples all problems"):
        jobs.extend_job(store, "sums", plan="lazy", share=0.25)

    jobs.extend_job(store, "sums", plan="full", log_log_threshold=None)
    assert job_process.run_job(store, "sums").state == "done"
    assert drawn(store).equals(drawn(full))


def test_a_budget_says_before_the_start_what_it_buys_and_after_the_end_what_was_reached(
    run_dir, data, tmp_path
):
    command = ["score", run_dir, "--train", data[0], "--store", tmp_path / "store",
               "--max-new-tokens", 30, "--log-log-threshold", T]  # fmt: skip
    done = premem(*command, "--precision", 8)
    assert done.returncode == 0, done.stderr
    assert (
        "precision: 40 of 48 problems, 1 sample each: a checkpoint's accuracy has a standard error "
        "of at most 7.9 points (± 13 at 90 %)" in done.stderr
    )
    assert "completions in all: at most 120\n" in done.stderr
    line = curves.curve(scores(Store(tmp_path / "store"), data[0].parent.name), T, "lu")
    assert line.sampling_error.max() <= 0.079
    reached = 100 * line.sampling_error.max()
    assert f"from its samples is at most {reached:.2f} points" in done.stderr
    judged = premem(
        *("check", "--store", tmp_path / "store", "--run", run_dir.name, "--max-memorized", 1)
    )
    assert f"note: t = {T:.3f}. The threshold is that of the plan" in judged.stderr
    assert judged.returncode == 0
    shown = premem("predict", "--store", tmp_path / "store", "--run", run_dir.name)
    assert "from this run alone" in shown.stdout
    assert shown.stderr == ""


def test_the_largest_number_of_generations_is_never_exceeded(run_dir, data, tmp_path):
    done = premem(
        *("score", run_dir, "--train", data[0], "--test", data[1], "--store", tmp_path / "store"),
        *("--max-new-tokens", 30, "--log-log-threshold", -20, "--generations", 150),
    )
    assert done.returncode == 0, done.stderr
    assert "precision: 10 of 48 problems, 1 sample each" in done.stderr
    assert (
        scores(Store(tmp_path / "store"), data[0].parent.name).counts.samples.sum() + 3 * 40 == 150
    )
