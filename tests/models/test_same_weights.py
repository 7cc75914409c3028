"""Whether two folders hold the same weights, of which only blocks are read."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from premem_core.models.on_disk.same_weights import same_weights

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
TENSORS = {
    "model.embed_tokens.weight": np.random.default_rng(0).normal(size=(200, 64)).astype("f4"),
    "model.layers.0.input_layernorm.weight": np.ones(64, "f4"),
    "lm_head.weight": np.random.default_rng(1).normal(size=(200, 64)).astype("f4"),
}


def save(path, tensors, *, sharded=False):
    path.mkdir()
    (path / "config.json").write_text("{}")
    if not sharded:
        save_file(tensors, path / "model.safetensors")
        return path
    first = {name: t for name, t in tensors.items() if "head" not in name}
    shards = (first, {"lm_head.weight": tensors["lm_head.weight"]})
    for name, shard in zip(SHARDS, shards, strict=True):
        save_file(shard, path / name)
    weights = {tensor: SHARDS["head" in tensor] for tensor in tensors}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    return path


@pytest.fixture(params=[False, True], ids=["whole", "sharded"])
def sharded(request):
    return request.param


@pytest.fixture
def model(tmp_path, sharded):
    return save(tmp_path / "checkpoint-120", TENSORS, sharded=sharded)


def test_a_copy_holds_the_same_weights_also_with_another_configuration(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "config.json").write_text('{"use_cache": true}')
    assert same_weights(model, copy)


@pytest.mark.parametrize("name", TENSORS)
def test_one_tensor_that_differs_makes_other_weights(name, model, tmp_path, sharded):
    changed = TENSORS | {name: TENSORS[name] * np.float32(1.001)}
    assert not same_weights(model, save(tmp_path / "other", changed, sharded=sharded))


def test_rows_that_were_trained_at_the_end_of_an_embedding_are_seen(model, tmp_path, sharded):
    embedding = TENSORS["model.embed_tokens.weight"].copy()
    embedding[-1, 0] += 1
    changed = TENSORS | {"model.embed_tokens.weight": embedding}
    assert not same_weights(model, save(tmp_path / "other", changed, sharded=sharded))


@pytest.mark.parametrize("dtype", ["f2", "i4"])
def test_another_dtype_makes_other_weights(dtype, model, tmp_path, sharded):
    changed = {name: tensor.astype(dtype) for name, tensor in TENSORS.items()}
    assert not same_weights(model, save(tmp_path / "other", changed, sharded=sharded))


def test_weights_that_cannot_be_read_are_not_the_same(model, tmp_path, sharded):
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / (SHARDS[1] if sharded else "model.safetensors")).write_bytes(b"\xff" * 20)
    assert not same_weights(model, copy)
    assert not same_weights(copy, shutil.copytree(copy, tmp_path / "again"))
    for file in copy.iterdir():
        file.unlink()
    assert not same_weights(model, copy)


def test_only_some_of_a_large_file_is_read(tmp_path):
    tensors = {"model.embed_tokens.weight": np.zeros((4096, 64), "f4")}
    one = save(tmp_path / "one", tensors)
    tensors["model.embed_tokens.weight"][100] = 1  # between the blocks
    assert same_weights(one, save(tmp_path / "other", tensors))
