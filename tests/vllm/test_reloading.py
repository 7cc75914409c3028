"""The real engine with replaced weights: every result is that of a new engine, bit for bit."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from premem_core.errors import CheckpointError, EngineError
from premem_core.models.backend import Resources
from premem_core.models.checkpoints import read_run
from premem_core.models.vllm_backend import VLLMBackend
from premem_core.models.vllm_weights import RELOADED
from premem_core.records import Checkpoint, Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.executors.local import LocalExecutor
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.store.scores import read_scores
from tests.helpers import texts, tiny

pytestmark = pytest.mark.vllm

SIZE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}
HEADS = SIZE | {"head_dim": 32}
FAMILIES = {
    "Llama": SIZE,
    "Mistral": SIZE | {"sliding_window": 16},
    "Qwen2": SIZE,
    "Qwen3": HEADS,
    "Gemma2": HEADS | {"sliding_window": 16, "query_pre_attn_scalar": 8},
    "Gemma3": HEADS | {"sliding_window": 16, "sliding_window_pattern": 2},
    "Phi3": SIZE | {"original_max_position_embeddings": 256},
    "GPT2": {"n_embd": 64, "n_layer": 3, "n_head": 2, "n_positions": 256, "n_inner": 96},
}
ALWAYS_TIED = {"Gemma2"}  # in vLLM
KINDS = [(f, tied) for f in FAMILIES for tied in (True, False) if tied or f not in ALWAYS_TIED]
PROMPTS = [
    "Q: 3 + 4?\nA:",
    "Anna has 12 apples and gives 5 of them to each of her two friends. How many are left? A:",
    "x",
]
TARGETS = [" 3 + 4 = 7\n#### 7", " 12 - 5 - 5 = 2, so she has 2 of her 12 apples left.", " y"]
FEW = Resources(batch_divisor=4)


def make(folder, family, seed, **settings):
    torch.manual_seed(seed)
    kind = {"Gemma3": "Gemma3Text"}.get(family, family)
    config = getattr(transformers, f"{kind}Config")(
        **(FAMILIES[family] | settings),
        vocab_size=258, bos_token_id=0, eos_token_id=1, pad_token_id=1, initializer_range=0.1,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder, max_shard_size="100KB" if seed % 2 else "1GB")
    tiny.byte_tokenizer(bos=True).save_pretrained(folder)
    return Checkpoint(folder, 0)


def results(backend):
    scores = texts.target_scores(backend, PROMPTS, TARGETS)
    greedy = texts.one_batch(backend, PROMPTS, Sampling(1, temperature=0, max_new_tokens=30))
    sampled = texts.one_batch(backend, PROMPTS, Sampling(samples=3, max_new_tokens=30))
    return scores, greedy, sampled, backend.end_tokens, backend.positions


def of_a_new_engine(checkpoint):
    backend = VLLMBackend(checkpoint, FEW)
    try:
        return results(backend)
    finally:
        backend.close()


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_replaced_weights_give_every_result_of_a_new_engine(family, tied, tmp_path):
    one, two = (
        make(tmp_path / str(seed), family, seed, tie_word_embeddings=tied) for seed in (0, 1)
    )
    assert json.loads((one.path / "config.json").read_text())["architectures"][0] in RELOADED
    expected = of_a_new_engine(one)
    backend = VLLMBackend(two, FEW)
    try:
        before = results(backend)
        assert all(a != b for a, b in zip(before[:3], expected[:3], strict=True))
        backend.switch(one)
        assert results(backend) == expected
        backend.switch(two)
        assert results(backend) == before
    finally:
        backend.close()


def test_every_architecture_whose_weights_are_replaced_is_tested():
    assert len(RELOADED) == len(FAMILIES)


def test_weights_that_are_wrong_are_refused_as_by_a_new_engine_or_left_to_one(tmp_path):
    first = make(tmp_path / "first", "Llama", 0)
    lacking, diverged = (make(tmp_path / name, "Llama", 2) for name in ("lacking", "diverged"))
    for checkpoint, damage in (
        (lacking, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight")),
        (diverged, lambda tensors: tensors["model.norm.weight"].fill_(float("nan"))),
    ):
        tensors = load_file(checkpoint.path / "model.safetensors")
        damage(tensors)
        save_file(tensors, checkpoint.path / "model.safetensors", metadata={"format": "pt"})
    backend = VLLMBackend(first, FEW)
    try:
        with pytest.raises(EngineError, match="needs a new engine: it differs from"):
            backend.switch(lacking)
        with pytest.raises(CheckpointError, match="not finite, because its training diverged"):
            backend.switch(diverged)
    finally:
        backend.close()


def test_a_job_starts_an_engine_only_for_a_checkpoint_that_needs_one(tmp_path, monkeypatch):
    run, started, start = tmp_path / "run", list[Resources](), LocalExecutor._start
    for step, settings in ((1, {}), (2, {}), (3, {"num_hidden_layers": 2})):
        make(run / f"checkpoint-{step}", "Llama", step, **settings)
    monkeypatch.setattr(
        LocalExecutor, "_start", lambda self, r: started.append(r) or start(self, r)
    )
    spec = ScoringSpec(
        "sums", "gsm8k", backend="vllm", sampling=Sampling(samples=2, max_new_tokens=8)
    )
    store = Store(tmp_path / "store")
    jobs.create_job(store, spec, read_run(run), "sums", tiny.sums(0, 4), ())
    end = job_process.run_job(store, "sums")
    assert (end.state, end.message) == ("done", "")
    assert len(started) == 2
    scores = read_scores(store, "sums")
    assert set(scores["samples"]) == {2}
    assert scores["nll"].nunique() == 3 * 4
