"""Distance from initialization against whole models in memory."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from premem_core.errors import CheckpointError, UsageError
from premem_core.models import weight_distance
from premem_core.records import Checkpoint
from tests.helpers import tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("tuned"), seed=1)


def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)


def plain_distance(one, other) -> float:
    initial = dict(other.named_parameters())
    differences = [
        (parameter - initial[name]).detach().numpy().ravel()
        for name, parameter in one.named_parameters()
        if name not in ("model.embed_tokens.weight", "lm_head.weight")
    ]
    return float(np.linalg.norm(np.concatenate(differences)))


def changed(folder: Path, copy: Path, **tensors) -> Path:
    """A copy of a model with other tensors in the place of its own."""
    shutil.copytree(folder, copy)
    file = copy / "model.safetensors"
    save_file({**load_file(file), **tensors}, file, metadata={"format": "pt"})
    return copy


def test_distance_is_that_of_two_whole_models(base, tuned, monkeypatch):
    expected = plain_distance(load(tuned), load(base))
    assert weight_distance.distance(Checkpoint(tuned, 0), base) == pytest.approx(
        expected, rel=1e-12
    )
    monkeypatch.setattr(weight_distance, "PART", 1000)
    assert weight_distance.distance(Checkpoint(tuned, 0), base) == pytest.approx(
        expected, rel=1e-12
    )


def test_shards_and_another_precision_are_read_as_they_are(base, tuned, tmp_path):
    model = load(tuned).to(torch.bfloat16)
    shutil.copytree(tuned, tmp_path / "c", ignore=shutil.ignore_patterns("model.safetensors"))
    model.save_pretrained(tmp_path / "c", max_shard_size="50KB")
    assert len(list((tmp_path / "c").glob("model-*.safetensors"))) > 1
    expected = plain_distance(model.double(), load(base))
    found = weight_distance.distance(Checkpoint(tmp_path / "c", 0), base)
    assert found == pytest.approx(expected, rel=1e-12)


def test_embeddings_and_output_head_do_not_count(base, tmp_path):
    untied = {"lm_head.weight": torch.ones(258, 64)}
    one = changed(base, tmp_path / "one", **untied)
    moved = {name: torch.full((258, 64), 3.0) for name in (*untied, "model.embed_tokens.weight")}
    other = changed(base, tmp_path / "other", **moved)
    assert weight_distance.distance(Checkpoint(other, 0), one) == 0


@pytest.mark.filterwarnings("ignore::UserWarning:peft")  # about adapted embeddings that are tied
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True, "target_modules": "all-linear"},
        {"r": 3, "rank_pattern": {"v_proj": 1}},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"trainable_token_indices": [3]},
    ],
    ids=lambda config: ", ".join(config) or "plain",
)
def test_an_adapters_distance_is_that_of_its_merged_model(base, tmp_path, config):
    checkpoint = tiny.save_adapter(base, tmp_path / "adapter", seed=3, **config)
    merged = PeftModel.from_pretrained(load(base), checkpoint.path).merge_and_unload()
    expected = plain_distance(merged, load(base))
    assert expected > 1
    assert weight_distance.distance(checkpoint) == pytest.approx(expected, rel=1e-6)


def test_an_untrained_adapter_has_moved_nothing(base, tmp_path):
    assert weight_distance.distance(tiny.save_adapter(base, tmp_path / "adapter")) == 0


def test_what_is_not_the_same_model_is_refused(base, tmp_path):
    short = changed(
        base, tmp_path / "short", **{"model.layers.1.mlp.up_proj.weight": torch.ones(3, 64)}
    )
    with pytest.raises(CheckpointError, match=r"up_proj.weight has the shapes \(3, 64\) and"):
        weight_distance.distance(Checkpoint(short, 0), base)
    deep = changed(base, tmp_path / "deep", **{"model.layers.2.norm.weight": torch.ones(3)})
    with pytest.raises(CheckpointError, match=r"only one of them has model.layers.2.norm.weight"):
        weight_distance.distance(Checkpoint(base, 0), deep)
    with pytest.raises(UsageError, match="give its folder with --base"):
        weight_distance.distance(Checkpoint(base, 0))


def test_a_pickle_is_refused(base, tuned, tmp_path):
    pickled = shutil.copytree(tuned, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="a pickle, which Premem never opens"):
        weight_distance.distance(Checkpoint(pickled, 0), base)
    with pytest.raises(CheckpointError, match="a pickle, which Premem never opens"):
        weight_distance.distance(Checkpoint(tuned, 0), pickled)
    adapter = tiny.save_adapter(base, tmp_path / "adapter")
    (adapter.path / "adapter_model.safetensors").rename(adapter.path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        weight_distance.distance(adapter)


def test_an_adapter_that_is_more_than_lora_is_refused(base, tmp_path):
    dora = tiny.save_adapter(base, tmp_path / "dora", seed=3, use_dora=True)
    with pytest.raises(
        CheckpointError, match=r"not a plain LoRA adapter \(its .* use_dora to True\)"
    ):
        weight_distance.distance(dora)
    whole = tiny.save_adapter(base, tmp_path / "whole", seed=3, modules_to_save=["down_proj"])
    with pytest.raises(CheckpointError, match="more than pairs of lora_A and lora_B"):
        weight_distance.distance(whole)
    moved = tiny.save_adapter(base, tmp_path / "moved", init_lora_weights="pissa")
    with pytest.raises(CheckpointError, match="sets init_lora_weights to 'pissa'"):
        weight_distance.distance(moved)
    config = moved.path / "adapter_config.json"
    settings = {"init_lora_weights": True, "target_parameters": ["mlp.experts"]}
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    with pytest.raises(CheckpointError, match="sets target_parameters to"):
        weight_distance.distance(moved)
