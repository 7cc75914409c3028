"""The loss of solutions without their questions, and the difficulty that is made of it."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.analysis import run_scores
from premem_core.curation import strategies
from premem_core.errors import UsageError
from premem_core.models import checkpoints
from premem_core.problems.examples import read_examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Sampling
from premem_core.scoring import extra_passes, job_files, job_process, jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.checkpoint_measures import read_unconditional_nll
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples

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
