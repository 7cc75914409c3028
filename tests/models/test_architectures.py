"""Families of models: the backend's NLL and greedy text beside plain computations.

Weights are random and the models tiny, but the attention, the masks, the caches and the caps are
the families' own. `pytest tests/models/test_architectures.py -s` prints the table.
"""

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Checkpoint, Sampling
from tests.helpers import texts, tiny

SIZE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GROUPED = SIZE | {"num_key_value_heads": 2}
HEADS = GROUPED | {"head_dim": 8}
# With windows much shorter than the texts below.
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Mistral": GROUPED | {"sliding_window": 16},
    "Qwen2": GROUPED,
    "Qwen3": HEADS,
    "Gemma2": HEADS
    | {
        "sliding_window": 16,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
        "query_pre_attn_scalar": 8,
    },
    "Gemma3": HEADS | {"sliding_window": 16, "sliding_window_pattern": 2},
    "Phi3": GROUPED | {"original_max_position_embeddings": 256},
    "GPTNeoX": SIZE,
    "GPT2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "n_inner": 48},
    "Olmo2": GROUPED,
    "Qwen3Moe": HEADS | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
}
PROMPTS = [
    "Q: 3 + 4?\nA:",
    "Anna has 12 apples and gives 5 of them to each of her two friends. How many are left? A:",
    "x",
]
TARGETS = [
    " 3 + 4 = 7\n#### 7",
    " 12 - 5 - 5 = 2, so she has 2 of her 12 apples left.\n#### 2",
    " y",
]
NEW_TOKENS = 40  # more than a window
TABLE: list[str] = []


def make(family, folder):
    """A model of a family with random weights; the logits of some tokens are far from equal."""
    torch.manual_seed(0)
    kind = {"Gemma3": "Gemma3Text"}.get(family, family)
    config = getattr(transformers, f"{kind}Config")(
        **FAMILIES[family],
        vocab_size=258,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.3,
        tie_word_embeddings=False,  # tied, random models repeat their last token
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny.byte_tokenizer(bos=True).save_pretrained(folder)
    return Checkpoint(folder, 0)


def nll_of(backend, pairs):
    """The backend's NLLs, in one batch."""
    return [score.nll for score in texts.target_scores(backend, *zip(*pairs, strict=True))]


def greedy_of(backend, prompts, stop=()):
    """The backend's greedy completions, in one batch."""
    sampling = Sampling(samples=1, temperature=0, max_new_tokens=NEW_TOKENS)
    return [c.text for [c] in texts.one_batch(backend, prompts, sampling, stop)]


def plain_nll(model, tokenizer, prompt, target):
    """One forward pass over one text, and a softmax in float64."""
    ids = tokenizer(prompt + target, return_tensors="pt")["input_ids"]
    first = len(tokenizer(prompt)["input_ids"])  # every byte is a token
    with torch.inference_mode():
        logs = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
    return -float(logs[first - 1 : -1].gather(1, ids[0, first:, None]).mean())


def plain_greedy(model, tokenizer, prompt):
    """What transformers itself generates."""
    inputs = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=1)
    ids = ids[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def relative(values, expected):
    return max(abs(a - b) / abs(b) for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_scored_and_sampled_as_by_plain_computations(family, tmp_path):
    checkpoint = make(family, tmp_path)
    backend = TransformersBackend(checkpoint, device="cpu", dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    pairs = list(zip(PROMPTS, TARGETS, strict=True))

    together = nll_of(backend, pairs)
    alone = [nll_of(backend, [pair])[0] for pair in pairs]
    greedy = greedy_of(backend, PROMPTS)
    greedy_alone = [greedy_of(backend, [prompt])[0] for prompt in PROMPTS]
    plain = [plain_nll(model, backend.tokenizer, *pair) for pair in pairs]
    generated = [plain_greedy(model, backend.tokenizer, prompt) for prompt in PROMPTS]

    agreeing = sum(a == b for a, b in zip(greedy, generated, strict=True))
    TABLE.append(
        f"{family:10} {relative(alone, plain):12.1e} {agreeing}/{len(greedy):<14} "
        f"{relative(together, alone):12.1e}"
    )
    assert relative(alone, plain) < 1e-4
    assert relative(together, alone) < 1e-4
    assert greedy == greedy_alone == generated
    # Rows that end early leave the batch, and their caches with them.
    stop = next(letter for text in greedy for letter in text[5:] if letter.isascii())
    assert greedy_of(backend, PROMPTS, [stop]) == [text.partition(stop)[0] for text in greedy]


@pytest.fixture(autouse=True, scope="module")
def table():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several, which wait for each other, take ten times as long
    yield
    torch.set_num_threads(threads)
    print("\nfamily      largest NLL difference  greedy agreement  batched against alone")
    print("\n".join(TABLE))
