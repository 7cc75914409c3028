"""Loading models and adapters: from which folders, and what is refused."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from premem_core.errors import CheckpointError
from premem_core.models import loading
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Checkpoint
from tests.helpers import tiny


def test_a_folder_that_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        TransformersBackend(Checkpoint(tmp_path, 0))


def test_missing_weights_are_refused_and_not_made_up(tmp_path):
    folder = tiny.save_base(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weights .*layers\.1\.mlp\.up_proj"):
        TransformersBackend(Checkpoint(folder, 0))


def test_a_model_is_loaded_with_its_tokenizer_and_an_adapter_over_its_base(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    tokenizer, model = loading.load_model(base, torch.float32)
    assert tokenizer.decode(tokenizer("1+1?")["input_ids"], skip_special_tokens=True) == "1+1?"
    ids = torch.tensor([[2, 3, 4]])
    untrained = tiny.save_adapter(base, tmp_path / "untrained")
    _, adapted = loading.load_model(untrained.path, torch.float32, adapter_base=str(base))
    torch.testing.assert_close(adapted(ids).logits, model(ids).logits)
    changed = tiny.save_adapter(base, tmp_path / "changed", seed=1)
    _, other = loading.load_model(changed.path, torch.float32, adapter_base=str(base))
    assert not torch.allclose(other(ids).logits, model(ids).logits)


def test_on_the_meta_device_only_headers_are_read(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    _, model = loading.load_model(base, torch.float32, device="meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_an_adapters_tokenizer_is_its_own_where_it_has_one_and_its_bases_elsewhere(tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    assert loading.tokenizer_folder(adapter, "base") == "base"
    (adapter / "tokenizer_config.json").touch()  # names tokens, but holds none
    assert loading.tokenizer_folder(adapter, "base") == "base"
    (adapter / "tokenizer.json").touch()
    assert loading.tokenizer_folder(adapter, "base") == str(adapter)
    assert loading.tokenizer_folder(tmp_path, None) == str(tmp_path)


def test_a_tokenizer_without_character_offsets_is_refused(tmp_path, monkeypatch):
    base = tiny.save_base(tmp_path / "base")
    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(CheckpointError, match="has a slow tokenizer"):
        loading.load_tokenizer(base)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("[enforce fail] not enough memory: you tried to allocate"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_running_out_of_memory_is_told_from_other_errors(error, is_memory, tmp_path):
    assert loading.is_out_of_memory(error) == is_memory
    expected, sentence = (
        (MemoryError, "there is no memory for the model")
        if is_memory
        else (CheckpointError, f"cannot be loaded \\({error}\\); expected a causal")
    )
    with pytest.raises(expected, match=sentence), loading.as_checkpoint_error(tmp_path):
        raise error


def test_an_error_without_words_is_named_by_its_type(tmp_path):
    with (
        pytest.raises(CheckpointError, match=r"cannot be loaded \(KeyError\)"),
        loading.as_checkpoint_error(tmp_path),
    ):
        raise KeyError


def test_a_reason_that_stands_on_the_second_line_is_kept(tmp_path):
    with (
        pytest.raises(CheckpointError, match=r"loaded \(Class error for x: ValueError: 3"),
        loading.as_checkpoint_error(tmp_path),
    ):
        raise ValueError("Class error for x:\n    ValueError: 3 is odd.\nmore")


def test_only_adapters_over_one_base_take_each_others_place(tmp_path):
    one, two, other = (
        Checkpoint(tmp_path / name, 0, adapter_base=base)
        for name, base in (("one", "a"), ("two", "a"), ("other", "b"))
    )
    loading.check_same_base(one, two)
    for loaded, following in ((one, other), (Checkpoint(tmp_path, 0), one)):
        with pytest.raises(CheckpointError, match="not adapters over the same model"):
            loading.check_same_base(loaded, following)
