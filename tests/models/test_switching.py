"""Whole models that replace each other in one backend, against a new backend for each."""

import gc
import json
import threading
import weakref

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from premem_core.errors import CheckpointError
from premem_core.models import loading, read_ahead
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Checkpoint, Sampling
from tests.helpers import texts, tiny

PROMPTS = [example.question for example in tiny.sums(0, 6)]
TARGETS = [example.solution for example in tiny.sums(0, 6)]
GREEDY = Sampling(samples=1, temperature=0, max_new_tokens=10)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several, which wait for each other, take ten times as long
    yield
    torch.set_num_threads(threads)


def results(backend):
    """All that is measured with a checkpoint, and what of it decides how."""
    return (
        texts.target_scores(backend, PROMPTS, TARGETS),
        texts.one_batch(backend, PROMPTS, GREEDY),
        texts.one_batch(backend, PROMPTS, Sampling(samples=2, max_new_tokens=10)),
        (backend.end_tokens, backend.positions, backend.rows, backend.tokens),
    )


def in_shards(folder, **settings):
    model = AutoModelForCausalLM.from_pretrained(tiny.save_base(folder, **settings))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def in_half_precision(folder, **settings):
    file = tiny.save_base(folder, **settings) / "model.safetensors"
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def with_another_end(folder, **settings):
    file = tiny.save_base(folder, **settings) / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [1, 7]}))
    return folder


def test_a_whole_model_replaces_another_as_if_it_were_loaded_alone(tmp_path):
    folders = [
        tiny.save_base(tmp_path / "tied", seed=1),
        tiny.save_base(tmp_path / "of the same kind", seed=2),
        tiny.save_base(tmp_path / "untied", seed=3, tie_word_embeddings=False),
        in_shards(tmp_path / "in shards", seed=4, tie_word_embeddings=False),
        in_half_precision(tmp_path / "in half precision", seed=5),
        with_another_end(tmp_path / "with another end", seed=6),
        tiny.save_base(tmp_path / "larger", seed=7, num_hidden_layers=3, hidden_size=96),
        tiny.save_base(tmp_path / "shorter", seed=8, bos=False, max_position_embeddings=128),
    ]
    backend, seen = TransformersBackend(Checkpoint(folders[-1], 0), device="cpu"), []
    for folder in folders:
        backend.switch(Checkpoint(folder, 0))
        found = results(backend)
        assert found == results(TransformersBackend(Checkpoint(folder, 0), device="cpu"))
        seen.append(found[0][0].nll)
    assert len(set(seen)) == len(folders)


def test_the_former_model_is_freed_before_the_next_one_is_loaded(tmp_path, monkeypatch):
    one, two = (Checkpoint(tiny.save_base(tmp_path / str(s), seed=s), 0) for s in (1, 2))
    backend = TransformersBackend(one, device="cpu")
    results(backend)
    former, load = weakref.ref(backend.model), loading.load_model
    there = []

    def watched(*arguments, **options):
        there.append(former())
        return load(*arguments, **options)

    monkeypatch.setattr(loading, "load_model", watched)
    gc.disable()  # so that only the backend itself collects what refers to itself
    try:
        backend.switch(two)
    finally:
        gc.enable()
    assert there == [None]


def test_what_cannot_be_loaded_is_refused_as_by_a_new_backend_and_the_next_one_loads(tmp_path):
    whole = Checkpoint(tiny.save_base(tmp_path / "whole"), 0)
    lacking, cut = (tiny.save_base(tmp_path / name, seed=1) for name in ("lacking", "cut"))
    tensors = load_file(lacking / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, lacking / "model.safetensors", metadata={"format": "pt"})
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[:-100])
    backend = TransformersBackend(whole, device="cpu")
    expected = results(backend)
    for folder in (lacking, cut, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError) as new:
            TransformersBackend(Checkpoint(folder, 0), device="cpu")
        with pytest.raises(CheckpointError) as switched:
            backend.switch(Checkpoint(folder, 0))
        assert str(switched.value) == str(new.value)
        backend.switch(whole)
        assert results(backend) == expected


def bytes_read_ahead(folder):
    before = psutil.Process().io_counters().read_chars
    thread = read_ahead.read_ahead(Checkpoint(folder, 0))
    thread.join(10)
    assert not thread.is_alive()
    return psutil.Process().io_counters().read_chars - before


def test_all_files_of_a_checkpoint_are_read_ahead_where_there_is_memory_for_them(
    tmp_path, monkeypatch
):
    folder = in_shards(tmp_path / "there")
    size = sum(file.stat().st_size for file in folder.glob("model-*.safetensors"))
    assert bytes_read_ahead(folder) > size
    monkeypatch.setattr(read_ahead, "SHARE", 1e-9)
    assert bytes_read_ahead(folder) < size


def test_what_cannot_be_read_ahead_is_passed_over(tmp_path, monkeypatch):
    cut, raised = in_shards(tmp_path / "cut"), list[threading.ExceptHookArgs]()
    next(cut.glob("model-*.safetensors")).unlink()
    monkeypatch.setattr(threading, "excepthook", raised.append)
    bytes_read_ahead(cut)
    bytes_read_ahead(tmp_path / "nowhere")
    monkeypatch.setattr(read_ahead, "weight_files", None)
    bytes_read_ahead(cut)
    assert [error.exc_type for error in raised] == [TypeError]
