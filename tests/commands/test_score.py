"""The options of `score` and `jobs`: what becomes of them."""

import json
import shutil
from pathlib import Path

import pytest

from premem_core.commands import jobs as job_commands
from premem_core.commands.score import ScoreOptions
from premem_core.errors import UsageError
from premem_core.models import checkpoints
from premem_core.problems import examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Sampling
from premem_core.scoring import job_files, jobs
from premem_core.scoring.job_files import Execution
from premem_core.scoring.preparation.request import ScoreRequest
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.store.runs import read_runs
from tests.helpers.commands import premem

RUN, TRAIN = Path("runs/lr2e-5"), Path("train.jsonl")


def test_without_options_a_request_is_the_default_one():
    assert ScoreOptions(run_dir=RUN, train=[TRAIN]).request() == ScoreRequest(RUN, (TRAIN,))


def test_every_option_reaches_the_request():
    request = ScoreOptions(
        run_dir=RUN, train=[TRAIN], run="", task="t", plan="lazy", log_log_threshold=0.0,
        samples=2, temperature=0.0, seed=0, perturb=["first"], perturb_all=True,
        perturb_template=[r"polite=Please:\n{question}"], perturb_file=["hand=a=b.jsonl"],
        prompt_template=r"{question}\n", stop="", workers=2, measure_weights=True,
        base=Path("/base"),
    ).request()  # fmt: skip
    assert (request.run, request.task, request.log_log_threshold) == (None, "t", 0.0)
    assert request.sampling == Sampling(2, 0.0, 0.95, 512, 0)
    assert (request.perturbations, request.perturb_all) == (("first",), True)
    assert request.perturbation_texts == {"polite": "Please:\n{question}"}
    assert request.perturbation_files == {"hand": Path("a=b.jsonl")}
    assert isinstance(request.template, PromptTemplate)
    assert (request.template.prompt, request.stop) == ("{question}\n", ())
    assert request.execution == Execution(workers=2, weights=True, base="/base")


@pytest.mark.parametrize(
    ("given", "plan", "samples"),
    [
        ({}, "full", 5),
        ({"purpose": "accuracy"}, "last", 1),
        ({"purpose": "examples"}, "lazy", 5),
        ({"purpose": "curation", "samples": 3}, "final", 3),
        ({"plan": "last", "samples": 2}, "last", 2),
        ({"share": 0.5}, "last", 1),
        ({"precision": 1.0}, "last", 1),
        ({"purpose": "accuracy", "generations": 100}, "last", 1),
    ],
)
def test_a_purpose_or_a_budget_chooses_the_plan(given, plan, samples):
    request = ScoreOptions(run_dir=RUN, train=[TRAIN], **given).request()
    assert (request.plan, request.sampling.samples) == (plan, samples)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"purpose": "accuracy", "plan": "full"}, "chooses the plan last, and --plan names one"),
        ({"precision": 1.0, "samples": 2}, "--precision chooses how many .* leave --samples"),
        ({"generations": 9, "share": 0.5}, "--generations chooses"),
    ],
)
def test_a_plan_is_not_chosen_twice(given, message):
    with pytest.raises(UsageError, match=message):
        ScoreOptions(run_dir=RUN, train=[TRAIN], **given).request()


@pytest.mark.parametrize(
    "given",
    [
        {"perturb_template": ["nameless"]},
        {"perturb_template": ["a={question}", "a={question}"]},
        {"perturb_template": ["a={question}"], "perturb_file": ["a=file.jsonl"]},
    ],
)
def test_each_perturbation_of_ones_own_needs_a_name_of_its_own(given):
    with pytest.raises(UsageError, match="give it a unique name"):
        ScoreOptions(run_dir=RUN, train=[TRAIN], **given).request()


def test_extending_a_job_to_a_threshold_of_zero_is_extending_it(
    run_dir, data, tmp_path, monkeypatch
):
    store = Store(tmp_path)
    train, test = (examples.read_examples(file).examples for file in data)
    spec = ScoringSpec("sums", "gsm8k", plan="lazy", log_log_threshold=-2.3)
    jobs.create_job(store, spec, checkpoints.read_run(run_dir), "sums", train, test)
    monkeypatch.setattr(job_commands, "run_job", lambda store, run: None)
    job_commands.jobs_extend("sums", tmp_path, log_log_threshold=0.0)
    assert job_files.read_job_spec(store, "sums").log_log_threshold == 0.0
    job_commands.jobs_extend("sums", tmp_path, samples=6, perturb=["first"])  # the rest stays
    extended = job_files.read_job_spec(store, "sums")
    assert (extended.plan, extended.log_log_threshold) == ("lazy", 0.0)
    assert (extended.sampling.samples, extended.perturbations) == (6, ("first",))


@pytest.fixture
def parent(run_dir, tmp_path) -> Path:
    """A folder of two runs of one checkpoint each, and one, the first, that cannot be used."""
    last = sorted(run_dir.glob("checkpoint-*"))[-1]
    folder = tmp_path / "runs"
    for run in ("lr2", "sft/lr1"):
        shutil.copytree(last, folder / run / last.name)
    shutil.copytree(last, folder / "broken" / last.name)
    (folder / "broken" / last.name / "model.safetensors").unlink()
    return folder


@pytest.fixture
def score(parent, data, tmp_path):
    """The command for all runs below the folder, made short."""
    short = ("--samples", 1, "--max-new-tokens", 4, "--train-sample", 4, "--backend", "hf")

    def run(*options):
        store = ("--store", tmp_path / "store")
        return premem("score", parent, "--train", data[0], *store, *short, *options)

    return run


def test_each_run_below_a_folder_is_scored_and_one_that_fails_stops_no_other(score, tmp_path):
    refused = score()
    assert refused.returncode == 1
    assert "holds 3: broken, lr2, sft/lr1; give one of them, or score all of them (--all-runs)" in (
        refused.stderr
    )
    done = score("--all-runs")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("run ") and " of 3: " in line] == [
        "run 1 of 3: broken", "run 2 of 3: lr2", "run 3 of 3: sft-lr1",
    ]  # fmt: skip
    [error] = [line for line in lines if line.startswith("error: ")]
    assert error.startswith("error: broken: ")
    assert "holds no weights" in error
    assert lines.count("done") == 2
    assert lines[-1] == "1 of 3 runs failed: broken"
    store = Store(tmp_path / "store")
    runs = read_runs(store)
    assert runs["run"].tolist() == ["lr2", "sft-lr1"]
    assert runs["scored"].tolist() == [1, 1]
    again = score("--all-runs")  # what is there already is no reason to stop either
    assert again.stderr.count("resume it (--resume)") == 2
    resumed = score("--all-runs", "--resume")
    assert resumed.stderr.splitlines().count("done") == 2


def test_a_dry_run_and_an_estimate_are_of_each_run(score, parent, tmp_path):
    shutil.rmtree(parent / "broken")
    dry = score("--all-runs", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "run lr2: 1 checkpoints" in dry.stderr
    assert "run sft-lr1: 1 checkpoints" in dry.stderr
    estimated = score("--all-runs", "--estimate")
    assert estimated.returncode == 0, estimated.stderr
    assert estimated.stderr.count("Estimate: at most") == 2
    seen = json.loads(score("--all-runs", "--preview", "--json").stdout)
    assert list(seen["runs"]) == ["lr2", "sft-lr1"]
    assert not (tmp_path / "store").exists()


def test_one_name_for_several_runs_is_refused(score):
    refused = score("--all-runs", "--run", "mine")
    assert refused.returncode == 2
    assert "--run 'mine' is one name, and" in refused.stderr
    assert "holds 3 runs: broken, lr2, sft-lr1" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_data_that_cannot_be_read_is_said_once(score, parent, data):
    shutil.rmtree(parent / "broken")
    refused = score("--all-runs", "--question", "nothing")
    assert refused.returncode != 0
    assert refused.stderr.count("error: ") == 1
