"""Gradient variance against autograd, one example at a time, every gradient kept."""

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from premem_core.errors import CheckpointError, DataError
from premem_core.models import gradient_variance, loading
from premem_core.models.gradient_variance import measure_gradient_variance
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint
from tests.helpers import tiny

TEMPLATE = PromptTemplate()
EXAMPLES = tiny.sums(0, 23)


@pytest.fixture(scope="module", params=[True, False], ids=["with BOS", "without BOS"])
def base(request, tmp_path_factory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model")
    return Checkpoint(tiny.save_base(folder, bos=request.param, seed=3), 0)


def plain_variance(model, tokenizer, batches) -> float:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flat = []
    for batch in batches:
        losses = []
        for prompt, target in map(TEMPLATE.fill, batch):
            ids = tokenizer(prompt + target, return_tensors="pt")["input_ids"]
            log_probabilities = model(ids).logits[0].log_softmax(-1)
            first = ids.shape[1] - len(target.encode())  # a byte, a token
            losses += [-log_probabilities[i - 1, ids[0, i]] for i in range(first, ids.shape[1])]
        gradient = torch.autograd.grad(torch.stack(losses).mean(), parameters)
        flat.append(torch.cat([part.flatten() for part in gradient]).double())
    return float(torch.stack(flat).var(dim=0).mean())


def drawn(batches: int, batch_size: int):
    order = np.random.default_rng(0).permutation(len(EXAMPLES))
    return [[EXAMPLES[i] for i in order[b * batch_size :][:batch_size]] for b in range(batches)]


@pytest.mark.parametrize("tokens", [1, 150, 2048])
def test_variance_is_that_of_whole_gradients_whatever_the_micro_batch(base, tokens, monkeypatch):
    monkeypatch.setattr(gradient_variance, "TOKENS", tokens)
    model = AutoModelForCausalLM.from_pretrained(base.path)
    tokenizer = loading.load_tokenizer(base.path)
    expected = plain_variance(model, tokenizer, drawn(3, 7))
    found = measure_gradient_variance(base, EXAMPLES, TEMPLATE, batches=3)
    assert found == pytest.approx(expected, rel=1e-4)


def test_of_an_adapter_only_its_own_weights_count(base, tmp_path):
    adapter = tiny.save_adapter(base.path, tmp_path / "adapter", seed=3)
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base.path), adapter.path, is_trainable=True
    )
    tokenizer = loading.load_tokenizer(base.path)
    expected = plain_variance(model, tokenizer, drawn(5, 4))
    assert measure_gradient_variance(adapter, EXAMPLES, TEMPLATE) == pytest.approx(
        expected, rel=1e-4
    )


def test_too_few_examples_and_too_little_memory_are_said(base, monkeypatch, tmp_path):
    with pytest.raises(DataError, match="5 mini-batches, and there are 4 training examples"):
        measure_gradient_variance(base, EXAMPLES[:4], TEMPLATE)
    with pytest.raises(CheckpointError, match="nowhere cannot be loaded"):
        measure_gradient_variance(Checkpoint(tmp_path / "nowhere", 0), EXAMPLES, TEMPLATE)

    def full(model, batch, tokens):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(gradient_variance, "_backward", full)
    with pytest.raises(MemoryError, match="no memory for the gradient"):
        measure_gradient_variance(base, EXAMPLES, TEMPLATE)


def test_where_memory_runs_out_in_the_middle_of_a_batch_it_is_done_again_in_smaller_parts(
    base, monkeypatch
):
    expected = measure_gradient_variance(base, EXAMPLES, TEMPLATE)
    whole, sizes = gradient_variance._backward, []

    def tight(model, batch, tokens):
        sizes.append(tokens)
        whole(model, batch, tokens)  # leaves a gradient, as the first parts of a batch do
        if tokens > 100:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(gradient_variance, "_backward", tight)
    assert measure_gradient_variance(base, EXAMPLES, TEMPLATE) == pytest.approx(expected, rel=1e-4)
    assert sizes == [2048, 1024, 512, 256, 128, 64, 64, 64, 64, 64]
