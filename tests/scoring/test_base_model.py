"""Base models as step 0: what is scored of them, what they know, and where they do not appear."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from premem_core.analysis import run_scores
from premem_core.analysis.base_model import read_base_model
from premem_core.errors import CheckpointError, JobError, PrememWarning, StoreError, UsageError
from premem_core.grading.graders import make_grader
from premem_core.grading.regrade import regrade_run
from premem_core.models import checkpoints
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Checkpoint, Example, Sampling
from premem_core.scoring import job_files, job_process, jobs
from premem_core.scoring.checkpoint import score_checkpoint
from premem_core.scoring.chunks import sample_chunks, target_chunks
from premem_core.scoring.job_files import Execution
from premem_core.scoring.spec import Query, ScoringSpec
from premem_core.scoring.work_left import find_work_left
from premem_core.store.checkpoint_measures import read_continuations
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.grades import grade_shards
from premem_core.store.runs import read_checkpoints, read_runs, read_scored_base
from premem_core.store.scores import (
    COUNT_COLUMNS,
    read_committed_shards,
    read_counts,
    read_scores,
)
from premem_core.store.shards.committed_shards import withdraw_broken
from premem_core.store.shards.shards import ShardName, ShardWriter, completions_folder, find_shards
from tests.helpers import tiny

NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal")
SPEC = ScoringSpec(
    "r",
    "gsm8k",
    backend="hf",
    sampling=Sampling(samples=2, max_new_tokens=6),
    chunk_examples=3,
    score_base=True,
)


def question(i: int, split: str) -> str:
    return (
        f"{NAMES[i]} has {i + 3} red {split} pens and buys {2 * i + 5} more of them at a shop near "
        f"the {NAMES[-i - 1]} bridge. How many pens does {NAMES[i]} have now?"
    )


def problems(split: str, n: int = 8) -> list[Example]:
    made = [
        Example(f"{i}", question(i, split), f"#### {3 * i + 8}", f"{3 * i + 8}") for i in range(n)
    ]
    return [*made, Example("short", "What is 2+2?", "#### 4", "4")]


TRAIN, TEST = problems("train"), problems("test")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A base model that knows the first two training questions by heart."""
    folder = tiny.save_base(tmp_path_factory.mktemp("models") / "base")
    tiny.learn_texts(folder, [example.question for example in TRAIN[:2]])
    return folder


@pytest.fixture(scope="module")
def run_folder(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for step in (10, 20):
        tiny.save_base(folder / f"checkpoint-{step}", seed=step)
    return folder


def create(store, folder, spec=SPEC, **options):
    run = checkpoints.read_run(folder)
    return jobs.create_job(store, spec, run, "pens", TRAIN, TEST, **options)


@pytest.fixture(scope="module")
def finished(run_folder, base, tmp_path_factory) -> Store:
    store = Store(tmp_path_factory.mktemp("finished"))
    create(store, run_folder, execution=Execution(base=str(base)))
    assert job_process.run_job(store, "r").state == "done"
    return store


def known(store):
    """The numbers of the questions whose continuation is known, and whether each was asked for."""
    found = read_continuations(store, "r")
    return found[found["known"].fillna(False)]["example"].tolist(), found["known"].notna()


def test_the_base_model_knows_the_questions_that_it_was_trained_on_and_no_others(finished):
    numbers, asked = known(finished)
    texts = read_task_examples(finished, "pens", "train").set_index("example")["question"]
    assert texts[numbers].tolist() == [example.question for example in TRAIN[:2]]
    assert asked.sum() == len(asked) - 2  # one question of each split is too short


def test_the_base_model_is_sampled_and_measured_as_a_checkpoint_and_is_none(finished, run_folder):
    assert read_checkpoints(finished, "r")["step"].tolist() == [10, 20]
    assert read_runs(finished)[["checkpoints", "scored"]].to_numpy().tolist() == [[2, 2]]
    counts = read_counts(finished, "r").query("step == 0")
    assert len(counts) == len(TRAIN) + len(TEST)
    assert set(counts["samples"]) == {2}
    assert counts.query("split == 'train'")["nll"].notna().all()
    assert len(read_completions(finished, "r", 0, "test")) == 2 * len(TEST)
    assert 0 not in set(read_scores(finished, "pens")["step"])
    [scores] = run_scores.read_task(finished, "pens")
    assert scores.steps.tolist() == [10, 20]


def test_a_run_is_scored_the_same_with_and_without_its_base_model(finished, run_folder, tmp_path):
    without = Store(tmp_path)
    create(without, run_folder, replace(SPEC, score_base=False))
    assert job_process.run_job(without, "r").state == "done"
    assert read_scores(without, "pens").equals(read_scores(finished, "pens"))
    assert read_scored_base(without, "r") is None
    jobs.extend_job(without, "r", score_base=True, base=Path(read_scored_base(finished, "r")))
    assert job_process.run_job(without, "r").state == "done"
    assert read_committed_shards(without, "r") == read_committed_shards(finished, "r")
    assert known(without)[0] == known(finished)[0]


def test_with_a_share_of_the_problems_the_base_model_is_sampled_on_as_many():
    spec = replace(SPEC, plan="last", log_log_threshold=-2.3, share=0.5)
    queries = [Query(n, "train", example) for n, example in enumerate(TRAIN)]
    queries += [Query(n, "test", example) for n, example in enumerate(TEST, len(TRAIN))]
    work = find_work_left(spec, [10], queries, pd.DataFrame(columns=list(COUNT_COLUMNS)))
    base = work.at(0)
    assert len(target_chunks(base, 0)) == len(target_chunks(work, 10)) == 3
    assert [chunk.split for chunk in sample_chunks(base, 0)] == ["test"] * 3
    base.grids[0].nll[:] = 0.01  # low, but no base model has memorized anything
    drawn = [n for c in sample_chunks(base, 0) if c.split == "train" for n in c.numbers]
    assert drawn == [range(2)] * round(len(TRAIN) / 2)
    assert work.at_most()[0] == 2 * (len(drawn) + len(TEST))


@pytest.mark.slow
def test_a_killed_job_scores_each_question_of_the_base_model_once(
    finished, run_folder, base, tmp_path
):
    store, chunks = Store(tmp_path), list[str]()
    folder = create(store, run_folder, execution=Execution(base=str(base)))
    queries = job_files.read_queries(folder)
    work = find_work_left(SPEC, [10, 20], queries, read_counts(store, "r"))

    def kill(chunk, seconds):
        chunks.append(chunk.kind)
        if chunk.kind == "continuations":
            raise KeyboardInterrupt

    backend, writer = TransformersBackend(Checkpoint(base, 0)), ShardWriter(str(tmp_path), "r")
    with make_grader("gsm8k") as grader, pytest.raises(KeyboardInterrupt):
        score_checkpoint(work, 0, backend, grader, writer, kill)
    assert len(chunks) == 4 < len(find_shards(completions_folder(finished.path, "r"), step=0))
    assert job_process.run_job(store, "r").state == "done"
    assert read_committed_shards(store, "r") == read_committed_shards(finished, "r")
    assert known(store)[0] == known(finished)[0]
    assert read_counts(store, "r").query("step == 0")["samples"].eq(2).all()


def test_a_cut_shard_of_the_base_model_is_done_again(finished, tmp_path):
    store = Store(shutil.copytree(finished.path, tmp_path / "store"))
    folder = completions_folder(store.path, "r")
    before = read_continuations(store, "r")
    shard = find_shards(folder, step=0, split="train", kind="continuations")[0]
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.warns(PrememWarning, match="cut off"):
        assert withdraw_broken(store, "r") == 1
    assert len(read_continuations(store, "r")) < len(before)
    assert read_scored_base(store, "r") is None
    assert job_process.run_job(store, "r").state == "done"
    assert read_continuations(store, "r").equals(before)
    assert read_counts(store, "r").query("step == 0")["samples"].eq(2).all()


@pytest.mark.slow
def test_a_checkpoint_of_step_0_is_the_base_model(run_folder, base, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    shutil.copytree(base, folder / "checkpoint-0")
    store = Store(tmp_path / "store")
    create(store, folder)
    assert job_process.run_job(store, "r").state == "done"
    assert read_checkpoints(store, "r")["step"].tolist() == [0, 10, 20]
    [scores] = run_scores.read_task(store, "pens")
    found = read_base_model(store, "r")
    assert found.is_checkpoint
    assert found.train == scores.train_interval[0][0]
    assert found.known_train.known == 2


@pytest.mark.slow
def test_the_base_model_of_adapters_is_their_base_without_an_adapter(base, tmp_path):
    folder = tmp_path / "run"
    for step in (10, 20):
        tiny.save_adapter(base, folder / f"checkpoint-{step}", seed=step)
    store = Store(tmp_path / "store")
    create(store, folder, replace(SPEC, plan="final", log_log_threshold=-2.3))
    assert job_process.run_job(store, "r").state == "done"
    assert read_scored_base(store, "r") == str(base)
    assert len(known(store)[0]) == 2


@pytest.mark.slow
def test_a_base_model_that_fails_costs_itself_and_the_run_goes_on(run_folder, base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "base")
    store = Store(tmp_path / "store")
    create(store, run_folder, execution=Execution(base=str(copy)))
    weights = copy / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: t * np.nan for name, t in tensors.items()}, weights, {"format": "pt"})
    end = job_process.run_job(store, "r")
    assert (end.state, end.message.partition(":")[0]) == ("failed", "base model")
    assert read_base_model(store, "r") is None
    assert read_runs(store)[["scored", "failed"]].to_numpy().tolist() == [[2, 0]]


def test_what_cannot_be_the_base_model_is_refused_in_words(run_folder, base, finished, tmp_path):
    run = checkpoints.read_run(run_folder)
    with pytest.raises(CheckpointError, match=r"names the base model.*--base"):
        checkpoints.base_checkpoint(run)
    with pytest.raises(CheckpointError, match=r"not on this machine.*--base"):
        checkpoints.base_checkpoint(run, tmp_path / "none")
    smaller = tiny.save_base(tmp_path / "smaller", vocab_size=200)
    with pytest.raises(CheckpointError, match="has only 200 tokens"):
        checkpoints.base_checkpoint(run, smaller)
    other = tiny.save_base(tmp_path / "other", seed=5)
    with pytest.raises(StoreError, match=r"base model of the run 'r' is .*give the first one"):
        create(finished, run_folder, resume=True, execution=Execution(base=str(other)))
    with pytest.raises(UsageError, match="server does not serve the run's base model"):
        create(Store(tmp_path / "store"), run_folder, replace(SPEC, backend="server"))
    with pytest.raises(JobError, match="base model is scored, but not requested"):
        create(finished, run_folder, replace(SPEC, score_base=False), extend=True)


def test_a_base_model_is_found_by_what_the_runs_files_name(run_folder, base, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "README.md").write_text(f"---\nbase_model: {base}\n---\n# A run\n")
    found = checkpoints.base_checkpoint(checkpoints.read_run(folder))
    assert found == Checkpoint(base, 0, tokenizer=folder / "checkpoint-20")


def test_a_base_model_reads_the_prompts_with_the_tokenizer_of_the_run(run_folder, tmp_path):
    without_bos = tiny.save_base(tmp_path / "base", bos=False)
    loaded = TransformersBackend(
        checkpoints.base_checkpoint(checkpoints.read_run(run_folder), without_bos)
    )
    assert loaded.tokenizer("a")["input_ids"][0] == loaded.tokenizer.bos_token_id


def test_the_completions_of_a_base_model_are_graded_again_with_the_others(finished, tmp_path):
    store = Store(shutil.copytree(finished.path, tmp_path / "store"))
    regrade_run(store, "r", "exact")
    graded = [ShardName.parse(shard.name) for shard in grade_shards(store, "r", "exact")]
    assert {(name.step, name.kind) for name in graded} == {(s, "samples") for s in (0, 10, 20)}
    assert read_counts(store, "r").query("step == 0")["samples"].eq(2).all()
    assert read_base_model(store, "r").known_train.known == 2
