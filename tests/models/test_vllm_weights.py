"""Which whole models may replace each other in a vLLM engine; `tests/vllm` replaces them."""

import json

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from premem_core.errors import EngineError
from premem_core.models.vllm_weights import check_reloadable
from tests.helpers import tiny


def change(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def check(loaded, following):
    check_reloadable(loaded, AutoConfig.from_pretrained(loaded), following)


def add_output_layer(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("tied", [True, False])
def test_checkpoints_of_one_run_may_replace_each_other(tied, tmp_path):
    one, two = (tiny.save_base(tmp_path / str(s), seed=s, tie_word_embeddings=tied) for s in (1, 2))
    change(two / "config.json", transformers_version="4.0.0", use_cache=False)
    (two / "trainer_state.json").write_text("{}")
    check(one, two)


DIFFERENCES = {
    "layers": lambda folder: tiny.save_base(folder, num_hidden_layers=1),
    "rope": lambda folder: change(
        folder / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 5e5}
    ),
    "dtype": lambda folder: change(folder / "config.json", dtype="bfloat16"),
    "ends": lambda folder: change(folder / "generation_config.json", eos_token_id=[1, 7]),
    "no generation config": lambda folder: (folder / "generation_config.json").unlink(),
    "tokenizer": lambda folder: tiny.byte_tokenizer(bos=False).save_pretrained(folder),
    "one more weight": add_output_layer,
    "broken": lambda folder: (folder / "model.safetensors").write_bytes(b"broken"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_checkpoint_that_differs_in_more_than_values_needs_a_new_engine(difference, tmp_path):
    one, two = (tiny.save_base(tmp_path / str(s), seed=s) for s in (1, 2))
    DIFFERENCES[difference](two)
    with pytest.raises(EngineError, match="needs a new engine: it differs from"):
        check(one, two)


def test_what_vllm_is_not_known_to_replace_exactly_needs_a_new_engine(tmp_path):
    one, two = (tiny.save_base(tmp_path / str(s), seed=s) for s in (1, 2))
    for folder in (one, two):
        add_output_layer(folder)
    with pytest.raises(EngineError, match="an output layer although"):
        check(one, two)
    config = AutoConfig.from_pretrained(one)
    config.quantization_config = {"quant_method": "fp8"}
    with pytest.raises(EngineError, match="its weights are quantized"):
        check_reloadable(one, config, two)
    config.architectures = ["Qwen3MoeForCausalLM"]
    with pytest.raises(EngineError, match=r"not known to replace the weights of \['Qwen3Moe"):
        check_reloadable(one, config, two)
