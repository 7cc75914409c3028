"""The real engine on tiny models: adapters, tokenizers that append EOS, files that are wrong."""

import json

import pytest
from safetensors.torch import load_file, save_file

from premem_core.errors import CheckpointError, DataError
from premem_core.models.backend import Resources
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.models.vllm_backend import VLLMBackend
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint, Sampling
from tests.helpers import texts, tiny

pytestmark = pytest.mark.vllm

PROMPTS = [PromptTemplate().fill(e)[0] for e in tiny.sums(0, 8)]
TARGETS = [PromptTemplate().fill(e)[1] for e in tiny.sums(0, 8)]
GREEDY = Sampling(samples=1, temperature=0, max_new_tokens=12)


def greedy(backend):
    completions = texts.one_batch(backend, PROMPTS, GREEDY, seeds=[0] * len(PROMPTS))
    return [(c.text, c.tokens, c.finished) for [c] in completions]


def nlls(backend):
    return [score.nll for score in texts.target_scores(backend, PROMPTS, TARGETS)]


def broken(folder, change):
    file = next(folder.glob("*.safetensors"))
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def test_switching_adapters_is_loading_the_other_one(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    adapters = [tiny.save_adapter(base, tmp_path / f"adapter-{seed}", seed) for seed in range(3)]
    lacking = tiny.save_adapter(base, tmp_path / "lacking", 4)
    broken(lacking.path, lambda tensors: tensors.pop(sorted(tensors)[0]))
    diverged = tiny.save_adapter(base, tmp_path / "diverged", 5)
    broken(diverged.path, lambda tensors: [t.fill_(float("nan")) for t in tensors.values()])
    larger = tiny.save_adapter(base, tmp_path / "larger", 6, r=16)
    others = tiny.save_adapter(base, tmp_path / "others", 7, target_modules=["o_proj"])
    references = [TransformersBackend(checkpoint, device="cpu") for checkpoint in adapters]
    expected = [nlls(reference) for reference in references]
    assert abs(expected[0][0] - expected[1][0]) > 0.01
    backend = VLLMBackend(adapters[0], Resources(batch_divisor=4))
    try:
        assert nlls(backend) == pytest.approx(expected[0], rel=1e-4)
        for i in (1, 2, 0):
            backend.switch(adapters[i])
            assert nlls(backend) == pytest.approx(expected[i], rel=1e-4)
            assert greedy(backend) == greedy(references[i])
            assert len(backend.engine.list_loras()) == 1
        for refused, words in (
            (lacking, "lacks 1 weights"),
            (diverged, "not finite"),
            (larger, "larger rank"),
            (others, "other layers"),
            (Checkpoint(tmp_path / "none", 0, adapter_base=str(base)), "cannot be loaded"),
            (Checkpoint(base, 0), "same model"),
        ):
            with pytest.raises(CheckpointError, match=words):
                backend.switch(refused)
            assert nlls(backend) == pytest.approx(expected[0], rel=1e-4)
    finally:
        backend.close()


def test_an_adapter_of_the_output_layer_is_refused(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    adapter = tiny.save_adapter(base, tmp_path / "adapter", 0, target_modules=["lm_head"])
    with pytest.raises(CheckpointError, match="use the hf backend"):
        VLLMBackend(adapter)


def test_a_tokenizer_that_appends_eos_changes_nothing(tmp_path):
    from tokenizers import processors

    folder = tiny.save_base(tmp_path / "model")
    tokenizer = tiny.byte_tokenizer(bos=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save_pretrained(folder)
    reference, backend = (
        TransformersBackend(Checkpoint(folder, 0)),
        VLLMBackend(Checkpoint(folder, 0)),
    )
    try:
        assert tokenizer("x")["input_ids"][-1] == 1
        assert greedy(backend) == greedy(reference)
        assert nlls(backend) == pytest.approx(nlls(reference), rel=1e-4)
        [[long]] = texts.one_batch(backend, ["x" * 250], Sampling(1))
        assert (long.tokens, long.finished) == (5, False)
        with pytest.raises(DataError, match="but the model takes 256"):
            texts.one_batch(backend, ["x" * 256], Sampling(1))
    finally:
        backend.close()


def test_files_that_are_wrong_are_one_sentence(tmp_path):
    lacking, diverged = (tiny.save_base(tmp_path / name) for name in ("lacking", "diverged"))
    broken(lacking, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    broken(diverged, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    no_weights = tiny.save_base(tmp_path / "no weights")
    (no_weights / "model.safetensors").unlink()
    for folder, words in (
        (lacking, "lacks 1 weights"),
        (diverged, "not finite"),
        (no_weights, "cannot be loaded"),
        (tmp_path, "cannot be loaded"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            VLLMBackend(Checkpoint(folder, 0))
        assert "\n" not in str(caught.value)


def test_the_class_that_is_named_beside_the_tokenizer_changes_nothing(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    expected = TransformersBackend(Checkpoint(base, 0), device="cpu")
    file = base / "tokenizer_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "LlamaTokenizer"})
    )
    backend = VLLMBackend(Checkpoint(base, 0), Resources(batch_divisor=4))
    try:
        assert nlls(backend) == pytest.approx(nlls(expected), rel=1e-4)
        assert greedy(backend) == greedy(expected)
    finally:
        backend.close()


def test_an_adapter_that_holds_more_than_lora_is_refused_in_words(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    adapter = tiny.save_adapter(base, tmp_path / "adapter", 1, modules_to_save=["lm_head"])
    with pytest.raises(CheckpointError, match=r"more than plain LoRA \(modules_to_save\)"):
        VLLMBackend(adapter)
