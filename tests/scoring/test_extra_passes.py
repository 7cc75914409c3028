"""The loss of solutions without their questions, and the difficulty that is made of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.analysis import run_scores
from premem_core.curation import strategies
from premem_core.errors import CheckpointError, UsageError
from premem_core.models import checkpoints, gradient_variance
from premem_core.problems.examples import read_examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint, Sampling
from premem_core.scoring import extra_passes, job_files, job_process, jobs
from premem_core.scoring.job_files import Execution
from premem_core.scoring.preparation import estimate
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.checkpoint_measures import read_baselines, read_unconditional_nll
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from tests.helpers import tiny

SPEC = ScoringSpec("sums", "gsm8k", sampling=Sampling(samples=1, max_new_tokens=8))
T = -2.3


@pytest.fixture(scope="module")
def store(run_dir, data, tmp_path_factory) -> Store:
    home = Store(tmp_path_factory.mktemp("alone"))
    train, test = (read_examples(file).examples for file in data)
    jobs.create_job(home, SPEC, checkpoints.read_run(run_dir), "sums", train[:12], test[:2])
    assert job_process.run_job(home, "sums").state == "done"
    return home


def evidence(store: Store) -> strategies.ExampleFacts:
    return strategies.read_example_facts(store, "sums", run_scores.read_task(store, "sums"), T)


def test_solutions_alone_are_measured_once_and_rank_by_difficulty(store, run_dir, monkeypatch):
    with pytest.raises(UsageError, match="it needs the NLL of each solution without its question"):
        strategies.strategy_values(evidence(store), "ifd")
    command = ["ifd", "--store", str(store.path), "--run", "sums", "--backend", "hf"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "the NLL of 12 solutions of 'sums' without their question is measured" in result.output

    examples, template = job_files.read_training_problems(store, "sums")
    assert isinstance(template, PromptTemplate)
    alone = read_unconditional_nll(store, "sums")
    [run] = run_scores.read_task(store, "sums")
    assert set(alone["step"]) == {int(run.steps[0])}
    numbers = read_task_examples(store, "sums", "train").set_index("id")["example"]
    [first, *_] = checkpoints.read_run(run_dir).checkpoints
    model = AutoModelForCausalLM.from_pretrained(first.path)
    for example in examples[:3]:
        # A byte, a token, with a BOS in front.
        ids = torch.tensor([[0, *_bytes(template.fill(example)[1], first.path)]])
        log_probabilities = model(ids).logits[0].log_softmax(-1)
        loss = -torch.stack(
            [log_probabilities[i - 1, ids[0, i]] for i in range(1, ids.shape[1])]
        ).mean()
        kept = alone.set_index("example")["nll"][numbers[example.id]]
        assert kept == pytest.approx(loss.item(), rel=1e-5)

    found = strategies.strategy_values(evidence(store), "ifd")
    ratio = run.nll[0] / alone.set_index("example")["nll"].reindex(run.examples).to_numpy()
    np.testing.assert_allclose(found.to_numpy(), np.where(ratio > 1, np.nan, ratio))

    monkeypatch.setattr(
        extra_passes.load_backend, "load_backend", lambda *_: pytest.fail("loaded again")
    )
    assert extra_passes.measure_unconditional_nll(store, "sums", examples, template) == 12


def _bytes(text: str, folder) -> list[int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> tuple[Path, Path]:
    """A run of adapters that name a base on a hub, the last one in its own folder; and the base."""
    folder = tmp_path_factory.mktemp("adapters")
    base, run = tiny.save_base(folder / "elsewhere/base"), folder / "lora"
    for seed, place in enumerate((run / "checkpoint-10", run)):
        tiny.save_adapter(base, place, seed=seed, target_modules=["q_proj", "v_proj"])
        config = place / "adapter_config.json"
        named = json.loads(config.read_text()) | {"base_model_name_or_path": "example-org/base"}
        config.write_text(json.dumps(named))
    return run, base


@pytest.fixture(scope="module")
def adapted(adapters, tmp_path_factory) -> Store:
    """A store with this run, scored and measured over the base that was given."""
    run, base = adapters
    home = Store(tmp_path_factory.mktemp("adapted"))
    read = checkpoints.read_run(run, base=base)
    execution = Execution(weights=True, base=str(base))
    jobs.create_job(home, SPEC, read, "sums", tiny.sums(0, 6), (), execution=execution)
    end = job_process.run_job(home, "sums")
    assert (end.state, end.message) == ("done", "")
    return home


def test_a_given_base_model_is_that_of_every_measure_of_the_weights(adapters, adapted):
    run, base = adapters
    kept = read_baselines(adapted, "sums").set_index(["step", "name"])["value"]
    assert sorted(kept.index) == [
        (10, "distance"), (10, "gradient_variance"), (11, "distance"), (11, "gradient_variance"),
    ]  # fmt: skip
    for step, path in ((10, run / "checkpoint-10"), (11, run)):
        checkpoint = Checkpoint(path, step, adapter_base=str(base))
        value = gradient_variance.measure_gradient_variance(
            checkpoint, tiny.sums(0, 6), SPEC.template
        )
        assert kept[step, "gradient_variance"] == pytest.approx(value, rel=1e-4)


def test_a_given_base_model_is_that_of_solutions_alone_of_estimates_and_of_more_samples(
    adapters, adapted
):
    result = CliRunner().invoke(
        app, ["ifd", "--store", str(adapted.path), "--run", "sums", "--backend", "hf"]
    )
    assert result.exit_code == 0, result.output
    alone = read_unconditional_nll(adapted, "sums")
    assert (alone["step"].unique().tolist(), len(alone)) == ([10], 6)
    spec, run, queries = job_files.read_job(adapted, "sums")
    assert {c.adapter_base for c in run.checkpoints} == {str(adapters[1])}
    problems = [query.example for query in queries]
    found = estimate.estimate_job(spec, run, problems, (), adapted.path, [None])
    assert found.completions == 2 * 6
    jobs.extend_job(adapted, "sums", samples=2, perturbations=("first",))
    end = job_process.run_job(adapted, "sums")
    assert (end.state, end.completions_done) == ("done", 2 * 6 * 2 + 6 * 2)


def test_another_base_model_can_be_given_and_a_checkpoint_that_is_gone_is_named(adapters, adapted):
    checkpoint = job_files.read_checkpoint(adapted, "sums", 10, adapters[1].parent)
    assert checkpoint.adapter_base == str(adapters[1].parent)
    with pytest.raises(CheckpointError, match="no longer holds checkpoint 12"):
        job_files.read_checkpoint(adapted, "sums", 12)
