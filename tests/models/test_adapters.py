"""Adapters as PEFT saves them: what they hold, where their base is, and that they load right."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from premem_core.errors import CheckpointError
from premem_core.models import loading, vllm_options
from premem_core.models.checkpoints import check_checkpoint, read_run
from premem_core.models.on_disk import base_models
from premem_core.records import Checkpoint
from tests.helpers import tiny
from tests.helpers.paths import ROOT

IDS = torch.tensor([[0, 5, 77, 3, 9]])
TOKENS = 258  # of the tiny tokenizer
BOTH = ["embed_tokens", "lm_head"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several, which wait for each other, take ten times as long
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """The same model with tied and with untied embeddings."""
    folder = tmp_path_factory.mktemp("bases")
    return {
        tied: tiny.save_base(folder / str(tied), tie_word_embeddings=tied) for tied in (True, False)
    }


def trained(base, folder, *, seed=1, tokens=None, save=(), **config):
    """An adapter with other weights than at its start, and the logits of the trained model."""
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if tokens:
        model.resize_token_embeddings(tokens, mean_resizing=False)
    settings: dict[str, Any] = {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj"]}
    model = get_peft_model(model, LoraConfig(**(settings | config))).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(str(folder), **dict(save))
    tokenizer = tiny.byte_tokenizer(bos=True)
    tokenizer.add_tokens([f"<{i}>" for i in range(TOKENS, tokens or TOKENS)])
    tokenizer.save_pretrained(folder)
    with torch.inference_mode():
        return Checkpoint(folder, 0, adapter_base=str(base)), model(IDS).logits


def logits(model):
    with torch.inference_mode():
        return model.eval()(IDS).logits


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilized": {"use_rslora": True, "r": 4},
    "weight-decomposed": {"use_dora": True},
    "with whole embeddings": {"modules_to_save": BOTH},
    "with whole norms": {"modules_to_save": ["norm"]},
    "with trained tokens": {"trainable_token_indices": [5, 9]},
    "resized": {"tokens": 261},
    "resized to fewer": {"tokens": 250},
    "resized, with whole embeddings": {"tokens": 261, "modules_to_save": BOTH},
    "resized, with trained tokens": {"tokens": 261, "trainable_token_indices": [5, 260]},
    "over the embeddings": {"target_modules": ["q_proj", *BOTH]},
    "resized, over the embeddings": {"tokens": 261, "target_modules": ["q_proj", *BOTH]},
    "from principal components": {"init_lora_weights": "pissa"},
    "from a QR decomposition": {"init_lora_weights": "olora"},
}


@pytest.mark.filterwarnings("ignore")  # of PEFT, about saving embeddings and tied weights
@pytest.mark.parametrize(
    ("kind", "tied"),
    [(kind, tied) for n, kind in enumerate(KINDS) for tied in (True, False)[n % 2 :: 2]]
    + [("with whole embeddings", False), ("resized", True), ("over the embeddings", False)],
)
def test_an_adapter_that_passes_the_check_loads_as_it_was_trained_and_is_switched(
    kind, tied, bases, tmp_path
):
    base = bases[tied]
    found = [trained(base, tmp_path / str(seed), seed=seed, **KINDS[kind]) for seed in (1, 2)]
    for checkpoint, _ in found:
        if kind != "resized to fewer":
            check_checkpoint(checkpoint)
    (one, expected), (two, expected_two) = found
    assert not torch.allclose(expected, expected_two, atol=1e-3)
    _, model = loading.load_model(one.path, torch.float32, adapter_base=str(base))
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    loading.check_same_base(one, two)
    for checkpoint, then in ((two, expected_two), (one, expected)):
        loading.switch_adapter(model, checkpoint.path)
        torch.testing.assert_close(logits(model), then, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_fails_while_it_is_loaded_leaves_the_former_embeddings(bases, tmp_path):
    one, expected = trained(bases[False], tmp_path / "1", tokens=261)
    two, _ = trained(bases[False], tmp_path / "2", seed=2, tokens=261)
    file = two.path / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    _, model = loading.load_model(one.path, torch.float32, adapter_base=one.adapter_base)
    with pytest.raises(CheckpointError, match="lacks 1 weights"):
        loading.switch_adapter(model, two.path)
    torch.testing.assert_close(logits(model), expected)


@pytest.mark.filterwarnings("ignore")
def test_adapters_with_other_embeddings_do_not_share_a_loaded_model(bases, tmp_path):
    plain, _ = trained(bases[True], tmp_path / "plain")
    resized, _ = trained(bases[True], tmp_path / "resized", tokens=261)
    with pytest.raises(CheckpointError, match="embeddings of different shapes"):
        loading.check_same_base(resized, plain)


def edit_config(checkpoint, **changes):
    file = checkpoint.path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("made", "edited", "sentence"),
    [
        ({}, {"modules_to_save": ["lm_head"]}, "lacks the weights of lm_head"),
        ({}, {"trainable_token_indices": [5]}, "lacks the tokens that adapter_config"),
        ({}, {"init_lora_weights": "corda"}, "in a way that cannot be repeated"),
        ({"tokens": 261, "save": {"save_embedding_layers": False}}, {}, "'<260>' with the id 260"),
    ],
    ids=["whole module", "tokens", "start", "embeddings"],
)
def test_an_adapter_without_what_it_trained_is_refused_before_it_is_loaded(
    made, edited, sentence, bases, tmp_path
):
    checkpoint, _ = trained(bases[False], tmp_path / "adapter", **made)
    edit_config(checkpoint, **edited)
    with pytest.raises(CheckpointError, match=sentence):
        check_checkpoint(checkpoint)


def test_an_adapter_over_another_model_is_refused_from_the_headers(bases, tmp_path):
    other = tiny.save_base(tmp_path / "other", hidden_size=32)
    checkpoint, _ = trained(bases[True], tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"adapts .*q_proj with 64 inputs and 64 outputs"):
        check_checkpoint(Checkpoint(checkpoint.path, 0, adapter_base=str(other)))
    inner, _ = trained(bases[True], tmp_path / "inner")
    with pytest.raises(CheckpointError, match=r"holds no config\.json, so it is not the base"):
        check_checkpoint(Checkpoint(checkpoint.path, 0, adapter_base=str(inner.path)))


def test_a_base_in_4_bits_needs_the_package_that_reads_it(bases, tmp_path):
    base = tiny.save_base(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    checkpoint, _ = trained(bases[True], tmp_path / "adapter")
    with pytest.raises(
        CheckpointError, match="quantized with bitsandbytes, which is not installed"
    ):
        check_checkpoint(Checkpoint(checkpoint.path, 0, adapter_base=str(base)))


def test_vllm_refuses_what_it_cannot_apply(bases, tmp_path):
    checkpoint, _ = trained(bases[True], tmp_path / "dora", use_dora=True)
    with pytest.raises(CheckpointError, match=r"more than plain LoRA .*use_dora.*hf backend"):
        vllm_options.check_plain_lora(checkpoint)
    plain, _ = trained(bases[True], tmp_path / "plain", use_rslora=True)
    vllm_options.check_plain_lora(plain)


def named(base, folder, name):
    trained(base, folder)
    edit_config(Checkpoint(folder, 0), base_model_name_or_path=name)
    return folder


def test_a_base_named_as_on_a_hub_is_the_one_in_the_local_cache(bases, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--example-org--tiny" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    os.symlink(bases[True], snapshot)
    folder = named(bases[True], tmp_path / "checkpoint-3", "example-org/tiny")
    code = f"""
from pathlib import Path
from premem_core.models.checkpoints import read_run
print(read_run(Path({str(folder)!r})).checkpoints[0].adapter_base)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HOME": str(tmp_path)},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == str(snapshot)


def test_a_base_that_is_given_is_used_in_the_place_of_the_one_that_is_named(bases, tmp_path):
    folder = named(bases[True], tmp_path / "checkpoint-3", "example-org/no-such-model")
    [checkpoint] = read_run(folder, base=bases[True]).checkpoints
    assert checkpoint.adapter_base == str(bases[True])
    with pytest.raises(CheckpointError, match=r"the base model .*nowhere is not a folder"):
        read_run(folder, base=tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["example-org/no-such-model", "not a/hub/name"])
def test_a_base_that_is_nowhere_is_refused_within_seconds(name, bases, tmp_path, monkeypatch):
    monkeypatch.setattr(base_models, "HUB_SECONDS", 0.5)
    base_models._on_hub.cache_clear()
    folder = named(bases[True], tmp_path / "checkpoint-3", name)
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=r"give its folder \(--base\)"):
        read_run(folder)
    assert time.monotonic() - started < 5


def test_a_hub_that_answers_for_a_base_is_left_to_give_it(bases, tmp_path, monkeypatch):
    monkeypatch.setattr(base_models, "_on_hub", lambda name: name == "example-org/tiny")
    folder = named(bases[True], tmp_path / "checkpoint-3", "example-org/tiny")
    assert read_run(folder).checkpoints[0].adapter_base == "example-org/tiny"
