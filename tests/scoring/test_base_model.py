"""Base models as step 0: what is scored of them, what they know, and where they do not appear."""

from dataclasses import replace
from pathlib import Path

import pytest

from premem_core.analysis import run_scores
from premem_core.models import checkpoints
from premem_core.records import Example, Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.job_files import Execution
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.checkpoint_measures import read_continuations
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import read_checkpoints, read_runs, read_scored_base
from premem_core.store.scores import read_committed_shards, read_counts, read_scores
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
    """A base model that knows the first half of the training questions by heart."""
    folder = tiny.save_base(tmp_path_factory.mktemp("models") / "base")
    tiny.learn_texts(folder, [example.question for example in TRAIN[:4]])
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
    assert texts[numbers].tolist() == [example.question for example in TRAIN[:4]]
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
