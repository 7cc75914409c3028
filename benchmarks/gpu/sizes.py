"""How much the parts measure, and the random Llamas that they measure it with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Checkpoint

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "data" / "demo"
PEAK = 12.0  # makes the random model's next token as certain as after fine-tuning: 0.7 nats


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a Llama."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def kv_numbers(self) -> int:
        """How many numbers the cache holds per token."""
        return 2 * self.layers * self.kv_heads * (self.width // self.heads)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        problems: of the demo.
        new_tokens: the most of a completion.
        wide: the random model that is compared with the CPU, and for which memory runs out.
        large: the random model whose tokens per second are measured.
        rows: the numbers of sequences that are decoded together, rising.
        prompt: tokens of a random prompt.
        free_for_targets, free_for_samples: the bytes that are left where memory must run out.
        copied: the bytes of the copy that measures the memory.
        product: the width of the matrices whose product is timed.
    """

    problems: int
    new_tokens: int
    wide: Shape
    large: Shape
    rows: tuple[int, ...]
    prompt: int
    free_for_targets: int
    free_for_samples: int
    copied: int
    product: int


LLAMA_1B = Shape(layers=16, width=2048, heads=32, kv_heads=8, vocabulary=128_256)
WIDE = Shape(layers=4, width=2048, heads=32, kv_heads=8, vocabulary=128_256)
TINY = Shape(layers=2, width=64, heads=4, kv_heads=2, vocabulary=512)
FULL = Sizes(64, 256, WIDE, LLAMA_1B, (64, 256, 1024, 2048), 100, 2**29, 2**30, 2**32, 8192)
TOY = Sizes(8, 32, TINY, TINY, (4, 16), 20, 0, 0, 2**26, 512)


def random_llama(
    shape: Shape, device: str, dtype: str, drawn_on: str = "cpu"
) -> TransformersBackend:
    """A random Llama without an end token, whose tokenizer has a text for every token.

    Args:
        drawn_on: the device that draws the weights; a GPU is faster, and draws other ones.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    with torch.device(drawn_on):
        model: Any = LlamaForCausalLM(config).eval()
    model.to(device)
    for parameter in model.parameters():  # not the rotary frequencies, as in a loaded model
        parameter.data = parameter.data.to(getattr(torch, dtype))
    model.model.norm.weight.data.fill_(PEAK)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = [*alphabet, *(f"Ġ{i}" for i in range(shape.vocabulary - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(texts)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return TransformersBackend.of_model(Checkpoint(Path("random"), 0), fast, model)


def random_prompts(shape: Shape, number: int, length: int) -> list[tuple[int, ...]]:
    """Token ids that are drawn uniformly."""
    drawn = np.random.default_rng(0).integers(0, shape.vocabulary, (number, length))
    return [tuple(row) for row in drawn.tolist()]
