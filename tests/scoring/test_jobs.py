import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.analysis.solutions import token_table
from premem_core.errors import (
    CheckpointError,
    JobError,
    PrememError,
    PrememWarning,
    StoreError,
    UsageError,
)
from premem_core.files import flock, is_held
from premem_core.metrics import estimators
from premem_core.models import checkpoints
from premem_core.problems import examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Sampling
from premem_core.scoring import dispatcher, job_files, job_process, jobs
from premem_core.scoring.executors.local import LocalExecutor
from premem_core.scoring.job_files import Execution
from premem_core.scoring.preparation import estimate
from premem_core.scoring.preparation.prepare import prepare
from premem_core.scoring.preparation.request import ScoreRequest
from premem_core.scoring.progress import write_progress
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.checkpoint_measures import read_baselines
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import add_examples, read_task_examples
from premem_core.store.job_folder import queue_lock
from premem_core.store.runs import read_checkpoints, read_runs
from premem_core.store.scores import commit_inbox, read_committed_shards, read_counts, read_scores
from premem_core.store.shards.shards import COLUMNS_OF_TOKENS, column_bytes
from premem_core.training import finetune
from tests.helpers import tiny

SPEC = ScoringSpec(
    "sums",
    "gsm8k",
    sampling=Sampling(samples=3, max_new_tokens=30),
    chunk_examples=16,
    held_out=True,
)


def create(store, run_dir, data, spec=SPEC, **options):
    train, test = (examples.read_examples(file).examples for file in data)
    return jobs.create_job(
        store, spec, checkpoints.read_run(run_dir), "sums", train, test, **options
    )


@pytest.fixture(scope="module")
def finished(run_dir, data, tmp_path_factory) -> Store:
    """A store with the run scored in one go."""
    store = Store(tmp_path_factory.mktemp("finished"))
    create(store, run_dir, data)
    assert job_process.run_job(store, "sums").state == "done"
    return store


def content(store: Store):
    """Everything that a job leaves, in an order of its own."""
    steps = read_checkpoints(store, "sums")["step"]
    completions = [
        read(store, "sums", step, split)
        for step in steps
        for split in ("train", "test")
        for read in (read_completions, token_table)
    ]
    return read_scores(store, "sums"), completions, read_committed_shards(store, "sums")


def assert_same(one: Store, other: Store) -> None:
    (scores_a, completions_a, shards_a), (scores_b, completions_b, shards_b) = map(
        content, (one, other)
    )
    assert shards_a == shards_b
    assert scores_a.equals(scores_b)
    assert all(a.equals(b) for a, b in zip(completions_a, completions_b, strict=True))
    [a], [b] = (run_scores.read_task(store, "sums") for store in (one, other))
    np.testing.assert_array_equal(curves.curve(a, -2.3).premem, curves.curve(b, -2.3).premem)


def test_a_job_scores_every_example_of_every_checkpoint(finished):
    scores = read_scores(finished, "sums")
    assert len(scores) == 3 * (48 + 40)
    assert set(scores["samples"]) == {3}
    assert scores["nll"].notna().all()
    completions = read_completions(finished, "sums", 360, "train")
    assert len(completions) == 48 * 3
    correct = completions[completions["grade"] == 0]
    assert len(correct) == scores.query("split == 'train' and step == 360")["correct"].sum() > 0
    assert correct["extracted"].notna().all()


def test_the_last_checkpoint_knows_its_training_problems_better_than_new_ones(finished):
    [run] = run_scores.read_task(finished, "sums")
    curve = curves.curve(run, -2.3)
    assert curve.train[-1] > curve.test[-1] + 0.2
    assert curve.memorized[-1] > 0.3 > curve.memorized[0]


@pytest.fixture
def started(monkeypatch) -> list[str | None]:
    """The device of each worker process that is started."""
    devices: list[str | None] = []
    start = LocalExecutor._start

    def watched(self, resources):
        child = start(self, resources)
        devices.append(child.device)
        return child

    monkeypatch.setattr(LocalExecutor, "_start", watched)
    return devices


@pytest.mark.slow
def test_the_same_job_gives_the_same_completions_again_with_one_engine_for_all_checkpoints(
    finished, run_dir, data, tmp_path, started
):
    again = Store(tmp_path)
    create(again, run_dir, data)
    job_process.run_job(again, "sums")
    assert_same(finished, again)
    assert len(started) == 1


def test_a_checkpoint_is_scored_by_a_kept_engine_as_by_a_new_one(finished, run_dir, data, tmp_path):
    alone, run = Store(tmp_path), checkpoints.read_run(run_dir)
    train, test = (examples.read_examples(file).examples for file in data)
    last = replace(run, checkpoints=run.checkpoints[2:])
    jobs.create_job(alone, SPEC, last, "sums", train, test)
    job_process.run_job(alone, "sums")
    assert drawn(finished).xs(360, level="step").equals(drawn(alone).xs(360, level="step"))
    kept, new = (
        read_scores(store, "sums").query("step == 360").reset_index(drop=True)
        for store in (finished, alone)
    )
    assert kept.equals(new)


def test_a_name_that_is_taken_is_refused_and_a_finished_job_resumes_to_nothing(
    finished, run_dir, data
):
    version = finished.version()
    with pytest.raises(JobError, match="already in"):
        create(finished, run_dir, data)
    assert finished.version() == version
    create(finished, run_dir, data, resume=True)
    assert job_process.run_job(finished, "sums").completions_done == 3 * 88 * 3


def test_resuming_with_another_specification_says_what_differs(finished, run_dir, data):
    other = replace(SPEC, sampling=replace(SPEC.sampling, temperature=1.0), grader="math")
    with pytest.raises(
        JobError, match=r"grader was gsm8k, is math; sampling.temperature was 0.8, is 1.0"
    ):
        create(finished, run_dir, data, other, resume=True)
    with pytest.raises(JobError, match=r"train_data was 48 examples"):
        create(finished, run_dir, (data[1], data[1]), resume=True)


def test_a_job_of_an_earlier_version_resumes_without_the_solutions_of_test_problems(
    run_dir, data, tmp_path
):
    store = Store(tmp_path)
    folder = create(store, run_dir, data, replace(SPEC, held_out=False))
    description = job_files.read_description(folder)
    earlier = {
        name: description[name] for name in description if name not in ("held_out", "tokens")
    }
    job_files.write_description(folder, earlier)
    create(store, run_dir, data, resume=True)
    assert not job_files.read_job_spec(store, "sums").held_out
    with pytest.raises(JobError, match="tokens was True, is False"):
        create(store, run_dir, data, replace(SPEC, tokens=False), resume=True)
    create(store, run_dir, data, extend=True)
    assert job_files.read_job_spec(store, "sums").held_out


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (replace(SPEC, run=" "), JobError),
        (replace(SPEC, run=".."), JobError),
        (replace(SPEC, template=PromptTemplate(stop=("",))), JobError),
        (replace(SPEC, run="x" * 200), JobError),
        (replace(SPEC, grader="none"), UsageError),
        (replace(SPEC, backend="none"), UsageError),
        (replace(SPEC, template=PromptTemplate(prompt="no place for it")), UsageError),
        (replace(SPEC, template=PromptTemplate(target="no place for it")), UsageError),
    ],
)
def test_a_specification_that_cannot_work_leaves_no_job(tmp_path, run_dir, data, spec, error):
    store = Store(tmp_path)
    with pytest.raises(error):
        create(store, run_dir, data, spec)
    assert store.version() == 0
    assert not list((tmp_path / "jobs").iterdir())


def test_a_checkpoint_that_breaks_costs_itself_and_the_rest_goes_on(
    run_dir, data, tmp_path, started
):
    run = shutil.copytree(run_dir, tmp_path / "run")
    store = Store(tmp_path / "store")
    create(store, run, data)
    (run / "checkpoint-240" / "model.safetensors").write_bytes(b"broken")
    end = job_process.run_job(store, "sums")
    assert end.state == "failed"
    assert "checkpoint 240" in end.message
    states = read_checkpoints(store, "sums")
    assert states["state"].tolist() == ["scored", "failed", "scored"]
    assert "not a whole safetensors file" in states["reason"][1]
    assert len(started) == 2  # the engine with which something failed is not used again
    shutil.copytree(run_dir, run, dirs_exist_ok=True)
    assert job_process.run_job(store, "sums").state == "done"


def test_a_broken_shard_is_set_aside_and_its_work_is_done_again(finished, run_dir, data, tmp_path):
    store = Store(tmp_path)
    create(store, run_dir, data)
    whole = sorted((finished.path / "completions" / "run=sums").iterdir())
    (tmp_path / "inbox" / whole[0].name).write_bytes(whole[0].read_bytes()[:60])
    with pytest.warns(PrememWarning, match="is empty or cut off"):
        assert job_process.run_job(store, "sums").state == "done"
    assert_same(finished, store)

    committed = tmp_path / "completions" / "run=sums" / whole[1].name
    committed.write_bytes(committed.read_bytes()[:60])
    with pytest.warns(PrememWarning, match=whole[1].name):
        assert job_process.run_job(store, "sums").state == "done"
    assert_same(finished, store)
    assert {file.name for file in (tmp_path / "broken").iterdir()} == {
        file.name for file in whole[:2]
    }


@pytest.mark.slow
def test_samples_drawn_again_have_other_numbers_than_those_that_are_left(run_dir, data, tmp_path):
    store = Store(tmp_path)
    create(store, run_dir, data)
    assert job_process.run_job(store, "sums").state == "done"
    folder = tmp_path / "completions" / "run=sums"
    first = set(folder.glob("*.samples.*"))
    jobs.extend_job(store, "sums", samples=SPEC.sampling.samples + 2)
    assert job_process.run_job(store, "sums").state == "done"
    for shard in first:  # the earlier shard of every pair breaks, the later one is left
        shard.write_bytes(shard.read_bytes()[:60])
    with pytest.warns(PrememWarning):
        assert job_process.run_job(store, "sums").state == "done"
    for step in read_checkpoints(store, "sums")["step"]:
        drawn = read_completions(store, "sums", step, "train")
        numbers = drawn.groupby("example")["sample"].agg(["size", "nunique"])
        assert (numbers == SPEC.sampling.samples + 2).all(axis=None)


def test_a_job_whose_run_is_gone_fails_with_one_sentence(run_dir, data, tmp_path):
    run = shutil.copytree(run_dir, tmp_path / "run")
    store = Store(tmp_path / "store")
    create(store, run, data)
    shutil.rmtree(run)
    with pytest.raises(CheckpointError):
        job_process.run_job(store, "sums")
    assert jobs.job_progress(store, "sums").state == "failed"
    assert "not a folder" in jobs.job_progress(store, "sums").message


def start(store: Store) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "premem_core",
        "jobs",
        "run",
        "sums",
        "--store",
        str(store.path),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition, seconds=180):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_running_job_can_be_watched_cancelled_and_resumed(finished, run_dir, data, tmp_path):
    store = Store(tmp_path)
    create(store, run_dir, data)
    process = start(store)
    wait_for(lambda: jobs.job_progress(store, "sums").completions_done > 0)
    with pytest.raises(JobError, match="running already"):
        jobs.start_job(store, "sums")
    with pytest.raises(JobError, match="running already"):
        job_process.run_job(store, "sums")
    jobs.cancel_job(store, "sums")
    assert process.wait(30) == 1
    state = jobs.job_progress(store, "sums")
    assert state.state == "cancelled", state.message
    assert 0 < state.completions_done < state.completions_total
    with pytest.raises(JobError, match="not running"):
        jobs.cancel_job(store, "sums")
    assert job_process.run_job(store, "sums").state == "done"
    assert_same(finished, store)


def shards(store: Store) -> list[Path]:
    return [*(store.path / "inbox").glob("*.parquet"), *store.path.glob("completions/*/*.parquet")]


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_a_job_ends_as_if_nothing_had_happened(
    run_dir, data, tmp_path
):
    """Three kills; `make test-chaos` has a hundred, of every process of a job."""
    spec = replace(SPEC, chunk_examples=2)  # many small chunks: every kill finds the job at work
    whole, store = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    for each in (whole, store):
        create(each, run_dir, data, spec)
    job_process.run_job(whole, "sums")
    rng, done = random.Random(3), []
    for kill in range(3):
        before = len(shards(store))
        process = start(store)
        if kill:  # the first is killed while it starts
            wait_for(lambda n=before: len(shards(store)) > n)
        time.sleep(rng.uniform(0, 0.6))
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done.append(len(shards(store)))
    print(f"chunks on disk at each kill: {done} of {len(shards(whole))}")
    assert 0 < done[-1] < len(shards(whole))
    assert jobs.job_progress(store, "sums").state == "interrupted"
    assert job_process.run_job(store, "sums").state == "done"
    assert_same(whole, store)


def test_a_run_knows_how_many_problems_it_was_trained_on(run_dir, data, tmp_path):
    for trained_on, recorded in ((None, 48), (7473, 7473), (0, 0)):
        store = Store(tmp_path / str(trained_on))
        create(store, run_dir, data, trained_on=trained_on)
        assert read_runs(store)["train_examples"].tolist() == [recorded]


def test_a_refused_start_leaves_no_example_behind(run_dir, data, tmp_path):
    store = Store(tmp_path)
    test = examples.read_examples(data[1]).examples
    add_examples(store, "sums", "test", [replace(test[0], question="another text")])
    version = store.version()
    with pytest.raises(StoreError, match="another text"):
        create(store, run_dir, data)
    assert store.version() == version
    assert read_task_examples(store, "sums", "train").empty


def test_a_start_that_was_killed_is_started_anew(run_dir, data, tmp_path):
    store = Store(tmp_path)
    folder = create(store, run_dir, data)
    folder.description.unlink()
    create(store, run_dir, data, replace(SPEC, chunk_examples=40))
    assert len(read_checkpoints(store, "sums")) == 3
    assert len(read_runs(store)) == 1


def test_a_job_names_its_process_before_anything_else(run_dir, data, tmp_path, monkeypatch):
    store = Store(tmp_path)
    create(store, run_dir, data)
    seen = []
    monkeypatch.setattr(
        dispatcher,
        "commit_inbox",
        lambda store: seen.append(jobs.job_progress(store, "sums").pid) or commit_inbox(store),
    )
    job_process.run_job(store, "sums")
    assert set(seen) == {os.getpid()}


def drawn(store: Store, run: str = "sums"):
    """Every completion that is there, by what identifies it."""
    frames = [
        read_completions(store, run, step, split, perturbation)
        for step in read_checkpoints(store, run)["step"]
        for split, perturbation in (("train", ""), ("test", ""), ("train", "first"))
    ]
    keys = ["step", "split", "perturbation", "example", "sample"]
    everything = pd.concat(frames).set_index(keys).sort_index()
    assert everything.index.is_unique
    return everything[["completion", "grade", "tokens"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_lazy_plan_draws_a_part_of_the_same_samples_and_gives_the_same_pm(
    finished, run_dir, data, tmp_path, workers
):
    store = Store(tmp_path)
    spec = replace(SPEC, plan="lazy", log_log_threshold=-2.3)
    create(store, run_dir, data, spec, execution=Execution(workers=workers))
    end = job_process.run_job(store, "sums")
    assert end.state == "done"
    full, lazy = drawn(finished), drawn(store)
    assert full.loc[lazy.index].equals(lazy)
    assert end.completions_saved == len(full) - len(lazy) > 100
    [one], [other] = (run_scores.read_task(each, "sums") for each in (finished, store))
    for t in (-2.3, -2.0, -1.0):  # and at every higher threshold
        np.testing.assert_array_equal(
            estimators.premem("plain", one.counts, one.nll, t),
            estimators.premem("plain", other.counts, other.nll, t),
        )
    lower = estimators.premem("plain", other.counts, other.nll, -6)
    assert np.isnan(lower).any()


def test_the_final_plan_gives_the_last_checkpoints_pm(finished, run_dir, data, tmp_path):
    store = Store(tmp_path)
    create(store, run_dir, data, replace(SPEC, plan="final", log_log_threshold=-2.3))
    assert job_process.run_job(store, "sums").state == "done"
    full, final = drawn(finished), drawn(store)
    assert full.loc[final.index].equals(final)
    [one], [other] = (run_scores.read_task(each, "sums") for each in (finished, store))
    last = [estimators.premem("plain", r.counts, r.nll, -2.3)[-1] for r in (one, other)]
    np.testing.assert_array_equal(*last)


def test_a_finished_job_is_extended_by_what_is_missing_and_by_nothing_else(run_dir, data, tmp_path):
    wide = replace(SPEC, sampling=replace(SPEC.sampling, samples=4), perturbations=("first",))
    at_once, store = Store(tmp_path / "once"), Store(tmp_path / "grown")
    run = checkpoints.read_run(run_dir)
    train, test = (examples.read_examples(file).examples[:20] for file in data)
    jobs.create_job(at_once, wide, run, "sums", train, test)
    job_process.run_job(at_once, "sums")
    few = replace(SPEC, sampling=replace(SPEC.sampling, samples=1), plan="lazy",
                  log_log_threshold=-2.3)  # fmt: skip
    first_two = replace(run, checkpoints=run.checkpoints[:2])
    jobs.create_job(store, few, first_two, "sums", train, ())
    job_process.run_job(store, "sums")
    before = shards(store)
    jobs.create_job(store, few, run, "sums", train, test, extend=True)  # a checkpoint and a split
    job_process.run_job(store, "sums")
    jobs.extend_job(store, "sums", samples=4, plan="full", perturbations=("first",))
    end = job_process.run_job(store, "sums")
    assert end.state == "done"
    assert set(before) <= set(shards(store))
    assert drawn(store).equals(drawn(at_once))
    assert read_checkpoints(store, "sums")["samples"].tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 2}, "it has 3 samples per problem already, more than the 2"),
        ({"perturbations": ("none",)}, "perturbation 'none' is unknown"),
        ({"plan": "lazy"}, "needs the threshold below which a solution counts"),
        ({"grader": "math"}, "grader was gsm8k, is math"),
    ],
)
def test_what_is_not_more_of_the_same_is_refused(finished, changes, message):
    with pytest.raises(PrememError, match=message):
        jobs.extend_job(finished, "sums", **changes)
    assert job_files.read_job_spec(finished, "sums") == SPEC


def test_an_extension_that_loses_or_changes_a_problem_is_refused(finished, run_dir, data):
    train, test = (examples.read_examples(file).examples for file in data)
    run = checkpoints.read_run(run_dir)
    with pytest.raises(JobError, match="is missing or has changed"):
        jobs.create_job(finished, SPEC, run, "sums", train[1:], test, extend=True)
    later = replace(run, checkpoints=run.checkpoints[1:])
    with pytest.raises(JobError, match="120 is missing from the checkpoints"):
        jobs.create_job(finished, SPEC, later, "sums", train, test, extend=True)


def test_perturbed_queries_are_sampled_at_the_last_checkpoint(run_dir, data, tmp_path):
    store = Store(tmp_path)
    create(store, run_dir, data, replace(SPEC, perturbations=("first", "we-know-that")))
    job_process.run_job(store, "sums")
    counts = read_counts(store, "sums").groupby(["perturbation", "step"])["samples"].sum()
    assert counts["first"].to_dict() == counts["we-know-that"].to_dict() == {360: 48 * 3}
    assert set(read_scores(store, "sums")["samples"]) == {3}


def test_a_job_that_is_cancelled_as_soon_as_its_process_is_known_says_so(
    run_dir, data, tmp_path, monkeypatch
):
    store = Store(tmp_path)
    create(store, run_dir, data)
    write = write_progress

    def signalled(file, state):
        write(file, state)
        monkeypatch.setattr(job_process, "write_progress", write)
        raise job_process.Cancelled

    monkeypatch.setattr(job_process, "write_progress", signalled)
    assert job_process.run_job(store, "sums").state == "cancelled"
    assert jobs.job_progress(store, "sums").state == "cancelled"


@pytest.mark.slow
def test_a_job_of_the_dashboard_waits_for_an_earlier_one_can_be_cancelled_meanwhile_and_logs(
    run_dir, data, tmp_path
):
    store = Store(tmp_path)
    create(store, run_dir, data)
    with flock(queue_lock(store), fcntl.LOCK_EX):  # as an earlier job holds it
        jobs.start_job(store, "sums")
        wait_for(lambda: is_held(tmp_path / "jobs" / "sums" / "lock"))
        wait_for(lambda: jobs.job_progress(store, "sums").pid > 0)
        assert jobs.job_progress(store, "sums").state == "queued"
        jobs.cancel_job(store, "sums")
        wait_for(lambda: jobs.job_progress(store, "sums").state == "cancelled")
        wait_for(lambda: not is_held(tmp_path / "jobs" / "sums" / "lock"))
        jobs.start_job(store, "sums")
        wait_for(lambda: "waiting for an earlier job" in jobs.log_tail(store, "sums"))
    wait_for(lambda: jobs.job_progress(store, "sums").state == "running")
    assert is_held(queue_lock(store))  # so the next one waits for it
    wait_for(lambda: jobs.job_progress(store, "sums").state == "done")
    wait_for(lambda: "done" in jobs.log_tail(store, "sums"))  # said after it is so
    assert [p.run for p in jobs.all_job_progress(store)] == ["sums"]


def test_lora_checkpoints_share_one_engine(tmp_path, data):
    folder = finetune.finetune_model(
        tiny.save_base(tmp_path / "base"), tiny.sums(0, 16), tmp_path / "lora", epochs=6,
        batch_size=8, checkpoint_every=2, lora_rank=4, learning_rate=1e-2, warmup_steps=2,
    )  # fmt: skip
    store = Store(tmp_path / "store")
    run = checkpoints.read_run(folder)
    train = examples.read_examples(data[0]).examples[:20]
    jobs.create_job(store, SPEC, run, "sums", train, ())
    end = job_process.run_job(store, "sums")
    assert end.state == "done"
    assert len(read_checkpoints(store, "sums")) == 3
    alone = Store(tmp_path / "alone")
    jobs.create_job(alone, SPEC, replace(run, checkpoints=run.checkpoints[2:]), "sums", train, ())
    job_process.run_job(alone, "sums")
    swapped = drawn(store)
    assert swapped.xs(swapped.index[-1][0], level="step").equals(
        drawn(alone).xs(swapped.index[-1][0], level="step")
    )


def test_an_estimate_keeps_nothing_and_is_of_the_right_size(finished, run_dir, data, tmp_path):
    train, test = (examples.read_examples(file).examples for file in data)
    store, run = Store(tmp_path), checkpoints.read_run(run_dir)
    found = estimate.estimate_job(SPEC, run, train, test, tmp_path, [None])
    assert found.completions == 3 * 88 * 3
    assert read_runs(store).empty
    assert not list((tmp_path / "inbox").iterdir())
    size = sum(file.stat().st_size for file in shards(finished))
    assert found.fits
    assert found.seconds > 0
    assert size / 4 < found.bytes_on_disk < 4 * size
    kept = [column_bytes(f, COLUMNS_OF_TOKENS) for f in shards(finished) if ".targets." in f.name]
    assert sum(kept) / 2 < found.bytes_of_tokens < 2 * sum(kept)
    assert "MiB for the log-probabilities and ranks" in found.in_words()
    without = replace(SPEC, tokens=False)
    found = estimate.estimate_job(without, run, train, test, tmp_path, [None])
    assert (found.bytes_of_tokens, "ranks" in found.in_words()) == (0, False)


@pytest.mark.slow
def test_an_estimate_in_a_process_of_its_own_knows_ones_own_perturbations(run_dir, data, tmp_path):
    own = {"polite": "Please: {question}"}
    request = ScoreRequest(run_dir, data[0], data[1], backend="hf", sampling=SPEC.sampling)
    job = prepare(replace(request, perturbation_texts=own))
    found = estimate.estimate_apart(tmp_path, job)
    perturbed = 48 + 48 + 40  # at the last and the first checkpoint, and test queries
    assert found.completions == (3 * 88 + perturbed) * 3
    assert read_runs(Store(tmp_path)).empty


def test_a_job_measures_the_weights_once_they_are_scored_when_asked_to(run_dir, data, tmp_path):
    store, said = Store(tmp_path), []
    base = run_dir.parent / "base"
    few = replace(SPEC, sampling=replace(SPEC.sampling, samples=1))
    with pytest.raises(JobError, match="give its folder"):
        create(store, run_dir, data, few, execution=Execution(weights=True))
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="nowhere"):
        create(store, run_dir, data, few, execution=Execution(weights=True, base=nowhere))
    create(store, run_dir, data, few, execution=Execution(weights=True, base=str(base)))
    end = job_process.run_job(store, "sums", lambda progress: said.append(progress.message))
    assert (end.state, end.message) == ("done", "")
    kept = read_baselines(store, "sums").pivot(index="step", columns="name", values="value")
    assert kept["distance"].is_monotonic_increasing
    assert len(kept["gradient_variance"].dropna()) == 3
    assert "checkpoint 120: gradient variance" in said
    version = store.version()
    job_process.run_job(store, "sums")
    assert store.version() == version
